"""Root Complex Event Collectors and the integrated endpoints that report to them (``rcec.c``, linux-aer.md 3.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kernel_stub.kernel import DEBUG
from protocol.layout_rcec import OWN_BUS_ONLY, RCEC, RCEC_BUSN_VERSION, bus_range

if TYPE_CHECKING:
    from dom0_pciback.pci.core import PciCore
    from dom0_pciback.pci.device import PciDev


class RcecEa(NamedTuple):
    """``struct rcec_ea``: device numbers on the collector's own bus, first and last bus of more endpoints."""

    bitmap: int
    first: int
    last: int


def pci_rcec_init(core: PciCore, dev: PciDev, offset: int) -> None:
    """Read the Endpoint Association capability at ``offset`` (0: there is none) of an event collector."""
    if offset:
        version = core.read(dev, offset, 4) >> 16 & 0xF
        has_buses = version >= RCEC_BUSN_VERSION
        first, last = bus_range(core.read(dev, offset + RCEC.BUSN, 4)) if has_buses else OWN_BUS_ONLY
        dev.rcec_ea = RcecEa(core.read(dev, offset + RCEC.BITMAP, 4), first, last)


def pcie_walk_rcec(core: PciCore, rcec: PciDev) -> list[PciDev]:
    """The endpoints associated with a collector: those on its own bus first, then bus by bus of its range.

    The kernel ignores what its callback returns, so whoever walks this list must not stop early.
    """
    found = [dev for dev in core.devices.values() if _is_associated(rcec, dev)]
    return sorted(found, key=lambda dev: (dev.sbdf.bus != rcec.sbdf.bus, dev.sbdf))


def pcie_link_rcec(core: PciCore, rcec: PciDev) -> None:
    """Tell each endpoint of a collector who its root is; the port driver does it before it probes services."""
    for dev in pcie_walk_rcec(core, rcec):
        dev.rcec = rcec
        core.printk(DEBUG, dev, f"PME & error events signaled via {rcec.name}")


def _is_associated(rcec: PciDev, dev: PciDev) -> bool:
    """``rcec_assoc_rciep``: by the bitmap on the same bus, by the range on any other."""
    ea = rcec.rcec_ea
    if ea is None or dev.kind != "rciep" or dev.sbdf.segment != rcec.sbdf.segment:
        return False
    if dev.sbdf.bus == rcec.sbdf.bus:
        return bool(ea.bitmap >> dev.sbdf.device & 1)
    return ea.first <= dev.sbdf.bus <= ea.last
