"""The field tables against section 6 of xen-pci.md, row by row: 6.2 and 6.5, with and without permissive mode."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from dom0_pciback.pciback.conf_capability import capability_fields
from dom0_pciback.pciback.conf_header import HEADER_FIELDS
from dom0_pciback.pciback.stub import PcistubDevice, read_resources
from protocol.layout_header import COMMAND_IO, COMMAND_MEMORY, HEADER
from tests.dom0_pciback.pciback.conf_fake import AER, COMMAND, MSI, MSIX, PCIE, PM, VPD, Rig
from tests.dom0_pciback.pciback.pair import Pair

# What a write does: reaches the hardware; is a field without write; has no field (CFG-4); a rule of its own.
WRITTEN, IGNORED, DROPPED, SPECIAL = "written", "ignored", "dropped", "special"


class Row(NamedTuple):
    name: str
    offset: int
    size: int
    write: str


ROWS = (
    Row("vendor", 0x00, 2, IGNORED),
    Row("device", 0x02, 2, IGNORED),
    Row("command", COMMAND, 2, SPECIAL),
    Row("status", 0x06, 2, DROPPED),
    Row("revision", 0x08, 1, DROPPED),
    Row("programming interface", 0x09, 1, DROPPED),
    Row("class", 0x0A, 2, DROPPED),
    Row("cache line size", 0x0C, 1, WRITTEN),
    Row("latency timer", 0x0D, 1, IGNORED),
    Row("header type", 0x0E, 1, DROPPED),
    Row("BIST", 0x0F, 1, SPECIAL),
    *(Row(f"BAR {n}", 0x10 + 4 * n, 4, IGNORED) for n in range(6)),
    Row("CardBus CIS", 0x28, 4, DROPPED),
    Row("subsystem", 0x2C, 4, DROPPED),
    Row("ROM", 0x30, 4, IGNORED),
    Row("capability pointer", 0x34, 1, DROPPED),
    Row("reserved", 0x38, 4, DROPPED),
    Row("interrupt line", 0x3C, 1, IGNORED),
    Row("interrupt pin", 0x3D, 1, IGNORED),
    Row("minimum grant", 0x3E, 1, DROPPED),
    Row("maximum latency", 0x3F, 1, DROPPED),
    *(Row(f"id and next of {base:x}", base, 2, IGNORED) for base in (VPD, PM, MSI, MSIX)),
    Row("VPD address", VPD + 2, 2, WRITTEN),
    Row("VPD data", VPD + 4, 4, IGNORED),
    Row("PM capabilities", PM + 2, 2, IGNORED),
    Row("PM control", PM + 4, 2, SPECIAL),
    Row("PM bridge extensions", PM + 6, 1, IGNORED),
    Row("PM data", PM + 7, 1, IGNORED),
    Row("MSI flags", MSI + 2, 2, SPECIAL),
    Row("MSI address", MSI + 4, 4, DROPPED),
    Row("MSI-X flags", MSIX + 2, 2, SPECIAL),
    Row("MSI-X table", MSIX + 4, 4, DROPPED),
    Row("id and next of PCI Express", PCIE, 2, DROPPED),
    Row("Device Control", PCIE + 8, 2, DROPPED),
    Row("Device Status", PCIE + 10, 2, DROPPED),
    Row("Link Control", PCIE + 16, 2, DROPPED),
    Row("id of AER", AER, 4, DROPPED),
    Row("AER status", AER + 4, 4, DROPPED),
    Row("AER mask", AER + 8, 4, DROPPED),
    Row("AER severity", AER + 12, 4, DROPPED),
    Row("another extended capability", 0x200, 4, DROPPED),
)
PLAIN = [row for row in ROWS if row.write != SPECIAL]
VALUE = 0x0000_0155  # a VPD address to read, no sizing, no BAR's own value


def names(rows: list[Row]) -> list[str]:
    return [row.name for row in rows]


def test_6_the_tables_have_these_fields_and_no_others() -> None:
    fields = (*HEADER_FIELDS[0], *capability_fields(Rig().space.capabilities))
    wanted = {(row.offset, row.size) for row in ROWS if row.write != DROPPED}
    assert {(field.offset, field.size) for field in fields} == wanted
    writable = {(field.offset, field.size) for field in fields if field.write is not None}
    bars = {(row.offset, row.size) for row in ROWS if row.name.startswith("BAR") or row.name == "ROM"}
    assert writable == {(row.offset, row.size) for row in ROWS if row.write in (WRITTEN, SPECIAL)} | bars


@pytest.mark.parametrize("hardened", [False, True])
@pytest.mark.parametrize("row", PLAIN, ids=names(PLAIN))
def test_6_a_write_without_permissive_mode(row: Row, hardened: bool) -> None:
    rig = Rig(hardened=hardened)
    assert rig.write(row.offset, row.size, VALUE) == 0
    assert bool(rig.hw.log) == (row.write == WRITTEN)
    assert bool(rig.warnings) == (row.write == DROPPED)


@pytest.mark.parametrize("row", PLAIN, ids=names(PLAIN))
def test_6_a_write_in_permissive_mode(row: Row) -> None:
    rig = Rig(permissive=True)
    assert rig.write(row.offset, row.size, VALUE) == 0
    assert bool(rig.hw.log) == (row.write in (WRITTEN, DROPPED)), "no mode lifts what a field forbids"
    assert rig.warnings == []


# Reads that are not the hardware's: cached by dom0, filtered, or virtual (6.2, 6.4, 6.5).
COVERED = {"vendor", "device", "command", "interrupt line", "PM capabilities", "ROM", *(f"BAR {n}" for n in range(6))}


@pytest.mark.parametrize("row", ROWS, ids=names(list(ROWS)))
def test_6_what_a_read_shows(row: Row) -> None:
    rig = Rig()
    hardware = 0xA5A5_A5A5 & (1 << 8 * row.size) - 1
    rig.hw.poke(row.offset, row.size, hardware)
    assert (rig.value(row.offset, row.size) == hardware) == (row.name not in COVERED)


# -- what dom0 knows of a device (6.3 step 1, 6.4) -------------------------------------------------
def test_6_4_a_64_bit_bar_is_one_resource() -> None:
    """As an imported device may have it: I/O in BAR 0, 64 bits from BAR 2 on, each sized through its registers."""
    pair = Pair()
    dev = pair.psdev.dev
    config = pair.hierarchy.functions[dev.sbdf].config
    bars = ((0, 0xE001, 0xFFE0), (2, 0x0000_000C, 0xFFFF_C000), (3, 0x38, 0xFFFF_FFFF))
    for bar, value, writable in bars:
        config.poke(0x10 + 4 * bar, 4, value)
        config.allow(0x10 + 4 * bar, 4, writable)
    found = read_resources(pair.core, dev)
    assert found[0] == (0xE000, 0x20, 0x1)
    assert found[2:4] == ((0x38_0000_0000, 0x4000, 0xC), (0, 0, 0))
    conf = PcistubDevice(pair.core, dev, 9, hardened=True).conf
    assert [conf.read(0x10 + 4 * bar, 4)[1] for bar in (0, 2, 3)] == [0xE001, 0x0000_000C, 0x38]
    conf.write(0x1C, 4, 0xFFFF_FFFF)
    assert conf.read(0x1C, 4)[1] == 0xFFFF_FFFF


@pytest.mark.parametrize(("bar", "decoding"), [(0xE001, COMMAND_IO), (0xFE00_0000, COMMAND_MEMORY)])
def test_6_3_step_1_dom0_enables_the_decodings_it_has_resources_for(bar: int, decoding: int) -> None:
    pair = Pair()
    config = pair.hierarchy.functions[pair.psdev.dev.sbdf].config
    config.poke(0x10, 4, bar)
    config.allow(0x10, 4, 0xFFFF_FFE0)
    psdev = PcistubDevice(pair.core, pair.psdev.dev, 9, hardened=True)
    psdev.access.write(HEADER.COMMAND, 2, 0)
    assert psdev.conf.write(HEADER.COMMAND, 2, COMMAND_IO | COMMAND_MEMORY) == 0
    assert psdev.access.read(HEADER.COMMAND, 2) & (COMMAND_IO | COMMAND_MEMORY) == decoding
