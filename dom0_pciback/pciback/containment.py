"""Containment (DPC) that comes into a recovery: the recovery from it starts everything below its port again.

What happens below a contained port proves nothing: no device answers there, so drivers vote for resets that cannot
work, and every check fails. Functions to which that happens leave their recovery as ``superseded``, and nobody is
killed for it; the port's own recovery waits until then, and asks them first of all (ours, docs/DIFFERENCES.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.regs import ALL_ONES
from protocol.ids import Sbdf
from protocol.layout_dpc import DPC, DPC_STATUS_TRIGGER


class Containments:
    """``served`` are the ports with the DPC service: of any other nobody would tell, or recover it."""

    def __init__(self, core: PciCore) -> None:
        self._core = core
        self.served: Collection[Sbdf] = ()
        self._recovering: set[PciDev] = set()

    @contextmanager
    def recovering(self, port: PciDev) -> Iterator[None]:
        """A recovery of all that is below ``port`` is under way: if the port is contained already, from that."""
        if self._contained(port):
            self._recovering.add(port)
        try:
            yield
        finally:
            self._recovering.discard(port)

    def released(self, port: PciDev) -> None:
        """Its recovery has reset it with success: if it is contained again, that is another event."""
        self._recovering.discard(port)

    def supersede(self, dev: PciDev) -> bool:
        """Is ``dev`` below a port whose containment another recovery will see to."""
        port = dev.bridge if self.served else None
        while port is not None:
            if self._contained(port) and port not in self._recovering:
                return True
            port = port.bridge
        return False

    def _contained(self, port: PciDev) -> bool:
        if port.sbdf not in self.served:
            return False
        status = self._core.read(port, port.dpc + DPC.STATUS, 2)
        return status != ALL_ONES[2] and bool(status & DPC_STATUS_TRIGGER)
