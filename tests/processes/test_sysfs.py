"""dom0's sysfs on real processes: a mounted directory follows what happens, and writing to it makes it happen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.hosts import flat, guest, nic, root_port, shipped
from tests.processes.running import Running, run_directory, running, started
from tests.processes.test_command import one_line, xenaer
from xenaer.control import ControlError

pytestmark = pytest.mark.processes

CARD, PORT = nic(0), root_port(0)


@pytest.fixture(scope="module")
def system() -> Iterator[Running]:
    with running(flat([guest("g", CARD)])) as view:
        view.wait_up("g")
        yield view


@pytest.fixture
def view(system: Running) -> Running:
    return system


@pytest.fixture
def tree(view: Running, tmp_path: Path) -> Path:
    """A directory of its own that dom0 keeps current."""
    assert view.dom0("sysfs-mount", str(tmp_path / "sys")) > 50
    return tmp_path / "sys" / "bus" / "pci" / "devices"


def shell(command: str) -> str:
    """What a shell command prints."""
    return subprocess.run(["sh", "-ec", command], capture_output=True, text=True, check=True, timeout=30).stdout


def test_an_error_changes_the_counters_that_cat_shows(view: Running, tree: Path) -> None:
    file = tree / CARD / "aer_dev_correctable"
    before = int(shell(f"tail -1 {file}").split()[1])
    view.dom0("inject", CARD, 1 << 6, 0)
    view.until(lambda: shell(f"tail -1 {file}") == f"TOTAL_ERR_COR {before + 1}\n", "the counter in the file")
    view.until(lambda: (tree / PORT / "aer_rootport_total_err_cor").read_text() != "0\n", "the root port's counter")


def test_readlink_finds_devices_and_drivers(tree: Path) -> None:
    root = tree.parent.parent.parent.resolve()
    assert shell(f"readlink -f {tree / CARD}") == f"{root}/devices/pci0000:00/{PORT}/{CARD}\n"
    assert shell(f"readlink {tree / CARD / 'driver'}") == "../../../../bus/pci/drivers/pciback\n"
    assert shell(f"basename $(readlink -f {tree / PORT / 'driver'})") == "pcieport\n"
    assert shell(f"cat {root}/bus/pci/drivers/pciback/{CARD}/vendor") == "0x1af4\n"
    links = [path for path in root.rglob("*") if path.is_symlink()]
    assert links
    assert all(path.is_dir() for path in links)


def test_echo_changes_a_limit_and_a_wrong_value_is_put_right(view: Running, tree: Path) -> None:
    file = tree / CARD / "aer" / "correctable_ratelimit_interval_ms"
    shell(f"echo 3000 > {file}")
    view.until(lambda: file.read_text() == "750\n", "jiffies")
    assert view.dom0("sysfs-read", f"bus/pci/devices/{CARD}/aer/{file.name}") == b"750\n"
    mark = view.mark()
    shell(f"echo soon > {file}")
    item = view.wait(mark, "sysfs.store", party="dom0")
    assert (item["value"], item["result"]) == ("soon", -22)
    view.until(lambda: file.read_text() == "750\n", "the old value")


def test_echo_resets_a_device(view: Running, tree: Path) -> None:
    file, mark = tree / PORT / CARD / "reset", view.mark()
    for _ in range(2):
        shell(f"echo 1 > {file}")
        assert view.wait(mark, "pci.reset", CARD)["result"] == 0
        view.until(lambda: file.stat().st_size == 0, "a file for the next one")
        assert file.stat().st_mode & 0o777 == 0o200
        mark = view.mark()


def test_unbind_bind_and_remove_move_the_links(tmp_path: Path) -> None:
    with running(flat([guest("g", autostart=False)], devices=1)) as other:
        other.dom0("sysfs-mount", str(tmp_path / "sys"))
        driver = tmp_path / "sys" / "bus" / "pci" / "drivers" / "pciback"
        shell(f"echo {CARD} > {driver}/unbind")
        other.until(lambda: not (driver / CARD).is_symlink(), "the link to go")
        assert not (tmp_path / "sys" / "bus" / "pci" / "devices" / CARD / "driver").is_symlink()
        shell(f"echo {CARD} > {driver}/bind")
        other.until(lambda: (driver / CARD).is_symlink(), "the link to come back")
        devices = tmp_path / "sys" / "bus" / "pci" / "devices"
        shell(f"echo 1 > {devices / CARD}/remove")
        other.until(lambda: not (devices / CARD).is_symlink(), "the device to go")
        assert os.listdir(devices) == [PORT]
        assert not (devices / PORT / CARD).exists()


def test_a_directory_that_is_taken_away_is_given_up(view: Running, tmp_path: Path) -> None:
    root = tmp_path / "gone"
    view.dom0("sysfs-mount", str(root))
    shutil.rmtree(root)
    view.dom0("inject", CARD, 1 << 6, 0)
    log = view.run / "launcher.log"
    view.until(lambda: f"dom0: {root} is no longer kept current" in log.read_text(), "the message")
    assert view.dom0("sysfs-mount", str(root)) > 50, "and may be asked for again"
    assert (root / "bus" / "pci" / "devices" / CARD / "vendor").read_text() == "0x1af4\n"


def test_directories_that_cannot_be_used(view: Running, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    for directory, text in (("relative", "not an absolute path"), (str(tmp_path / "full"), "is not empty")):
        with pytest.raises(ControlError, match=text):
            view.dom0("sysfs-mount", directory)
    root = tree.parent.parent.parent
    assert view.dom0("sysfs-mount", str(root)) > 50, "the same again is no mistake"
    with running(flat([guest("g", autostart=False)], devices=1)) as other, pytest.raises(ControlError, match="kept"):
        other.dom0("sysfs-mount", str(root))


def test_the_command_writes_reads_and_explains() -> None:
    with run_directory() as run, started(shipped("one-nic"), run):
        told = xenaer("sysfs", run=run)
        assert told.stdout.startswith(f"{run}/sysfs: "), told.stderr
        assert (run / "sysfs/bus/pci/devices/0000:01:00.0/class").read_text() == "0x020000\n"
        at = "bus/pci/devices/0000:01:00.0"
        assert xenaer("sysfs-write", f"{at}/aer/nonfatal_ratelimit_burst", "2", run=run).returncode == 0
        assert xenaer("sysfs-read", f"/sys/{at}/aer/nonfatal_ratelimit_burst", run=run).stdout == "2\n"
        refused = xenaer("sysfs-write", f"{at}/reset", "2", run=run)
        assert (refused.returncode, refused.stderr) == (
            1,
            f"xenaer: {at}/reset: write error: invalid argument (EINVAL)\n",
        )
        assert "no such file" in xenaer("sysfs-read", f"{at}/bogus", run=run).stderr
        once = xenaer("sysfs", str(run / "once"), "--once", run=run)
        assert once.returncode == 0, once.stderr
        assert sorted(os.listdir(run / "once" / at)) == sorted(os.listdir(run / "sysfs" / at))


def test_a_host_without_a_system_has_a_tree_too(tmp_path: Path) -> None:
    told = xenaer("sysfs", str(tmp_path / "sys"), "--host", "switch")
    assert told.returncode == 0, told.stderr
    devices = tmp_path / "sys" / "bus" / "pci" / "devices"
    assert len(os.listdir(devices)) == 9
    assert (devices / "0000:00:1c.0" / "driver").is_dir()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "y").write_text("")
    assert "is not empty" in one_line(xenaer("sysfs", str(tmp_path / "x"), "--host", "switch"))


# -- tools that know nothing of xenaer -----------------------------------------------------------
def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (package pciutils)")
    return found


def access(tree: Path) -> str:
    return f"-A linux-sysfs -O sysfs.path={tree.parent}"


def test_lspci_reads_the_tree(view: Running, tree: Path) -> None:
    lspci = tool("lspci")
    assert [line.split()[0] for line in shell(f"{lspci} -D {access(tree)}").splitlines()] == [PORT, CARD]
    shown = shell(f"{lspci} -vvv {access(tree)} -s {CARD}")
    for text in ("Advanced Error Reporting", "CESta:", "HeaderLog:", "Kernel driver in use: pciback", "[size=64K]"):
        assert text in shown, shown
    assert f"[01]----{CARD[8:]}" in shell(f"{lspci} -t {access(tree)}")


def test_setpci_reads_and_writes_registers(view: Running, tree: Path) -> None:
    setpci = f"{tool('setpci')} {access(tree)} -s {PORT}"
    before = shell(f"{setpci} INTERRUPT_LINE").strip()
    value = f"{int(before, 16) ^ 0x0B:02x}"
    shell(f"{setpci} INTERRUPT_LINE={value}")
    view.until(lambda: view.dom0("config", PORT)[0x3C] == int(value, 16), "the register")
    assert shell(f"{setpci} INTERRUPT_LINE").strip() == value


def test_nothing_is_written_unless_it_was_asked_for() -> None:
    with running(flat([guest("g", autostart=False)], devices=1)) as other:
        assert not (other.run / "sysfs").exists()
        description = json.loads((other.run / "system.json").read_text())
        assert description["host"] == "flat"
