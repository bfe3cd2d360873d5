"""From a dump to a host: kinds, places, what is told, what is left out, guests; and the commands."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from protocol.topology import BRIDGES, FunctionSpec, HostSpec
from tests.xenaer.fakes import FakeStub
from tests.xenaer.lspci_rig import DEVICE, MACHINE, bridge, dump, dump_of, endpoint, hierarchy, imported, space
from xenaer.boot import data_dir
from xenaer.cli import main
from xenaer.host import load_host
from xenaer.lspci_dump import parse_dump
from xenaer.lspci_import import GuestError, host_name, import_dump
from xenaer.simulation.system import SimSystem

SHIPPED = sorted(data_dir("hosts").glob("*.yaml"))
NIC = space(*DEVICE, (0x10, "000020fc"), (0x40, "10500200"), (0x50, "0500"), size=4096)
TREE = {"00:1c.0": bridge("000101"), "01:00.0": NIC}


def machine() -> HostSpec:
    return imported(MACHINE.read_text())[1]


def by_address(host: HostSpec) -> dict[str, FunctionSpec]:
    return {function.bdf.removeprefix("0000:"): function for function in host.functions}


def test_a_real_machine() -> None:
    functions = by_address(machine())
    assert len(functions) == 32
    assert {function.dom0_driver for function in functions.values()} == {"", "pcieport"}
    kinds = {bdf: functions[bdf].kind for bdf in ("00:04.0", "02:00.0", "03:01.0", "0e:00.0", "00:10.0", "01:00.1")}
    assert list(kinds.values()) == [
        "root_port", "upstream_port", "downstream_port", "pcie_pci_bridge", "rciep", "endpoint",
    ]  # fmt: skip
    port = functions["00:05.0"]
    assert (port.secondary, port.subordinate, port.slot, port.link_speed, port.pm) == (2, 6, 2, 2, False)
    empty = functions["00:0c.0"]
    assert (empty.secondary, empty.subordinate) == (0x0D, 0x0D)
    card = functions["08:00.0"]
    assert (card.model, card.vendor, card.device, card.class_code, card.revision) == ("nic", 0x8086, 0x10C9, 0x20000, 1)
    assert (card.subsystem, card.flr, card.role_based, card.aer, card.pcie) == (
        (0x1AF4, 0x1100),
        True,
        True,
        True,
        True,
    )
    assert (functions["07:00.0"].flr, functions["09:00.0"].aer) == (False, False)
    assert [functions[bdf].pcie for bdf in ("00:00.0", "0b:00.0", "0f:01.0")] == [False, False, False]
    assert functions["0f:01.0"].parent == "0000:0e:00.0"


def test_what_a_machine_has_is_said() -> None:
    remarks = imported(MACHINE.read_text())[0].remarks
    assert "dump.txt: no AER capability: 0000:09:00.0" in remarks
    assert "dump.txt: plain, without a data path, since the emulated block device needs MSI: 0000:09:00.0" in remarks
    assert any("SR-IOV" in text and "0000:08:00.0" in text for text in remarks)
    assert not any("left out" in text for text in remarks)


def test_every_configuration_space_is_as_dumped() -> None:
    hardware = hierarchy(machine())
    for dumped in parse_dump(MACHINE.read_text(), "main-lspci.txt"):
        data = bytes(hardware.functions[dumped.address].config.data)
        assert data[: len(dumped.data)] == dumped.data, dumped.bdf
        assert not any(data[len(dumped.data) :])


def tree_of(host: HostSpec) -> list[tuple[Any, ...]]:
    """Everything that a dump can tell of a host."""
    return sorted(
        (
            f.bdf, f.kind, f.parent, f.secondary, f.subordinate, f.vendor, f.device, f.aer, f.role_based, f.pm, f.slot,
            f.link_speed, f.link_width, f.link_reporting, f.ecrc, f.pcie, f.flr or f.kind in BRIDGES,
            "" if f.kind in BRIDGES else f.model,
        )
        for f in host.functions
    )  # fmt: skip


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_round_trip_of_shipped_hosts(path: Path) -> None:
    host = load_host(path)
    text = dump_of(hierarchy(host))
    result, again = imported(text)
    assert tree_of(again) == tree_of(host)
    assert dump_of(hierarchy(again)) == text
    assert result.remarks == []


def test_round_trip_of_a_machine() -> None:
    text = dump_of(hierarchy(machine()))
    assert dump_of(hierarchy(imported(text)[1])) == text


def test_registers_that_differ_are_shown() -> None:
    aer = (0x100, "01000200 00001000 00004000 30204600 01000000 00e00000")
    text = imported(dump({"00:1c.0": bridge("000101"), "01:00.0": space(*DEVICE, (0x40, "10000200"), aer, size=4096)}))
    assert (
        "registers: {aer_unc_status: 0x00100000, aer_unc_mask: 0x00400000, aer_cor_status: 0x00000001}" in text[0].text
    )
    assert text[1].functions[1].registers["aer_unc_mask"] == 0x400000


VIRTUAL = space((0, "ffffffff 0000 1000 00000002"), (0x34, "40"), (0x40, "10000200"), size=4096)
CARDBUS = space((0, "4c1056ac 0700 1000 00000706 0000 0200"), (0x18, "000606"), (0x34, "40"), (0x40, "0140"))
PCI_BRIDGE = space((0, "86804e24 0700 0000 00000406 00000100"), (0x18, "000303"))
DEVICE_ONLY = space((0, "86800012"))
LEFT_OUT = [
    ("endpoint without port", {"00:02.0": endpoint()}, "0000:00:02.0", "a PCI Express endpoint on a root bus"),
    ("port missing", {"00:1c.0": bridge("000103"), "02:00.0": endpoint()}, "0000:02:00.0", "missing from the dump"),
    ("conventional bridge", {"00:1e.0": PCI_BRIDGE}, "0000:00:1e.0", "a conventional PCI bridge on a root bus"),
    ("below one", {"00:1e.0": PCI_BRIDGE, "03:02.0": DEVICE_ONLY}, "0000:03:02.0", "0000:00:1e.0 above it is left out"),
    ("CardBus", {"00:0a.0": CARDBUS}, "0000:00:0a.0", "a CardBus bridge"),
    ("all ones", {"00:02.0": b"\xff" * 64}, "0000:00:02.0", "all ones"),
    ("virtual function", {**TREE, "01:00.1": VIRTUAL}, "0000:01:00.1", "virtual function"),
    ("ARI", {**TREE, "01:01.0": endpoint()}, "0000:01:01.0", "device 01 below a PCI Express port (ARI)"),
    ("no function 0", {"00:1c.0": bridge("000101"), "01:00.1": endpoint()}, "0000:01:00.1", "function 0"),
    ("long domain", {"10000:00:02.0": DEVICE_ONLY}, "10000:00:02.0", "domain number"),
    ("PCI to PCI Express", {"00:1c.0": bridge("000101", kind=8)}, "0000:00:1c.0", "of type 0x8 with header type 1"),
    ("no bus numbers", {"00:1c.0": bridge("000000")}, "0000:00:1c.0", "without bus numbers"),
    ("odd header", {"00:02.0": space((0, "86800012"), (0xE, "05"))}, "0000:00:02.0", "header type 0x05"),
]


@pytest.mark.parametrize(("functions", "bdf", "words"), [row[1:] for row in LEFT_OUT], ids=[row[0] for row in LEFT_OUT])
def test_what_is_not_modelled_is_left_out(functions: dict[str, bytes], bdf: str, words: str) -> None:
    text = dump({"00:00.0": DEVICE_ONLY, **functions})
    line = text.splitlines().index(f"{bdf.removeprefix('0000:')} some device") + 1
    result, host = imported(text)
    assert host.function(bdf) is None
    assert host.function("0000:00:00.0") is not None
    found = [remark for remark in result.remarks if "left out" in remark]
    assert any(remark.startswith(f"dump.txt:{line}: {bdf}: ") and words in remark for remark in found), found


def test_256_bytes_have_no_extended_capabilities() -> None:
    result, host = imported(dump({"00:1c.0": bridge("000101", size=256), "01:00.0": endpoint(256)}))
    assert [function.aer for function in host.functions] == [False, False]
    assert "only 256 bytes are shown" in result.remarks[0]
    assert result.remarks[0].endswith(": 0000:00:1c.0, 0000:01:00.0")


def test_domains() -> None:
    functions = {f"{domain}:{bdf}": data for domain in ("0000", "0001") for bdf, data in TREE.items()}
    text = dump_of(hierarchy(imported(dump(functions))[1]))
    host = imported(text)[1]
    assert [function.bdf for function in host.functions] == sorted(functions)
    assert text.startswith("0000:00:1c.0 0604: 1b36:000c\n")


def test_event_collector() -> None:
    """The association capability tells whose errors it receives."""
    express, association = (0x40, "1000 a200"), (0x100, "07000200 00000300 00021000")
    collector = space((0, "86800010 0600 1000 00000708"), (0x34, "40"), express, association, size=4096)
    host = imported(dump({"00:1e.0": collector}))[1]
    assert (host.functions[0].kind, host.functions[0].rciep_devices) == ("event_collector", 0x30000)
    assert host.functions[0].rciep_buses == (2, 0x10)


# -- guests ----------------------------------------------------------------------------------------
def test_guests_get_their_devices() -> None:
    host = imported(dump(TREE), {"net1": ["0000:01:00.0"]})[1]
    assert [(g.name, [(d.bdf, d.driver.driver) for d in g.devices]) for g in host.guests] == [
        ("net1", [("0000:01:00.0", "xnic")])
    ]
    assert host.functions[1].dom0_driver == "pciback"


def test_an_imported_machine_recovers() -> None:
    """A fatal error of a card that a guest has: the link is reset, its configuration restored, the guest goes on."""
    system = SimSystem(imported(MACHINE.read_text(), {"net1": ["0000:08:00.0"]})[1])
    try:
        before = bytes(system.ctl("dom0", "config", ["0000:08:00.0"]))
        system.advance(1000)
        system.ctl("dom0", "inject", ["0000:08:00.0", 0, 1 << 18, [1, 2, 3, 4]])
        system.advance(2000)
        ends = [item for item in system.records()[0] if item["label"] == "recovery.end"]
        assert [(item["subject"], item["verdict"]) for item in ends] == [("0000:08:00.0", "successful")]
        assert bytes(system.ctl("dom0", "config", ["0000:08:00.0"]))[0x10:0x28] == before[0x10:0x28]
    finally:
        system.close()


@pytest.mark.parametrize(
    ("guests", "words"),
    [
        ({"a": ["0000:02:00.0"]}, "not in the dump"),
        ({"a": ["0000:00:1c.0"]}, "root_port"),
        ({"a": ["0000:01:00.1"]}, "virtual function"),
        ({"a": ["0000:01:00.0"], "b": ["0000:01:00.0"]}, "'a' has it already"),
    ],
)
def test_guests_that_cannot_be(guests: dict[str, list[str]], words: str) -> None:
    with pytest.raises(GuestError, match=words):
        import_dump(dump({**TREE, "01:00.1": VIRTUAL}), "dump.txt", "host", guests)


@pytest.mark.parametrize(("stem", "name"), [("main-lspci", "main-lspci"), ("my host!", "my-host-"), ("1", "imported")])
def test_name_of_the_host(stem: str, name: str) -> None:
    assert host_name(stem) == name


# -- commands --------------------------------------------------------------------------------------
def test_command_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = tmp_path / "host.yaml"
    assert main(["import", str(MACHINE), "-o", str(host), "--guest", "net1=08:00.0", "--guest", "net2=7:0.0"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"xenaer: {MACHINE}: no AER capability: 0000:09:00.0\n" in shown.err
    assert main(["check", str(host)]) == 0
    assert "16 ports, 16 devices, 2 guests" in capsys.readouterr().out


def test_command_import_reads_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Input:
        buffer = io.BytesIO(dump(TREE).encode())

    monkeypatch.setattr("sys.stdin", Input)
    assert main(["import", "-"]) == 0
    assert 'root_port: "0000:00:1c.0"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["import", "nowhere"], "nowhere: no such file"),
        (["import", __file__], "no function with a configuration space"),
        (["import", str(MACHINE), "--guest", "net1"], "expected NAME=BDF"),
        (["import", str(MACHINE), "--guest", "1=8:0.0"], "no name"),
        (["import", str(MACHINE), "--guest", "dom0=8:0.0"], "reserved"),
        (["import", str(MACHINE), "--guest", "a=eth0"], "not a PCI address"),
        (["import", str(MACHINE), "--guest", "a=00:04.0"], "--guest: guest 'a' cannot have 0000:00:04.0"),
        (["lspci", "--host", "nowhere"], "no file 'nowhere'"),
        (["lspci", "5:0.0", "--host", "one-nic"], "0000:05:00.0: there is no such function in one-nic"),
        (["lspci", "eth0", "--host", "one-nic"], "not a PCI address"),
    ],
)
def test_mistakes_are_one_line(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.startswith("xenaer: ")
    assert (shown.out, shown.err.count("\n")) == ("", 1)


def test_command_lspci_of_a_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lspci", "1:0.0", "--host", "one-nic"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "01:00.0 0200: 1af4:1041"
    assert lines[1].startswith("00: f4 1a 41 10 ")
    assert (lines[-2][:5], lines[-1], len(lines)) == ("ff0: ", "", 258)


def test_command_lspci_asks_the_running_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(target: str, verb: str, args: list[Any]) -> Any:
        return ["0000:00:1c.0", "0000:01:00.0"] if verb == "functions" else b"\xff" * 4096

    fake = FakeStub(f"ipc://{tmp_path}/c", answer)
    (tmp_path / "system.json").write_text(f'{{"address": "{fake.address}", "pid": 1, "host": "one-nic"}}')
    monkeypatch.setenv("XENAER_RUN", str(tmp_path))
    try:
        assert main(["lspci"]) == 0
        assert main(["lspci", "1:0.0"]) == 0
    finally:
        fake.close()
    assert fake.asked == [
        ("dom0", "functions", []),
        ("dom0", "config", ["0000:00:1c.0"]),
        ("dom0", "config", ["0000:01:00.0"]),
        ("dom0", "config", ["0000:01:00.0"]),
    ]
    titles = [line for line in capsys.readouterr().out.splitlines() if ": " not in line[:5] and line]
    assert titles[0] == "00:1c.0 ffff: ffff:ffff (rev ff)"
