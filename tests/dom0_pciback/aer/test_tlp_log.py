"""TLP logs by linux-aer.md 1.1, 3.7 and 5.4 alone: prefix counts and Flit mode, of which there is no recording."""

from __future__ import annotations

import pytest

from dom0_pciback.aer.tlp_log import aer_tlp_log_len, pcie_read_tlp_log, tlp_log_text
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pcie.errors import detect_uncorrectable
from protocol.layout_aer import AER
from protocol.layout_pcie import EXP
from protocol.topology import TimingSpec
from tests.dom0_pciback.aer.rig import Rig

PREFIX_LOG_PRESENT, FLIT = 0x800, 0x40000
SUPPORTED = 1 << 21  # Device Capabilities 2: End-End TLP prefixes, at most as many as 23:22 say
POISONED = 12


def prefix_max(port: int, device: int) -> int:
    """``eetlp_prefix_max`` of an endpoint whose port and itself have these Device Capabilities 2 at enumeration."""
    rig = Rig()
    for bdf, value in (("00:01.0", port), ("01:00.0", device)):
        function = rig.hierarchy.functions[rig.dev(bdf).sbdf]
        function.config.poke(function.exp + EXP.DEVCAP2, 4, value)
    return PciCore(rig.kernel, rig.hierarchy, TimingSpec()).devices[rig.dev("01:00.0").sbdf].eetlp_prefix_max


@pytest.mark.parametrize(
    ("port", "device", "wanted"),
    [
        (SUPPORTED, SUPPORTED, 4),
        (SUPPORTED, SUPPORTED | 1 << 22, 1),
        (SUPPORTED, SUPPORTED | 2 << 22, 2),
        (SUPPORTED | 1 << 22, SUPPORTED | 3 << 22, 3),
        (SUPPORTED, 3 << 22, 0),
        (0, SUPPORTED, 0),
    ],
)
def test_1_1_how_many_prefixes_a_function_may_log(port: int, device: int, wanted: int) -> None:
    assert prefix_max(port, device) == wanted


@pytest.mark.parametrize(
    ("control", "prefixes", "length"),
    [
        (0, 4, 4),
        (PREFIX_LOG_PRESENT, 4, 8),
        (PREFIX_LOG_PRESENT, 2, 6),
        (PREFIX_LOG_PRESENT, 0, 4),
        (FLIT | 5 << 19, 4, 5),
        (FLIT | PREFIX_LOG_PRESENT | 14 << 19, 4, 14),
        (5 << 19, 4, 4),
    ],
)
def test_3_7_length_of_the_log(control: int, prefixes: int, length: int) -> None:
    dev = Rig().dev("01:00.0")
    dev.eetlp_prefix_max = prefixes
    assert aer_tlp_log_len(dev, control) == length


def logged(rig: Rig, control: int) -> str:
    """Text of the log of 01:00.0: header dwords 1 to 4, prefix log 0x11, 0x12, ..."""
    dev: PciDev = rig.dev("01:00.0")
    config = rig.hierarchy.functions[dev.sbdf].config
    config.poke_dwords(dev.aer + AER.HEADER_LOG, (1, 2, 3, 4))
    config.poke_dwords(dev.aer + AER.PREFIX_LOG, tuple(range(0x11, 0x1B)))
    return tlp_log_text(pcie_read_tlp_log(rig.core, dev, control))


def hexadecimal(*dwords: int) -> str:
    return " ".join(f"0x{dword:08x}" for dword in dwords)


@pytest.mark.parametrize(
    ("control", "text"),
    [
        (FLIT | 7 << 19, "TLP Header (Flit): " + hexadecimal(1, 2, 3, 4, 0x11, 0x12, 0x13)),
        (FLIT | 4 << 19, "TLP Header (Flit): " + hexadecimal(1, 2, 3, 4)),
        (FLIT | 2 << 19, "TLP Header (Flit): " + hexadecimal(1, 2, 0, 0)),
        (FLIT | 31 << 19, "TLP Header (Flit): " + hexadecimal(1, 2, 3, 4, *range(0x11, 0x1B))),
        (PREFIX_LOG_PRESENT, f"TLP Header: {hexadecimal(1, 2, 3, 4)} E-E Prefixes: {hexadecimal(*range(0x11, 0x15))}"),
        (0, "TLP Header: " + hexadecimal(1, 2, 3, 4)),
    ],
)
def test_5_4_text(control: int, text: str) -> None:
    assert logged(Rig(), control) == text


def test_5_4_no_more_prefixes_than_the_function_supports() -> None:
    rig = Rig()
    rig.dev("01:00.0").eetlp_prefix_max = 2
    assert logged(rig, PREFIX_LOG_PRESENT).endswith(f" E-E Prefixes: {hexadecimal(0x11, 0x12)}")


@pytest.mark.parametrize(
    ("prefixes", "tail"),
    [((0x91,), " E-E Prefixes: 0x00000091"), ((0x91, 0, 0x93), " E-E Prefixes: 0x00000091"), ((0, 0x92), "")],
)
def test_5_4_a_zero_ends_the_prefixes_of_an_error(prefixes: tuple[int, ...], tail: str) -> None:
    rig = Rig()
    detect_uncorrectable(
        rig.hierarchy.functions[rig.dev("01:00.0").sbdf], POISONED, header=(1, 2, 3, 4), prefixes=prefixes
    )
    rig.settle()
    header = next(line for line in rig.log() if "TLP Header" in line)
    assert header.partition("0x00000004")[2] == tail


def test_3_7_flit_mode_of_an_error() -> None:
    rig = Rig()
    dev = rig.dev("01:00.0")
    rig.hierarchy.functions[dev.sbdf].config.set_bits(dev.aer + AER.CAP, 4, FLIT | 5 << 19)
    rig.inject("01:00.0", uncor=1 << POISONED)
    assert any("AER:   TLP Header (Flit): 0x00000001" in line for line in rig.log())
