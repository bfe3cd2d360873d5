"""Reads and writes by byte lanes, masks, hooks, reset."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dom0_pciback.pcie.config_space import ConfigSpace
from protocol.layout_aer import AER
from protocol.layout_pcie import EXP
from protocol.layout_pm import PM
from protocol.registers import Layout, Reg


class SAMPLE(Layout, length=0x10):
    """One register of each sort."""

    PLAIN = Reg(0x0, rw=0x0FF00FF0, reset=0x12345678)
    EVENTS = Reg(0x4, w1c=0x00FF00FF, reset=0xFFFFFFFF, sticky=True)
    CONTROL = Reg(0x8, 2, rw=0xFFFF)
    STATUS = Reg(0xA, 2, w1c=0x000F, reset=0x000F, sticky=True)


@pytest.fixture
def space() -> ConfigSpace:
    config = ConfigSpace()
    config.add(SAMPLE, 0x80, "endpoint", {})
    return config


@pytest.mark.parametrize(
    ("offset", "size", "value", "dword", "want"),
    [
        (0x80, 4, 0xFFFFFFFF, 0x80, 0x1FF45FF8),  # rw bits take it, the others keep theirs
        (0x80, 4, 0, 0x80, 0x10045008),
        (0x81, 1, 0xFF, 0x80, 0x12345F78),  # one lane
        (0x82, 2, 0x0000, 0x80, 0x10045678),
        (0x84, 4, 0xFFFFFFFF, 0x84, 0xFF00FF00),  # write one clears, elsewhere nothing
        (0x84, 4, 0, 0x84, 0xFFFFFFFF),
        (0x86, 1, 0x0F, 0x84, 0xFFF0FFFF),
        (0x88, 2, 0xABCD, 0x88, 0x000FABCD),  # a word beside an event register clears nothing in it
        (0x8A, 2, 0x0003, 0x88, 0x000C0000),
        (0x8C, 4, 0xFFFFFFFF, 0x8C, 0),  # reserved
    ],
)
def test_write_by_lanes(space: ConfigSpace, offset: int, size: int, value: int, dword: int, want: int) -> None:
    space.write(offset, size, value)
    assert space.read(dword, 4) == want


@given(value=st.integers(0, 0xFFFFFFFF), second=st.integers(0, 0xFFFFFFFF))
def test_dword_write_equals_four_byte_writes(value: int, second: int) -> None:
    whole, lanes = ConfigSpace(), ConfigSpace()
    for config in (whole, lanes):
        config.add(SAMPLE, 0, "endpoint", {})
    for offset, dword in ((0, value), (4, second), (8, value)):
        whole.write(offset, 4, dword)
        for lane in range(4):
            lanes.write(offset + lane, 1, dword >> 8 * lane & 0xFF)
    assert whole.data == lanes.data


def test_reads_of_every_size(space: ConfigSpace) -> None:
    assert [space.read(0x80, 4), space.read(0x82, 2), space.read(0x83, 1)] == [0x12345678, 0x1234, 0x12]


@pytest.mark.parametrize(("offset", "size"), [(1, 2), (2, 4), (0, 3), (0, 8), (4096, 1), (-4, 4), (4094, 4)])
def test_misaligned_or_out_of_range_access_is_refused(space: ConfigSpace, offset: int, size: int) -> None:
    with pytest.raises(ValueError, match="not aligned or out of range"):
        space.read(offset, size)
    with pytest.raises(ValueError, match="not aligned or out of range"):
        space.write(offset, size, 0)


def test_hook_gets_bits_in_their_place(space: ConfigSpace) -> None:
    seen: list[tuple[int, int, int]] = []
    space.hooks[0x88] = lambda old, new, value: seen.append((old, new, value))
    space.write(0x8A, 2, 0x8001)
    space.write(0x80, 4, 0)
    assert seen == [(0x000F0000, 0x000E0000, 0x80010000)]


def test_reset_keeps_sticky_and_restores_the_rest(space: ConfigSpace) -> None:
    space.write(0x80, 4, 0)
    space.write(0x84, 4, 0x000000FF)
    space.write(0x88, 4, 0x0001FFFF)
    space.reset()
    assert [space.read(offset, 4) for offset in (0x80, 0x84, 0x88)] == [0x12345678, 0xFFFFFF00, 0x000E0000]


def test_capability_lists_are_chained() -> None:
    config = ConfigSpace()
    config.add_capabilities([(PM, 0x40), (EXP, 0x70), (AER, 0x100), (AER, 0x200)])
    assert config.read(0x34, 1) == 0x40
    assert (config.read(0x40, 2), config.read(0x70, 2)) == (0x7001, 0x0010)
    assert (config.read(0x100, 4), config.read(0x200, 4)) == (0x20020001, 0x00020001)
    config.reset()
    assert (config.read(0x40, 2), config.read(0x100, 4)) == (0x7001, 0x20020001)


def test_register_of_another_kind_reads_zero() -> None:
    config = ConfigSpace()
    config.add(AER, 0x100, "endpoint", {})
    config.write(0x100 + AER.ROOT_COMMAND, 4, 7)
    assert config.read(0x100 + AER.ROOT_COMMAND, 4) == 0
