"""Addresses for a card that was put in: ``pci_assign_unassigned_bridge_resources``, as far as a slot needs it."""

from __future__ import annotations

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.regs import ALL_ONES
from protocol.ids import Sbdf
from protocol.layout_header import TYPE1, WINDOW_ADDRESS, bar_offset

BARS = 6
FLAGS = 0xF  # of a base address: what kind of memory


def assign_resources(core: PciCore, port: PciDev) -> None:
    """Place the base addresses of the functions below ``port`` in its memory window, in order of their addresses."""
    address = (core.read(port, TYPE1.MEMORY_BASE, 2) & WINDOW_ADDRESS) << 16
    for function in core.hierarchy.functions[port.sbdf].children:
        if not any(each.sbdf == function.sbdf for each in port.subordinate):
            address = _place(core, function.sbdf, address)


def _place(core: PciCore, sbdf: Sbdf, address: int) -> int:
    """Size each register by writing ones to it (PCI 6.2.5.1); returns the first free address behind the function."""
    read, write = core.hierarchy.read, core.hierarchy.write
    for number in range(BARS):
        at = bar_offset(number)
        write(sbdf, at, 4, ALL_ONES[4])
        size = -(read(sbdf, at, 4) & ~FLAGS) & ALL_ONES[4]
        if not 0 < size < 1 << 31:
            write(sbdf, at, 4, 0)
            continue
        address = -(-address // size) * size
        write(sbdf, at, 4, address)
        address += size
    return address
