"""A function whose whole configuration space is given: what is read, what can be written, what a reset leaves."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_header import COMMAND_MEMORY, HEADER, TYPE1
from protocol.layout_msi import MSI, MSI32, MSIX
from protocol.layout_pcie import EXP, EXP_DEVCTL_FLR
from protocol.layout_pm import PM
from protocol.topology import FunctionSpec
from tests.dom0_pciback.pcie.rig import MS, Rig

ROOT, CARD = "0000:00:01.0", "0000:01:00.0"
HEAD = (0, "8680d310 0705 1000 03000002 10000000")
SERIAL = (0x140, "03000100 78563412 efcdab90")


def image(*parts: tuple[int, str], size: int = 4096) -> str:
    """Zeros with ``parts`` (offset, hex) in it, in hex."""
    data = bytearray(size)
    for offset, text in parts:
        piece = bytes.fromhex(text)
        data[offset : offset + len(piece)] = piece
    return data.hex()


def rig(*parts: tuple[int, str], **fields: Any) -> Rig:
    """A card with this image below an ordinary root port."""
    card = FunctionSpec(CARD, "endpoint", ROOT, config=image(HEAD, *parts), **fields)
    return Rig([FunctionSpec(ROOT, "root_port", "", 1, 1), card])


def full() -> Rig:
    """An Express endpoint of version 1 right before the extended space, AER without prefix log, others."""
    return rig(
        (0x10, "000010fc 0c0000fd 01000000 01e00000"), (0x34, "c8"),
        (0xC8, "01d0 22c8 0020"), (0xD0, "05e0 8000"), (0xE0, "10a0 0100 c18c0010"),
        (0xA0, "1100 0480 03000000 03200000"),
        (0x100, "01000214 00001000 00004000 30204600 01000000 00e00000"), SERIAL,
    )  # fmt: skip


def test_everything_reads_as_given() -> None:
    built = full()
    function = built.function(CARD)
    assert function.config.data.hex() == function.spec.config
    assert (function.pm, function.msi, function.exp, function.aer, function.prefix_log) == (0xC8, 0xD0, 0xE0, 0x100, 0)


@pytest.mark.parametrize(
    ("offset", "size", "want"),
    [
        (HEADER.VENDOR_ID, 4, 0),
        (HEADER.COMMAND, 2, 0x0547),
        (0x10, 4, 0xFFF00000),  # 32-bit memory BAR at fc100000: at most 1 MiB
        (0x14, 4, 0xFF000000),  # lower half of a 64-bit BAR
        (0x18, 4, 0xFFFFFFFF),  # its upper half
        (0x1C, 4, 0xFFFFFF00),  # I/O: at most 256 bytes
        (0x20, 4, 0),  # no BAR
        (0xC8 + PM.CTRL, 2, 3),
        (0xD0 + MSI.FLAGS, 2, 0x71),
        (0xD0 + MSI.MASK, 4, 0x0000),  # 64-bit addresses without masks: Express begins there
        (0xA0 + MSIX.FLAGS, 2, 0xC000),
        (0xA0 + MSIX.TABLE, 4, 0),
        (0xE0 + EXP.DEVCTL, 2, 0x7FFF),
        (0xE0 + EXP.DEVCTL2, 2, 0x0000),  # version 1 ends before it, and AER's mask is there
        (0x100 + AER.COR_MASK, 4, 0xF1C1),
        (SERIAL[0] + 4, 4, 0),
    ],
)
def test_what_software_may_write(offset: int, size: int, want: int) -> None:
    config = full().function(CARD).config
    found = int.from_bytes(config.rw[offset : offset + size], "little")
    overlaps_aer = offset == 0xE0 + EXP.DEVCTL2
    assert found == (AER.UNCOR_MASK.rw & 0xFFFF if overlaps_aer else want)


def test_msi_with_32_bits() -> None:
    config = rig((0x34, "50"), (0x50, "0564 0001"), (0x64, "1000 0200")).function(CARD).config
    assert int.from_bytes(config.rw[0x50 + MSI32.DATA : 0x52 + MSI32.DATA], "little") == 0xFFFF
    assert int.from_bytes(config.rw[0x50 + MSI32.MASK : 0x54 + MSI32.MASK], "little") == 0xFFFFFFFF
    assert int.from_bytes(config.rw[0x64 : 0x64 + EXP.DEVCTL], "little") == 0


def test_a_reset_leaves_what_is_read_only() -> None:
    built = full()
    function = built.function(CARD)
    before = bytes(function.config.data)
    built.set(CARD, EXP.DEVCTL, EXP_DEVCTL_FLR)
    built.clock.time += 200 * MS
    assert built.get(CARD, HEADER.VENDOR_ID) == 0x8086
    assert built.get(CARD, HEADER.COMMAND) == 0
    assert not function.memory_enabled(0)
    function.config.write(0x10, 4, 0xFC100000)
    function.config.write(HEADER.COMMAND, 2, COMMAND_MEMORY)
    assert function.memory_enabled(0)
    changed = [offset for offset in range(0x40, 4096) if function.config.data[offset] != before[offset]]
    assert changed == [0xA0 + MSIX.FLAGS + 1]  # MSI-X was on


def test_a_header_log_does_not_overwrite_the_next_capability() -> None:
    """82574L and many others: 40 bytes after the begin of AER comes the serial number."""
    built = full()
    built.set(CARD, AER.UNCOR_STATUS, 0xFFFFFFFF)
    built.inject(CARD, uncor=1 << 18, header=(1, 2, 3, 4))
    data = built.function(CARD).config.data
    assert data[0x100 + AER.HEADER_LOG : 0x12C].hex() == "01000000020000000300000004000000"
    assert data[0x138:0x140] == bytes(8)
    assert data[SERIAL[0] : SERIAL[0] + 12] == bytes.fromhex(SERIAL[1])


def test_bits_that_matter_come_from_the_image() -> None:
    """No FLR in Device Capabilities: writing the bit does nothing."""
    built = rig((0x34, "40"), (0x40, "1000 0200"))
    built.set(CARD, EXP.DEVCTL, EXP_DEVCTL_FLR)
    assert built.resets == []


def test_registers_of_the_host_file_come_last() -> None:
    built = rig(
        (0x34, "40"), (0x40, "1000 0200"), (0x100, "01000200"),
        registers={"aer_cor_mask": 0x2000, "command": 0x6},
    )  # fmt: skip
    assert built.get(CARD, AER.COR_MASK) == 0x2000
    assert built.get(CARD, HEADER.COMMAND) == 0x6


def port_image(buses: str) -> str:
    return image(
        (0, "361b0c00 0700 1000 00000406 00000100"),
        (0x18, buses),
        (0x34, "40"),
        (0x40, "1000 4200"),
        (0x100, "01000200"),
    )


@pytest.mark.parametrize(("buses", "want"), [("000101", (1, 1)), ("000000", (1, 2))])
def test_a_port_without_bus_numbers_gets_those_of_the_host(buses: str, want: tuple[int, int]) -> None:
    ports = [FunctionSpec(ROOT, "root_port", "", 1, 2, config=port_image(buses)), FunctionSpec(CARD, "endpoint", ROOT)]
    built = Rig(ports)
    assert (built.get(ROOT, TYPE1.SECONDARY_BUS), built.get(ROOT, TYPE1.SUBORDINATE_BUS)) == want
    assert built.hierarchy.read(Sbdf.parse(CARD), 0, 4) == 0x10411AF4


def test_a_conventional_function_has_no_extended_capabilities() -> None:
    function = rig((0x34, "40"), (0x40, "0100"), (0x100, "01000200")).function(CARD)
    assert (function.pm, function.exp, function.aer) == (0x40, 0, 0)
