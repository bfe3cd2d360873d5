"""The real lspci decodes what ``xenaer lspci`` writes: tree, bridges, capabilities, every flag of AER."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dom0_pciback.pcie.hierarchy import Hierarchy
from protocol.bits import COR, UNCOR, Bit
from protocol.ids import Sbdf
from protocol.layout_aer import AER, AER_ROOT_CMD_ALL
from protocol.layout_pcie import EXP, EXP_DEVCTL_AER_FLAGS
from protocol.registers import Reg
from tests.xenaer.lspci_rig import MACHINE, dump_of, hierarchy, imported, lspci
from xenaer.boot import data_dir
from xenaer.host import load_host

SHIPPED = sorted(data_dir("hosts").glob("*.yaml"))
EXPRESS = ("DevSta",)
ROOT, NIC = "0000:00:1c.0", "0000:01:00.0"

# what every supported version shows; newer ones show all that protocol.bits has a name for
FLAGS_OF_3_9 = {
    "UESta": "DLP SDES TLP FCP CmpltTO CmpltAbrt UnxCmplt RxOF MalfTLP ECRC UnsupReq ACSViol",
    "CESta": "RxErr BadTLP BadDLLP Rollover Timeout AdvNonFatalErr",
}
# label of lspci, register, rows of protocol.bits
STATUS_REGISTERS: list[tuple[str, Reg, tuple[Bit, ...]]] = [
    ("UESta", AER.UNCOR_STATUS, UNCOR), ("UEMsk", AER.UNCOR_MASK, UNCOR), ("UESvrt", AER.UNCOR_SEVER, UNCOR),
    ("CESta", AER.COR_STATUS, COR), ("CEMsk", AER.COR_MASK, COR),
]  # fmt: skip
# flags of other registers: label, register, name -> bit
OTHER_FLAGS: list[tuple[str, Reg, dict[str, int]]] = [
    ("AERCap", AER.CAP, {"ECRCGenCap": 5, "ECRCGenEn": 6, "ECRCChkCap": 7, "ECRCChkEn": 8, "MultHdrRecCap": 9,
                         "MultHdrRecEn": 10, "TLPPfxPres": 11, "HdrLogCap": 12}),
    ("RootCmd", AER.ROOT_COMMAND, {"CERptEn": 0, "NFERptEn": 1, "FERptEn": 2}),
    ("RootSta", AER.ROOT_STATUS, {"CERcvd": 0, "MultCERcvd": 1, "UERcvd": 2, "MultUERcvd": 3, "FirstFatal": 4,
                                  "NonFatalMsg": 5, "FatalMsg": 6}),
]  # fmt: skip


def hardware(name: str = "one-nic") -> Hierarchy:
    return hierarchy(load_host(data_dir("hosts") / f"{name}.yaml"))


def shown(tmp_path: Path, host: Hierarchy, *options: str) -> str:
    """What lspci says about the host."""
    file = tmp_path / "dump.txt"
    file.write_text(dump_of(host))
    return lspci(file, *options)


def section(text: str, label: str) -> str:
    """The text after ``label:``, with the lines that continue it; RootSta of Express is another one than of AER."""
    text = text[text.index("Advanced Error Reporting") :] if label not in EXPRESS else text
    match = re.search(rf"^\t+{label}:((?:.*\n)(?:\t\t(?:\t| ).*\n)*)", text, re.MULTILINE)
    assert match is not None, f"no {label} in\n{text}"
    return match[1]


def flags(text: str, label: str) -> dict[str, bool]:
    """Names of flags and whether they are set."""
    return {name: sign == "+" for name, sign in re.findall(r"(\w+)([-+])(?=[\s,]|$)", section(text, label))}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_tree(path: Path, tmp_path: Path) -> None:
    """Every function is there, every bridge leads to the right buses."""
    host = load_host(path)
    text = shown(tmp_path, hierarchy(host), "-vvv", "-n")
    blocks = {block.split()[0]: block for block in text.strip().split("\n\n")}
    assert list(blocks) == sorted(function.bdf.removeprefix("0000:") for function in host.functions)
    for function in host.functions:
        buses = re.search(r"primary=(\w+), secondary=(\w+), subordinate=(\w+)", blocks[function.bdf[5:]])
        found = [int(text, 16) for text in buses.groups()] if buses is not None else None
        own = Sbdf.parse(function.bdf).bus
        assert found == ([own, function.secondary, function.subordinate] if function.secondary else None)
    assert shown(tmp_path, hierarchy(host), "-t").count("[") > 1


def test_types_of_ports(tmp_path: Path) -> None:
    text = shown(tmp_path, hardware("switch"), "-vvv")
    types = re.findall(r"Express \(v2\) ([\w ]+?)(?: \(|,)", text)
    assert types == ["Root Port", "Upstream Port"] + 3 * ["Downstream Port"] + 4 * ["Endpoint"]


def test_nothing_looks_odd(tmp_path: Path) -> None:
    text = shown(tmp_path, hardware("switch"), "-vvv")
    assert not re.search(r"Unknown|unknown|\?\?|<chain|!!!|invalid|size=1M\] \[64-bit\]", text), text
    windows = re.findall(r"(I/O|Prefetchable memory) behind bridge: (.*)", text)
    assert windows
    assert all("[disabled]" in window for _, window in windows), windows


def test_capabilities(tmp_path: Path) -> None:
    text = shown(tmp_path, hardware(), "-vvv", "-s", "1:0.0")
    found = re.findall(r"Capabilities: \[(\w+).*?\] (\w+)", text)
    assert found == [("40", "Power"), ("50", "MSI"), ("70", "Express"), ("100", "Advanced")]


@pytest.mark.parametrize(("label", "register", "bits"), STATUS_REGISTERS, ids=[row[0] for row in STATUS_REGISTERS])
def test_every_error_bit_has_its_flag(label: str, register: Reg, bits: tuple[Bit, ...], tmp_path: Path) -> None:
    """No bit, all bits, then each bit alone; a version shows the names that it knows."""
    host = hardware()
    function = host.functions[Sbdf.parse(NIC)]
    known = set(FLAGS_OF_3_9["UESta" if bits is UNCOR else "CESta"].split())
    words = [0, sum(bit.mask for bit in bits), *(bit.mask for bit in bits)]
    for word in words:
        function.config.poke(function.aer + register, 4, word)
        found = flags(shown(tmp_path, host, "-vvv", "-s", "1:0.0"), label)
        wanted = {bit.lspci: bool(word & bit.mask) for bit in bits if bit.lspci in found}
        assert known <= wanted.keys()
        assert found == wanted


@pytest.mark.parametrize(("label", "register", "names"), OTHER_FLAGS, ids=[row[0] for row in OTHER_FLAGS])
def test_every_other_flag(label: str, register: Reg, names: dict[str, int], tmp_path: Path) -> None:
    host = hardware()
    function = host.functions[Sbdf.parse(ROOT)]
    for number in names.values():
        function.config.poke(function.aer + register, 4, 1 << number)
        found = flags(shown(tmp_path, host, "-vvv", "-s", "0:1c.0"), label)
        assert found == {name: bit == number for name, bit in names.items()}


def test_an_injected_error_is_seen(tmp_path: Path) -> None:
    """Status, First Error Pointer, header log at the device; status and source at the root port."""
    host = hardware()
    root = host.functions[Sbdf.parse(ROOT)]
    root.config.poke(root.aer + AER.ROOT_COMMAND, 4, AER_ROOT_CMD_ALL)
    for function in host.functions.values():
        function.config.poke(function.exp + EXP.DEVCTL, 2, EXP_DEVCTL_AER_FLAGS)
    host.inject(Sbdf.parse(NIC), 1, 1 << 18, (0x4A000001, 0x0100000C, 0x10, 0x20))
    device = shown(tmp_path, host, "-vvv", "-s", "1:0.0")
    assert [name for name, there in (flags(device, "UESta") | flags(device, "CESta")).items() if there] == [
        "MalfTLP",
        "RxErr",
    ]
    assert "First Error Pointer: 12," in section(device, "AERCap")
    assert section(device, "HeaderLog").split() == ["4a000001", "0100000c", "00000010", "00000020"]
    assert flags(device, "DevSta")["FatalErr"]
    port = shown(tmp_path, host, "-vvv", "-s", "0:1c.0")
    received = {name for name, there in flags(port, "RootSta").items() if there}
    assert received == {"CERcvd", "UERcvd", "FirstFatal", "FatalMsg"}
    assert re.findall(r"[0-9a-f]{4}", section(port, "ErrorSrc")) == ["0100", "0100"]


@pytest.mark.parametrize("option", ["-tv", "-vvv"])
def test_an_imported_machine_looks_the_same(option: str, tmp_path: Path) -> None:
    """lspci says of the emulated machine what it says of the dump of the real one."""
    ours = shown(tmp_path, hierarchy(imported(MACHINE.read_text())[1]), option)
    assert ours == lspci(MACHINE, option)
