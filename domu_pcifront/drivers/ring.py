"""The driver's end of a ring (``protocol.device_regs``): entries in guest memory, registers in BAR 0."""

from __future__ import annotations

from domu_pcifront.device import GuestPciDev
from protocol.device_regs import ALL_ONES, BAR, RingReg


class DriverRing:
    """``entries`` entries of ``entry`` bytes; the registers are at ``at``. ``entries - 1`` can be outstanding."""

    __slots__ = ("_dev", "at", "base", "entries", "entry", "tail")

    def __init__(self, dev: GuestPciDev, at: int, entry: int, entries: int) -> None:
        self._dev = dev
        self.at = at
        self.entry = entry
        self.entries = entries
        self.base = dev.memory.alloc(entry * entries, 64)
        self.tail = 0

    def address(self, index: int) -> int:
        """Guest address of an entry."""
        return self.base + index * self.entry

    def program(self) -> None:
        """Tell a freshly reset device where the ring is; it is empty then."""
        write = self._dev.mmio_write
        self.tail = 0
        write(BAR, self.at + RingReg.BASE_LO, self.base & ALL_ONES)
        write(BAR, self.at + RingReg.BASE_HI, self.base >> 32)
        write(BAR, self.at + RingReg.SIZE, self.entries)

    async def programmed(self) -> bool:
        """The device still knows the ring: it was not reset, and it answers."""
        return await self._dev.mmio_read(BAR, self.at + RingReg.BASE_LO) == self.base & ALL_ONES

    def push(self, data: bytes) -> int:
        """Fill the next entry and return its index; the device learns of it by ``doorbell``."""
        index = self.tail
        self._dev.memory.write(self.address(index), data)
        self.tail = (index + 1) % self.entries
        return index

    def doorbell(self) -> None:
        """Hand everything up to the tail to the device."""
        self._dev.mmio_write(BAR, self.at + RingReg.TAIL, self.tail)

    def free(self) -> None:
        """Give the memory back."""
        self._dev.memory.free(self.base)
