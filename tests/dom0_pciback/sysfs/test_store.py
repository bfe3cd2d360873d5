"""dom0_pciback.sysfs: writes, with the errno that the kernel gives (linux-aer.md 6.4, 11)."""

from __future__ import annotations

from errno import EACCES, EBUSY, EINVAL, EIO, ENODEV, ENOENT, ENOTTY, ERANGE

import pytest

from dom0_pciback.pci.driver import PciDriver
from dom0_pciback.sysfs.kstrto import INT, ULONG, StoreError, kstrto
from dom0_pciback.sysfs.sysfs import Sysfs
from protocol.ids import Sbdf
from protocol.layout_header import HEADER
from tests.dom0_pciback.aer.rig import Rig

PORT, CARD = "0000:00:01.0", "0000:01:00.0"
TWO_0, TWO_1, UPSTREAM = "0000:02:00.0", "0000:02:00.1", "0000:03:00.0"
INTERVAL, BURST = "aer/correctable_ratelimit_interval_ms", "aer/nonfatal_ratelimit_burst"


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def sysfs(rig: Rig) -> Sysfs:
    return Sysfs(rig.core, rig.aer)


class Shell:
    """``echo TEXT > FILE`` and ``cat FILE``."""

    def __init__(self, rig: Rig, sysfs: Sysfs) -> None:
        self.rig = rig
        self.sysfs = sysfs

    def echo(self, text: str, path: str, offset: int = 0) -> int:
        """0 or a negative errno."""
        result: int = self.rig.call(self.sysfs.write(path, text.encode("latin-1"), offset))
        return min(result, 0)

    def device(self, text: str, bdf: str, name: str) -> int:
        return self.echo(text, f"bus/pci/devices/{bdf}/{name}")

    def cat(self, bdf: str, name: str) -> str:
        return self.sysfs.read(f"bus/pci/devices/{bdf}/{name}").decode()


@pytest.fixture
def shell(rig: Rig, sysfs: Sysfs) -> Shell:
    return Shell(rig, sysfs)


# -- rate limits ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("5000\n", "1250\n"), ("3000", "750\n"), ("1000\n", "250\n"), ("250\n", "63\n"), ("1", "1\n"), ("-1\n", "0\n"),
        ("0", "0\n"), ("0x10\n", "4\n"), ("0X10", "4\n"), ("010\n", "2\n"), ("+40", "10\n"), ("-2147483648", "0\n"),
    ],
)  # fmt: skip
def test_6_4_interval_is_written_in_ms_and_read_in_jiffies(shell: Shell, written: str, shown: str) -> None:
    assert shell.device(written, CARD, INTERVAL) == 0
    assert shell.cat(CARD, INTERVAL) == shown
    assert shell.cat(TWO_0, INTERVAL) == "1250\n", "the others keep theirs"


@pytest.mark.parametrize(("written", "shown"), [("3\n", "3\n"), ("-7", "-7\n"), ("0", "0\n"), ("0x1f\n", "31\n")])
def test_6_4_burst_is_stored_as_it_is(shell: Shell, written: str, shown: str) -> None:
    assert shell.device(written, CARD, BURST) == 0
    assert shell.cat(CARD, BURST) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "abc",
        "5 ",
        " 5",
        "5x",
        "0x",
        "08",
        "1.5",
        "--1",
        "-+1",
        "1\n\n",
        "2147483648",
        "-2147483649",
        "0xg",
        "é",
    ],
)
@pytest.mark.parametrize("name", [INTERVAL, BURST])
def test_6_4_what_is_no_number_is_refused(shell: Shell, name: str, text: str) -> None:
    before = shell.cat(CARD, name)
    assert shell.device(text, CARD, name) == -EINVAL
    assert shell.cat(CARD, name) == before


def test_numbers_as_kstrto_reads_them() -> None:
    assert kstrto(b"18446744073709551615\n", ULONG) == (1 << 64) - 1
    for text, limits, errno in (
        (b"-1", ULONG, EINVAL),
        (b"18446744073709551616", ULONG, ERANGE),
        (b"1e9", INT, EINVAL),
    ):
        with pytest.raises(StoreError) as refused:
            kstrto(text, limits)
        assert refused.value.errno == errno


def test_a_new_interval_is_in_force(rig: Rig, shell: Shell) -> None:
    assert shell.device("1", CARD, "aer/correctable_ratelimit_burst") == 0
    for _ in range(2):
        rig.hierarchy.inject(rig.dev(CARD).sbdf, 1, 0)
        rig.settle()
    assert sum("RxErr" in line for line in rig.log()) == 1


# -- reset ---------------------------------------------------------------------------------------
def test_reset_resets_the_function_and_restores_it(rig: Rig, shell: Shell) -> None:
    command = rig.core.read(rig.dev(CARD), HEADER.COMMAND, 2)
    assert shell.device("1\n", CARD, "reset") == 0
    assert ("flr", 0) in [record[4:6] for record in rig.journal.records if record[2] == "pci.reset"]
    assert rig.core.read(rig.dev(CARD), HEADER.COMMAND, 2) == command


@pytest.mark.parametrize("text", ["0", "2", "", "x", "-1", "0x2"])
def test_reset_needs_a_one(rig: Rig, shell: Shell, text: str) -> None:
    assert shell.device(text, CARD, "reset") == -EINVAL
    assert not [record for record in rig.journal.records if record[2] == "pci.reset"]


def test_a_bus_reset_that_was_promised_at_enumeration_is_refused(shell: Shell) -> None:
    """A switch port has ``reset_method`` bus, but there are functions below it by now."""
    assert shell.cat(UPSTREAM, "reset_method") == "bus\n"
    assert shell.device("1", UPSTREAM, "reset") == -ENOTTY


@pytest.mark.parametrize(
    ("text", "shown", "method"),
    [("bus\n", "bus\n", "bus"), ("bus flr", "bus flr\n", "bus"), ("flr  bus\n", "flr bus\n", "flr"),
     ("default\n", "flr bus\n", "flr")],
)  # fmt: skip
def test_reset_method_decides_which_reset_it_is(rig: Rig, shell: Shell, text: str, shown: str, method: str) -> None:
    assert shell.device(text, CARD, "reset_method") == 0
    assert shell.cat(CARD, "reset_method") == shown
    assert shell.device("1", CARD, "reset") == 0
    assert [record[4] for record in rig.journal.records if record[2] == "pci.reset"] == [method]


def test_all_methods_disabled(rig: Rig, shell: Shell) -> None:
    assert shell.device("\n", CARD, "reset_method") == 0
    assert shell.cat(CARD, "reset_method") == ""
    assert shell.device("1", CARD, "reset") == -ENOTTY
    assert "<4> pci 0000:01:00.0: All device reset methods disabled by user" in rig.log()


@pytest.mark.parametrize(
    ("bdf", "text", "line"),
    [(CARD, "pm", "Unsupported reset method 'pm'"), (CARD, "flr magic", "Invalid reset method 'magic'"),
     (TWO_0, "bus", "Unsupported reset method 'bus'")],
)  # fmt: skip
def test_a_method_that_is_not_offered_is_refused(rig: Rig, shell: Shell, bdf: str, text: str, line: str) -> None:
    before = shell.cat(bdf, "reset_method")
    assert shell.device(text, bdf, "reset_method") == -EINVAL
    assert shell.cat(bdf, "reset_method") == before
    assert f"<3> pci {bdf}: {line}" in rig.log()


# -- drivers -------------------------------------------------------------------------------------
def test_unbind_and_bind_a_port(shell: Shell, sysfs: Sysfs) -> None:
    home = "bus/pci/drivers/pcieport"
    sysfs.core.register_driver(sysfs.core.devices[Sbdf.parse(PORT)].driver)  # type: ignore[arg-type]
    assert shell.echo(f"{PORT}\n", f"{home}/bind") == -EBUSY
    assert shell.echo(f"{PORT}\n", f"bus/pci/devices/{PORT}/driver/unbind") == 0
    assert f"{home}/{PORT}" not in sysfs.nodes()
    assert not shell.cat(PORT, "uevent").startswith("DRIVER")
    assert shell.echo(PORT, f"{home}/unbind") == -ENODEV
    assert shell.echo(PORT, f"{home}/bind") == 0
    assert shell.cat(PORT, "uevent").startswith("DRIVER=pcieport\n")


@pytest.mark.parametrize("text", ["", "nonsense", "0000:09:00.0", "01:00.0", CARD])
def test_bind_refuses_what_is_not_there_or_not_for_this_driver(shell: Shell, text: str) -> None:
    assert shell.echo(text, "bus/pci/drivers/pcieport/bind") == -ENODEV


def test_bind_passes_the_errno_of_probe_on(rig: Rig, shell: Shell) -> None:
    async def probe(dev: object) -> int:
        return -EIO

    rig.core.register_driver(PciDriver("picky", probe=probe))
    assert shell.echo(CARD, "bus/pci/drivers/picky/bind") == -EIO


# -- enable and remove ---------------------------------------------------------------------------
def test_enable_adds_and_takes_users_away(shell: Shell) -> None:
    assert shell.device("1", CARD, "enable") == 0
    assert shell.device("1\n", CARD, "enable") == 0
    assert shell.cat(CARD, "enable") == "2\n"
    for _ in range(2):
        assert shell.device("0", CARD, "enable") == 0
    assert shell.device("0", CARD, "enable") == -EIO
    assert shell.device("yes", CARD, "enable") == -EINVAL
    assert shell.device("1", PORT, "enable") == -EBUSY, "the port driver has it"


def test_remove_takes_everything_below_along(rig: Rig, shell: Shell, sysfs: Sysfs) -> None:
    assert shell.device("0\n", UPSTREAM, "remove") == 0
    assert shell.device("x", UPSTREAM, "remove") == -EINVAL
    before = set(sysfs.sections())
    assert shell.device("1\n", UPSTREAM, "remove") == 0
    assert before - set(sysfs.sections()) == {UPSTREAM, "0000:04:00.0", "0000:04:01.0", "0000:05:00.0", "0000:06:00.0"}
    assert shell.device("1\n", UPSTREAM, "remove") == -ENOENT
    assert not [path for path in sysfs.nodes() if UPSTREAM in path]


@pytest.mark.parametrize("path", ["bus/pci/rescan", f"bus/pci/devices/{PORT}/rescan"])
def test_rescan_finds_again_what_was_removed(shell: Shell, sysfs: Sysfs, path: str) -> None:
    before = set(sysfs.sections())
    shell.device("1", UPSTREAM, "remove")
    assert shell.echo("0", path) == 0
    assert set(sysfs.sections()) != before
    assert shell.echo("1\n", path) == 0
    assert set(sysfs.sections()) == before
    assert shell.echo("x", path) == -EINVAL


def test_a_function_whose_removal_waits_is_not_shown(rig: Rig, sysfs: Sysfs) -> None:
    rig.dev(CARD).devpath = f"/{CARD}"  # until the walk that holds pci_bus_sem has ended (errata 6.2)
    assert CARD not in sysfs.sections()
    assert sysfs.section(CARD) == {}


# -- configuration space, and what cannot be written ---------------------------------------------
def test_config_is_written_with_the_widest_aligned_accesses(rig: Rig, shell: Shell) -> None:
    written: list[tuple[int, int, int]] = []
    rig.core._write = lambda sbdf, offset, size, value: written.append((offset, size, value))
    assert shell.echo("\x01\x02\x03\x04\x05\x06\x07\x08\x09", f"bus/pci/devices/{CARD}/config", 0x11) == 0
    assert written == [(0x11, 1, 0x01), (0x12, 2, 0x0302), (0x14, 4, 0x07060504), (0x18, 2, 0x0908)]


def test_config_ends_where_configuration_space_does(shell: Shell) -> None:
    assert shell.echo("\x01", f"bus/pci/devices/{CARD}/config", 4096) == -EIO


@pytest.mark.parametrize(
    ("name", "errno"),
    [("vendor", EACCES), ("aer_dev_correctable", EACCES), ("resource", EACCES), ("uevent", EIO),
     ("bogus", ENOENT), ("aer", ENOENT)],
)  # fmt: skip
def test_what_cannot_be_written(shell: Shell, name: str, errno: int) -> None:
    assert shell.device("1", CARD, name) == -errno


def test_every_write_leaves_a_record(rig: Rig, shell: Shell) -> None:
    shell.device("7\n", CARD, BURST)
    shell.device("x", CARD, BURST)
    path = f"bus/pci/devices/{CARD}/{BURST}"
    assert [record[3:] for record in rig.journal.records if record[2] == "sysfs.store"] == [
        (path, "7", 0),
        (path, "x", -EINVAL),
    ]
