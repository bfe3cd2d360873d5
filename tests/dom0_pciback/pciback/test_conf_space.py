"""Access rules of the virtual configuration space (xen-pci.md 6.1, hostile requests X4 to X7, X47)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dom0_pciback.pciback.conf_quirks import parse_quirk
from dom0_pciback.pciback.conf_space import ConfSpace
from tests.dom0_pciback.pciback.conf_fake import AER, CAPABILITIES, COMMAND, MSI, PCIE, PM, RESOURCES, FakeDevice, Rig

INVALID = -2


@pytest.mark.parametrize("size", [0, 3, 8, -1, -0x8000_0000])
def test_cfg_1_X4_size(size: int) -> None:
    rig = Rig(hardened=False)
    assert rig.space.read(0, size) == (INVALID, 0)
    assert rig.write(0, size, 0) == INVALID


@pytest.mark.parametrize(("offset", "size"), [(1, 2), (2, 4), (3, 2), (-1, 2), (0x105, 4)])
def test_cfg_1_X5_alignment(offset: int, size: int) -> None:
    rig = Rig(hardened=False)
    assert rig.space.read(offset, size) == (INVALID, 0)
    assert rig.write(offset, size, 0) == INVALID


@pytest.mark.parametrize("offset", [-4, -0x8000_0000, 4096, 0x7FFF_FFFC])
def test_cfg_1_X6_X7_hardened_refuses_offsets_outside(offset: int) -> None:
    rig = Rig(permissive=True)
    assert rig.space.read(offset, 4) == (INVALID, 0)
    assert rig.write(offset, 4, 0) == INVALID
    assert rig.hw.log == []


def test_cfg_1_the_space_of_a_conventional_device_ends_at_256() -> None:
    rig = Rig(FakeDevice(capabilities=CAPABILITIES[:-1]))
    assert rig.space.read(252, 4) == (0, 0)
    assert rig.space.read(256, 4) == (INVALID, 0)
    assert Rig().value(4092, 4) == 0


def test_X7_linux_says_all_ones_and_a_raw_errno() -> None:
    rig = Rig(hardened=False)
    assert rig.space.read(4096, 2) == (-22, 0xFFFF)
    conventional = Rig(FakeDevice(capabilities=()), hardened=False)
    assert conventional.space.read(0x100, 4) == (0, 0xFFFF_FFFF)


def test_X6_linux_drops_a_negative_write_unless_permissive() -> None:
    rig = Rig(hardened=False)
    assert rig.write(-4, 4, 1) == 0
    assert len(rig.warnings) == 1
    rig.space.permissive = True
    assert rig.write(4096, 4, 1) == -22
    assert rig.write(-4, 4, 1) == 0
    assert rig.hw.log == []


def test_cfg_2_fields_cover_their_bytes_of_a_hardware_read() -> None:
    rig = Rig()
    rig.hw.poke(0x3C, 4, 0x0807_01FF)
    assert rig.value(0x3C, 4) == 0x0807_0114  # line from dom0's irq, pin and the rest from the hardware
    rig.hw.poke(COMMAND, 4, 0x0010_0000)
    assert rig.value(COMMAND, 4) == 0x0010_0103  # Command virtual, Status from the hardware
    assert rig.value(COMMAND + 1, 1) == 0x01
    assert rig.value(PM, 4) == 0x0003_6001  # two fields in one request


def test_cfg_2_two_fields_make_one_dword() -> None:
    rig = Rig()
    rig.hw.poke(0, 4, 0xFFFF_FFFF)
    assert rig.value(0, 4) == 0x1041_1AF4  # both cached: a virtual function has no ids of its own
    assert rig.value(2, 1) == 0x41
    assert rig.value(3, 1) == 0x10


def test_cfg_3_written_bytes_are_merged_with_the_virtual_value() -> None:
    rig = Rig()
    rig.space.command = 0x0000
    assert rig.write(COMMAND + 1, 1, 0x04) == 0
    assert rig.space.command == 0x0400
    assert rig.write(COMMAND, 1, 0x40) == 0
    assert rig.space.command == 0x0440


def test_cfg_3_every_field_in_the_request_gets_its_bytes() -> None:
    rig = Rig()
    assert rig.write(0x0C, 4, 0x0000_5508) == 0
    assert rig.hw.peek(0x0C, 1) == 0x08  # cache line size is written
    assert rig.hw.peek(0x0D, 1) == 0x00  # latency timer is ignored


def test_cfg_3_the_error_of_any_field_is_the_answer() -> None:
    rig = Rig()
    rig.hw.power_error = -5
    assert rig.write(PM + 4, 4, 3) == -3  # the fields at +6 and +7 ignore the write with success


def test_cfg_4_a_write_without_field_is_dropped_with_one_warning() -> None:
    rig = Rig()
    assert rig.write(0x90, 4, 1) == 0
    assert rig.write(0x94, 2, 1) == 0
    assert rig.hw.log == []
    expected = "Driver tried to write to a read-only configuration space field at offset 0x90, size 4."
    assert len(rig.warnings) == 1
    assert rig.warnings[0].startswith(expected)


def test_cfg_4_S6_permissive_writes_reach_the_hardware() -> None:
    rig = Rig(permissive=True)
    assert rig.write(PCIE + 8, 2, 0x000F) == 0
    assert rig.write(AER + 4, 4, 0x8000) == 0
    assert rig.hw.log == [("write", PCIE + 8, 2, 0x000F), ("write", AER + 4, 4, 0x8000)]
    assert rig.warnings == []


def test_cfg_5_bytes_beside_a_field_are_lost_even_if_permissive() -> None:
    rig = Rig(permissive=True)
    assert rig.write(COMMAND, 4, 0xFFFF_0103) == 0
    assert rig.hw.peek(0x06, 2) == 0x0010


def test_cfg_5_X47_header_type_in_a_dword_with_fields_is_never_written() -> None:
    rig = Rig(permissive=True)
    assert rig.write(0x0C, 4, 0x0081_0000) == 0
    assert rig.hw.peek(0x0E, 1) == 0


def test_cfg_6_a_field_strictly_inside_the_request_counts() -> None:
    rig = Rig()
    rig.space.add_quirk(parse_quirk("0000:01:00.0-91:1:ff"))
    assert rig.write(0x90, 4, 0x4433_2211) == 0
    assert rig.hw.log == [("write", 0x91, 1, 0x22)]
    assert rig.warnings == []


def test_cfg_6_a_neighbour_in_the_same_dword_does_not_count() -> None:
    rig = Rig(permissive=True)
    assert rig.write(0x0E, 1, 0x80) == 0  # between latency timer and BIST
    assert rig.hw.log == [("write", 0x0E, 1, 0x80)]


def test_cfg_7_reads_without_field_go_through() -> None:
    rig = Rig()
    rig.hw.poke(AER + 4, 4, 0x0000_8000)
    assert rig.value(AER, 4) == 0x1401_0001
    assert rig.value(AER + 4, 4) == 0x8000
    assert rig.value(0x08, 4) == 0x0200_0001


@pytest.mark.parametrize(
    ("offset", "size", "value"),
    [
        (0x10, 4, 0x1234_0000),
        (0x24, 4, 0x39),
        (0x30, 4, 0x1234_0001),
        (0x0E, 1, 0x01),
        (0x34, 1, 0x00),
        (MSI, 2, 0x0005),
        (PM, 4, 0xFFFF_FFFF),
        (AER + 4, 4, 0xFFFF_FFFF),
        (AER + 8, 4, 0x0240_0000),
        (PCIE + 8, 2, 0x8000),  # Device Control: start of an FLR
        (PCIE + 0x10, 2, 0x0010),  # Link Control: link disable
    ],
)
def test_X47_dropped_with_success(offset: int, size: int, value: int) -> None:
    rig = Rig()
    assert rig.write(offset, size, value) == 0
    assert rig.hw.log == []


def test_6_7_quirk_is_a_pass_through_field_until_the_put_back() -> None:
    rig = Rig()
    rig.space.add_quirk(parse_quirk("0000:01:00.0-90:2:00ff"))
    assert rig.write(0x90, 2, 0xABCD) == 0
    assert rig.hw.peek(0x90, 2) == 0xABCD  # the mask is not applied
    rig.space.reset_fields()
    assert rig.write(0x90, 2, 0) == 0
    assert rig.hw.peek(0x90, 2) == 0xABCD


def test_6_7_a_quirk_at_the_offset_of_a_field_is_ignored() -> None:
    rig = Rig()
    rig.space.add_quirk(parse_quirk("0000:01:00.0-0:2:ffff"))
    assert rig.write(0, 2, 0x8086) == 0
    assert rig.hw.log == []


@pytest.mark.parametrize("keep", [False, True])
def test_reset_fields_forgets_the_last_guest_and_D24_keeps_permissive(keep: bool) -> None:
    rig = Rig(permissive=True)
    rig.space.allow_interrupt_control = True
    rig.write(0x10, 4, 0xFFFF_FFFF)
    rig.write(COMMAND, 2, 0x0507)
    rig.space.reset_fields(keep_permissive=keep)
    space = rig.space
    assert rig.value(0x10, 4) == 0xE001
    assert (space.command, space.enabled, space.bus_master, space.enable_intx) == (0x0103, False, False, False)
    assert not space.allow_interrupt_control
    assert space.permissive is keep


def test_an_unknown_header_type_is_refused() -> None:
    with pytest.raises(ValueError, match="header type 2"):
        ConfSpace(FakeDevice(header_type=2), resources=RESOURCES, irq=0, hardened=True, warn=print)


ANY_OFFSET = st.one_of(st.integers(0, 0x110), st.integers(-16, 4200))
ANY_SIZE = st.sampled_from([1, 2, 4, 0, 3, 8])
ANY_VALUE = st.one_of(st.integers(0, 0xFFFF_FFFF), st.just(0xFFFF_FFFF))


@given(offset=ANY_OFFSET, size=ANY_SIZE, hardened=st.booleans(), permissive=st.booleans())
def test_reads_never_change_hardware(offset: int, size: int, hardened: bool, permissive: bool) -> None:
    rig = Rig(hardened=hardened, permissive=permissive)
    before = bytes(rig.hw.memory)
    rig.space.read(offset, size)
    assert rig.hw.log == []
    assert bytes(rig.hw.memory) == before


# What a guest without permissive mode may write: cache line size, BIST, VPD address, PM control.
# Command goes through the PCI core, and its INVALIDATE bit is written there.
WRITABLE = {0x04, 0x05, 0x0C, 0x0F, 0x42, 0x43, PM + 4, PM + 5}


@given(requests=st.lists(st.tuples(ANY_OFFSET, ANY_SIZE, ANY_VALUE), max_size=8), hardened=st.booleans())
def test_writes_outside_fields_never_reach_hardware(requests: list[tuple[int, int, int]], hardened: bool) -> None:
    rig = Rig(hardened=hardened)
    before = bytes(rig.hw.memory)
    for offset, size, value in requests:
        rig.write(offset, size, value)
    changed = {i for i, (old, new) in enumerate(zip(before, rig.hw.memory, strict=True)) if old != new}
    assert changed <= WRITABLE
    assert (rig.hw.peek(COMMAND, 2) ^ 0x0103) & ~0x0010 == 0  # SERR, PARITY and decoding are never touched


@given(offset=st.integers(0, 1023).map(lambda dword: 4 * dword), value=ANY_VALUE)
def test_byte_reads_add_up_to_the_dword(offset: int, value: int) -> None:
    rig = Rig(permissive=True)
    rig.write(offset, 4, value)
    whole = rig.value(offset, 4)
    assert [rig.value(offset + i, 1) for i in range(4)] == list(whole.to_bytes(4, "little"))
