"""Guest memory: allocation, bounds, and what devices may reach."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domu_pcifront.memory import PAGE, GuestMemory


def test_blocks_are_aligned_zeroed_and_apart() -> None:
    memory = GuestMemory(0x10000)
    first = memory.alloc(3)
    memory.write(first, b"abc")
    second = memory.alloc(100, 256)
    assert first == PAGE
    assert second % 256 == 0
    assert second >= first + 3
    assert memory.read(first, 3) == b"abc"
    memory.free(first)
    assert memory.read(memory.alloc(3), 3) == b"\0\0\0"


def test_exhaustion_and_double_free_are_errors() -> None:
    memory = GuestMemory(64)
    block = memory.alloc(64)
    with pytest.raises(MemoryError):
        memory.alloc(1)
    memory.free(block)
    with pytest.raises(ValueError, match="not allocated"):
        memory.free(block)
    with pytest.raises(ValueError):
        memory.alloc(0)


@pytest.mark.parametrize(("address", "length"), [(0, 1), (PAGE - 1, 2), (PAGE + 60, 5), (1 << 63, 1), (PAGE, -1)])
def test_outside_is_refused_and_counted(address: int, length: int) -> None:
    memory = GuestMemory(64)
    with pytest.raises(ValueError):
        memory.read(address, length)
    assert memory.dma_read(address, length) is None
    if length > 0:
        assert not memory.dma_write(address, bytes(length))
        with pytest.raises(ValueError):
            memory.view(address, length)
    assert memory.refused == (2 if length > 0 else 1)


def test_a_view_is_the_memory_itself() -> None:
    memory = GuestMemory(64)
    block = memory.alloc(4)
    view = memory.view(block, 4)
    assert memory.dma_write(block, b"wxyz")
    assert bytes(view) == b"wxyz"
    view[0] = ord("q")
    assert memory.dma_read(block, 4) == b"qxyz"


@given(st.lists(st.tuples(st.integers(1, 300), st.sampled_from([1, 16, 64]), st.booleans()), max_size=40))
def test_any_sequence_of_allocations_gives_all_memory_back(steps: list[tuple[int, int, bool]]) -> None:
    memory = GuestMemory(4096)
    blocks: dict[int, int] = {}
    for size, align, release in steps:
        if release and blocks:
            address = next(iter(blocks))
            del blocks[address]
            memory.free(address)
        try:
            address = memory.alloc(size, align)
        except MemoryError:
            continue
        assert all(address + size <= other or other + length <= address for other, length in blocks.items())
        blocks[address] = size
    for address in blocks:
        memory.free(address)
    assert memory.alloc(4096, 1) == PAGE
