"""What a guest's PCI core makes of base addresses: it sizes them and claims them as they stand (BUS-23).

A guest cannot move a BAR (xen-pci.md 6.4). What two devices claim twice, or what lies where the guest has its
own memory, cannot be repaired; the kernel says so and goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from domu_pcifront.device import GuestPciDev
from kernel_stub.kernel import ERR, INFO, Kernel

BARS = {0: tuple(range(0x10, 0x28, 4)), 1: (0x10, 0x14)}  # header type -> registers
HEADER_TYPE = 0x0E
IO, KIND_64 = 0x1, 0x4
ALL_ONES = 0xFFFFFFFF
ADVICE = "Device offline. Try using e820_host=1 in the guest config."


class Region(NamedTuple):
    """A BAR: its number, first and last address, I/O or memory."""

    bar: int
    first: int
    last: int
    is_io: bool

    def meets(self, other: Region) -> bool:
        """They have an address in common."""
        return self.is_io == other.is_io and self.first <= other.last and other.first <= self.last


class Resources:
    """``iomem_resource`` and ``ioport_resource`` of a guest: who has claimed what."""

    def __init__(self, kernel: Kernel, prefix: str) -> None:
        self.kernel = kernel
        self.prefix = prefix
        self._claimed: dict[GuestPciDev, list[Region]] = {}

    async def claim(self, device: GuestPciDev) -> None:
        """``pcifront_claim_resource`` for each region that has an address."""
        mine = self._claimed[device] = []
        for region in await read_regions(device):
            what = f"{device.name}/{region.bar}"
            self.kernel.printk(INFO, f"{self.prefix} claiming resource {what}")
            if any(region.meets(other) for other in self._all()):
                self.kernel.printk(ERR, f"{self.prefix} Could not claim resource {what}! {ADVICE}")
            else:
                mine.append(region)

    def release(self, device: GuestPciDev) -> None:
        """The device is gone."""
        self._claimed.pop(device, None)

    def _all(self) -> Iterator[Region]:
        return (region for regions in self._claimed.values() for region in regions)


async def read_regions(device: GuestPciDev) -> list[Region]:
    """``pci_read_bases``: size each BAR; one without size or address is none."""
    header_type = await device.read_config(HEADER_TYPE, 1) & 0x7F
    registers = iter(BARS.get(header_type, ()))
    found = []
    for offset in registers:
        value, mask = await _size(device, offset)
        flags = value & (0x3 if value & IO else 0xF)
        if flags & (IO | 0x6) == KIND_64:
            high, high_mask = await _size(device, next(registers, offset))
            value, mask = value | high << 32, mask | high_mask << 32
        else:
            mask |= ALL_ONES << 32
        first, size = value & ~flags, -(mask & ~flags) & (1 << 64) - 1
        if mask & ALL_ONES and first and size:
            found.append(Region((offset - 0x10) // 4, first, first + size - 1, bool(flags & IO)))
    return found


async def _size(device: GuestPciDev, offset: int) -> tuple[int, int]:
    """A base address register, and what it answers to all ones."""
    value = await device.read_config(offset, 4)
    await device.write_config(offset, 4, ALL_ONES)
    mask = await device.read_config(offset, 4)
    await device.write_config(offset, 4, value)
    return value, mask
