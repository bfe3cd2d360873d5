"""The part of a guest's memory that devices may reach: an allocator for drivers, a bounds check for DMA."""

from __future__ import annotations

from bisect import insort

PAGE = 0x1000


class GuestMemory:
    """``size`` bytes at guest address ``base`` (0 is no valid address). First fit; blocks are zeroed.

    ``refused`` counts DMA accesses outside: a real system would answer them with an IOMMU fault.
    """

    __slots__ = ("_blocks", "_data", "_free", "base", "refused", "size")

    def __init__(self, size: int = 1 << 20, base: int = PAGE) -> None:
        self.base = base
        self.size = size
        self.refused = 0
        self._data: bytearray | None = None  # made at first use: many guests have no device
        self._free: list[tuple[int, int]] = [(base, size)]  # sorted, never adjacent
        self._blocks: dict[int, int] = {}

    def alloc(self, size: int, align: int = 16) -> int:
        """``dma_alloc_coherent``: address of ``size`` zeroed bytes. Raises MemoryError when there is no room."""
        if size <= 0:
            raise ValueError(f"size must be above 0, not {size}")
        for index, (start, length) in enumerate(self._free):
            address = -(-start // align) * align
            if address + size <= start + length:
                rest = [(start, address - start), (address + size, start + length - address - size)]
                self._free[index : index + 1] = [extent for extent in rest if extent[1]]
                self._blocks[address] = size
                self.write(address, bytes(size))
                return address
        raise MemoryError(f"no {size} bytes of DMA memory left")

    def free(self, address: int) -> None:
        """Give a block back. Raises ValueError for an address that ``alloc`` did not return."""
        size = self._blocks.pop(address, None)
        if size is None:
            raise ValueError(f"{address:#x} is not allocated")
        insort(self._free, (address, size))
        merged: list[tuple[int, int]] = []
        for start, length in self._free:
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        self._free = merged

    def save(self) -> tuple[bytes, list[tuple[int, int]], dict[int, int]]:
        """What is allocated and what it contains, for ``load``."""
        end = max((start + size for start, size in self._blocks.items()), default=self.base) - self.base
        return bytes(self._data[:end] if self._data else b""), list(self._free), dict(self._blocks)

    def load(self, saved: tuple[bytes, list[tuple[int, int]], dict[int, int]]) -> None:
        """Go back to what ``save`` gave."""
        data, free, blocks = saved
        self._free, self._blocks = list(free), dict(blocks)
        if self._data is not None:
            self._data[: len(data)] = data

    def contains(self, address: int, length: int) -> bool:
        """The range lies inside."""
        return length >= 0 and self.base <= address and address + length <= self.base + self.size

    def read(self, address: int, length: int) -> bytes:
        """Copy out, for the driver. Raises ValueError outside."""
        offset = self._offset(address, length)
        return bytes(self._bytes[offset : offset + length])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy in, for the driver. Raises ValueError outside."""
        offset = self._offset(address, len(data))
        self._bytes[offset : offset + len(data)] = data

    def view(self, address: int, length: int) -> memoryview:
        """The bytes themselves, writable. Raises ValueError outside."""
        offset = self._offset(address, length)
        return memoryview(self._bytes)[offset : offset + length]

    def dma_read(self, address: int, length: int) -> bytes | None:
        """What a device reads; None outside, counted in ``refused``."""
        if self.contains(address, length):
            return self.read(address, length)
        self.refused += 1
        return None

    def dma_write(self, address: int, data: bytes) -> bool:
        """What a device writes; False outside, counted in ``refused``."""
        if self.contains(address, len(data)):
            self.write(address, data)
            return True
        self.refused += 1
        return False

    @property
    def _bytes(self) -> bytearray:
        if self._data is None:
            self._data = bytearray(self.size)
        return self._data

    def _offset(self, address: int, length: int) -> int:
        if not self.contains(address, length):
            raise ValueError(f"{address:#x}+{length:#x} is outside of {self.base:#x}+{self.size:#x}")
        return address - self.base
