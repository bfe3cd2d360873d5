"""Header fields, Command register, BARs and ROM (xen-pci.md 6.2 to 6.4, errata S3 to S5)."""

from __future__ import annotations

import pytest

from dom0_pciback.pciback.conf_space import ConfSpace, Resource
from tests.dom0_pciback.pciback.conf_fake import COMMAND, RESOURCES, FakeDevice, Rig


# -- 6.2 -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("offset", "size", "hardware", "seen"),
    [
        (0x00, 2, 0xFFFF, 0x1AF4),
        (0x02, 2, 0xFFFF, 0x1041),
        (0x06, 2, 0x4010, 0x4010),
        (0x08, 1, 0x07, 0x07),
        (0x0C, 1, 0x20, 0x20),
        (0x0D, 1, 0x33, 0x33),
        (0x0E, 1, 0x80, 0x80),
        (0x0F, 1, 0x80, 0x80),
        (0x2C, 4, 0x1100_1AF4, 0x1100_1AF4),
        (0x3C, 1, 0xFF, 0x14),
        (0x3D, 1, 0x02, 0x02),
    ],
)
def test_6_2_read(offset: int, size: int, hardware: int, seen: int) -> None:
    rig = Rig()
    rig.hw.poke(offset, size, hardware)
    assert rig.value(offset, size) == seen


@pytest.mark.parametrize(("offset", "size"), [(0x00, 2), (0x02, 2), (0x0D, 1), (0x3C, 1), (0x3D, 1)])
def test_6_2_ignored_writes_have_no_effect_even_if_permissive(offset: int, size: int) -> None:
    rig = Rig(permissive=True)
    assert rig.write(offset, size, 0x55) == 0
    assert rig.hw.log == []


@pytest.mark.parametrize(("offset", "size"), [(0x06, 2), (0x08, 1), (0x09, 1), (0x0A, 2), (0x0E, 1), (0x2C, 4)])
def test_6_2_dropped_writes(offset: int, size: int) -> None:
    rig = Rig()
    assert rig.write(offset, size, 0x55) == 0
    assert rig.hw.log == []
    assert len(rig.warnings) == 1


def test_6_2_cache_line_size_is_written() -> None:
    rig = Rig()
    assert rig.write(0x0C, 1, 0x10) == 0
    assert rig.hw.log == [("write", 0x0C, 1, 0x10)]


@pytest.mark.parametrize(
    ("now", "value", "written"), [(0x80, 0xC0, True), (0x80, 0x80, True), (0x80, 0x40, True), (0x80, 0x81, False)]
)
def test_6_2_bist(now: int, value: int, written: bool) -> None:
    rig = Rig()
    rig.hw.poke(0x0F, 1, now)
    assert rig.write(0x0F, 1, value) == 0
    assert rig.hw.log == ([("write", 0x0F, 1, value)] if written else [])


# -- 6.3 -------------------------------------------------------------------------------------------
def test_6_3_step_1_decoding_is_switched_by_dom0_as_one() -> None:
    rig = Rig()
    assert rig.write(COMMAND, 2, 0x0002) == 0
    assert rig.hw.log == [("enable",)]
    assert (rig.space.enabled, rig.space.enable_intx) == (True, True)
    rig.write(COMMAND, 2, 0x0001)
    assert rig.hw.log == [("enable",)]
    rig.write(COMMAND, 2, 0x0000)
    assert rig.hw.log == [("enable",), ("disable",)]
    assert (rig.space.enabled, rig.space.enable_intx) == (False, False)


def test_6_3_step_1_error_is_returned_and_nothing_else_happens() -> None:
    rig = Rig()
    rig.hw.enable_error = -22
    assert rig.write(COMMAND, 2, 0x0107) == -22
    assert rig.hw.log == [("enable",)]
    assert (rig.space.command, rig.space.enabled) == (0x0103, False)


def test_6_3_step_2_bus_master_goes_through_the_pci_core() -> None:
    rig = Rig()
    rig.write(COMMAND, 2, 0x0107)
    rig.write(COMMAND, 2, 0x0107)
    rig.write(COMMAND, 2, 0x0103)
    assert rig.hw.log == [("enable",), ("master", True), ("master", False)]


def test_6_3_step_2_disabling_takes_bus_mastering_away() -> None:
    rig = Rig()
    rig.write(COMMAND, 2, 0x0107)
    rig.hw.log.clear()
    rig.write(COMMAND, 2, 0x0004)
    assert rig.hw.log == [("disable",), ("master", True)]


def test_6_3_step_3_invalidate() -> None:
    rig = Rig()
    rig.write(COMMAND, 2, 0x0110)
    assert rig.hw.peek(COMMAND, 2) == 0x0113
    assert rig.hw.peek(0x0C, 1) == 16
    rig.write(COMMAND, 2, 0x0100)
    assert rig.hw.peek(COMMAND, 2) == 0x0103


def test_6_3_step_3_refused_invalidate_is_taken_out_of_the_value() -> None:
    class NoCacheLine(FakeDevice):
        def write(self, offset: int, size: int, value: int) -> None:
            if offset != 0x0C:
                super().write(offset, size, value)

    rig = Rig(NoCacheLine())
    assert rig.write(COMMAND, 2, 0x0110) == 0
    assert rig.warnings == ["cannot enable memory-write-invalidate (-22)"]
    assert rig.space.command == 0x0100


@pytest.mark.parametrize(("allowed", "hardware"), [(False, 0x0103), (True, 0x0503)])
def test_6_3_step_4_intx_needs_interrupt_control(allowed: bool, hardware: int) -> None:
    rig = Rig()
    rig.space.allow_interrupt_control = allowed
    rig.write(COMMAND, 2, 0x0503)
    assert rig.hw.peek(COMMAND, 2) == hardware
    assert rig.value(COMMAND, 2) == 0x0503  # the guest sees what it wrote (step 5)


def test_6_3_step_5_not_permissive_writes_nothing() -> None:
    rig = Rig()
    rig.write(COMMAND, 2, 0x01EB)
    assert ("write", COMMAND, 2) not in [entry[:3] for entry in rig.hw.log]


def test_6_3_step_6_permissive_writes_the_guest_bits_only() -> None:
    rig = Rig(permissive=True)
    rig.hw.poke(COMMAND, 2, 0x0000)
    rig.write(COMMAND, 2, 0x03EF)
    assert rig.hw.peek(COMMAND, 2) == 0x02AC  # no SERR, no PARITY, no decoding


def test_S4_S5_command_across_a_bus_reset() -> None:
    rig = Rig(permissive=True)
    rig.write(COMMAND, 2, 0x0107)
    rig.hw.poke(COMMAND, 2, 0x0107)
    assert rig.value(COMMAND, 2) == 0x0107
    rig.hw.poke(COMMAND, 2, 0x0000)
    rig.hw.log.clear()
    assert rig.value(COMMAND, 2) == 0x0103
    rig.write(COMMAND, 2, 0x0107)
    assert rig.hw.log == [("write", COMMAND, 2, 0x0004)]
    assert rig.value(COMMAND, 2) == 0x0107


# -- 6.4 -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("offset", "address", "length"),
    [
        (0x10, 0x0000_E001, 0xFFFF_FFE1),
        (0x14, 0xFE00_0000, 0xFFFF_F000),
        (0x18, 0, 0),
        (0x20, 0x0000_000C, 0xFFFF_C00C),
        (0x24, 0x0000_0038, 0xFFFF_FFFF),
        (0x30, 0xFE10_0000, 0xFFFC_0000),
    ],
)
def test_6_4_address_and_sizing(offset: int, address: int, length: int) -> None:
    rig = Rig()
    rig.hw.poke(offset, 4, 0x5A5A_5A5A)
    assert rig.value(offset, 4) == address  # never the hardware's
    assert rig.write(offset, 4, 0xFFFF_FFFF) == 0
    assert rig.value(offset, 4) == length
    assert rig.write(offset, 4, 0x1000) == 0
    assert rig.value(offset, 4) == address
    assert rig.hw.log == []


@pytest.mark.parametrize(
    ("offset", "value", "sizing"),
    [
        (0x10, 0xFFFF_FFFC, True),
        (0x10, 0xFFFF_FFF0, False),
        (0x14, 0xFFFF_FFF0, True),
        (0x14, 0xFFFF_FF00, False),
        (0x24, 0xFFFF_FFFF, True),
        (0x24, 0xFFFF_FFF0, False),
        (0x30, 0xFFFF_F800, True),
        (0x30, 0xFFFF_F000, False),
    ],
)
def test_6_4_what_counts_as_sizing(offset: int, value: int, sizing: bool) -> None:
    rig = Rig()
    rig.write(offset, 4, value)
    assert rig.space.bars[offset].sizing is sizing


def test_6_4_a_bar_is_repaired_only_with_its_own_value() -> None:
    rig = Rig()
    rig.hw.poke(0x14, 4, 0)
    rig.write(0x14, 4, 0xFD00_0000)
    assert rig.hw.log == []
    rig.write(0x14, 4, 0xFE00_0000)
    rig.write(0x14, 4, 0xFE00_0000)
    assert rig.hw.log == [("write", 0x14, 4, 0xFE00_0000)]


def test_6_4_bytewise_sizing_does_not_work() -> None:
    rig = Rig()
    for i in range(4):
        rig.write(0x14 + i, 1, 0xFF)
    assert rig.value(0x14, 4) == 0xFE00_0000


@pytest.mark.parametrize("flags", [1 << 28, 1 << 29, 1 << 31])
def test_6_4_unset_disabled_and_busy_resources_read_zero(flags: int) -> None:
    resources = (Resource(0xE000, 0x20, 0x101 | flags), *RESOURCES[1:])
    space = ConfSpace(FakeDevice(), resources=resources, irq=0, hardened=True, warn=print)
    assert space.read(0x10, 4) == (0, 0)
    space.write(0x10, 4, 0xFFFF_FFFF)
    assert space.read(0x10, 4) == (0, 0)


def test_6_2_type_1_header_has_two_bars_and_its_rom_elsewhere() -> None:
    rig = Rig(FakeDevice(header_type=1))
    rig.hw.poke(0x18, 4, 0x0003_0201)
    assert rig.value(0x18, 4) == 0x0003_0201  # bus numbers, not a BAR
    assert rig.value(0x38, 4) == 0xFE10_0000
    assert rig.value(0x14, 4) == 0xFE00_0000
    assert sorted(rig.space.bars) == [0x10, 0x14, 0x38]
