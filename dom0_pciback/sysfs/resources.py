"""The ``resource`` file: a line of start, end and flags per resource of a function (``resource_show``).

The kernel prints all of ``pci_dev.resource`` for a function with a bus below it (DEVICE_COUNT_RESOURCE) and
what comes before the bridge windows for the others. With CONFIG_PCI_IOV, as in Debian, that is 17 and 13:
six BARs, the ROM, six BARs of virtual functions, four bridge windows. Without it a function has 7.
"""

from __future__ import annotations

from typing import NamedTuple

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pciback.stub import read_resources
from protocol.layout_header import TYPE1, bar_offset

BRIDGE_RESOURCES = 13  # PCI_BRIDGE_RESOURCES: the first window, and how many lines a function without bus has
COUNT = 17  # DEVICE_COUNT_RESOURCE

IORESOURCE_IO, IORESOURCE_MEM = 0x100, 0x200
IORESOURCE_PREFETCH, IORESOURCE_SIZEALIGN, IORESOURCE_MEM_64 = 0x2000, 0x40000, 0x100000
BAR_IO, BAR_64, BAR_PREFETCH = 0x1, 0x4, 0x8  # low bits of a base address register
WINDOW_64 = 0x1  # low bits of the prefetchable window


class Row(NamedTuple):
    """One resource; all zero for one that does not exist or has no address."""

    start: int = 0
    end: int = 0
    flags: int = 0


def rows(core: PciCore, dev: PciDev) -> tuple[Row, ...]:
    """Resources as enumeration finds them. Decoding is off for the moment of sizing, as in the kernel."""
    found = [Row()] * (COUNT if dev.is_bridge else BRIDGE_RESOURCES)
    upper = False
    for index, bar in enumerate(read_resources(core, dev)):
        if not upper and bar.size:
            high = core.read(dev, bar_offset(index + 1), 4) if bar.flags & BAR_64 and not bar.flags & BAR_IO else 0
            start = bar.start | high << 32
            found[index] = Row(start, start + bar.size - 1, _bar_flags(bar.flags))
        upper = not upper and bool(bar.flags & BAR_64) and not bar.flags & BAR_IO
    if dev.is_bridge:
        found[BRIDGE_RESOURCES : BRIDGE_RESOURCES + 3] = _io(core, dev), _memory(core, dev), _prefetchable(core, dev)
    return tuple(found)


def _bar_flags(low: int) -> int:
    """``decode_bar``: the register's low bits, and what they mean."""
    if low & BAR_IO:
        return low | IORESOURCE_IO | IORESOURCE_SIZEALIGN
    wide = IORESOURCE_MEM_64 if low & BAR_64 else 0
    prefetch = IORESOURCE_PREFETCH if low & BAR_PREFETCH else 0
    return low | IORESOURCE_MEM | IORESOURCE_SIZEALIGN | wide | prefetch


def _window(base: int, limit: int, flags: int) -> Row:
    """A window at address 0 is one that nobody has assigned; one whose limit lies below is closed."""
    return Row(base, limit, flags) if 0 < base <= limit else Row()


def _io(core: PciCore, dev: PciDev) -> Row:
    base, limit = core.read(dev, TYPE1.IO_BASE, 1), core.read(dev, TYPE1.IO_LIMIT, 1)
    wide = base & 0x0F
    high = (core.read(dev, TYPE1.IO_BASE_UPPER16, 2), core.read(dev, TYPE1.IO_LIMIT_UPPER16, 2)) if wide else (0, 0)
    start = (base & 0xF0) << 8 | high[0] << 16
    return _window(start, (limit & 0xF0) << 8 | high[1] << 16 | 0xFFF, IORESOURCE_IO | wide)


def _memory(core: PciCore, dev: PciDev) -> Row:
    base, limit = core.read(dev, TYPE1.MEMORY_BASE, 2), core.read(dev, TYPE1.MEMORY_LIMIT, 2)
    return _window((base & 0xFFF0) << 16, (limit & 0xFFF0) << 16 | 0xFFFFF, IORESOURCE_MEM | base & 0x0F)


def _prefetchable(core: PciCore, dev: PciDev) -> Row:
    base, limit = core.read(dev, TYPE1.PREF_MEMORY_BASE, 2), core.read(dev, TYPE1.PREF_MEMORY_LIMIT, 2)
    start, end = (base & 0xFFF0) << 16, (limit & 0xFFF0) << 16 | 0xFFFFF
    flags = IORESOURCE_MEM | IORESOURCE_PREFETCH | base & 0x0F
    if base & WINDOW_64:
        start |= core.read(dev, TYPE1.PREF_BASE_UPPER32, 4) << 32
        end |= core.read(dev, TYPE1.PREF_LIMIT_UPPER32, 4) << 32
        flags |= IORESOURCE_MEM_64
    return _window(start, end, flags)


def text(resources: tuple[Row, ...]) -> str:
    """The file."""
    return "".join(f"{row.start:#018x} {row.end:#018x} {row.flags:#018x}\n" for row in resources)
