"""Ports: functions with a link below them. A root port also collects messages and interrupts."""

from __future__ import annotations

from dom0_pciback.pcie.collector import AerInterrupt
from dom0_pciback.pcie.function import NEVER, Fabric, Function
from dom0_pciback.pcie.link import Link
from protocol.layout_header import TYPE1
from protocol.layout_pcie import EXP, EXP_LNKSTA_DLLLA, SLOT_PORTS
from protocol.topology import FunctionSpec


class Port(Function):
    """A root, upstream or downstream port; ``link`` is its secondary side.

    A switch is one upstream port with downstream ports as children. The secondary side of an upstream port is the
    switch's inner bus, which no Link Status register shows.
    """

    __slots__ = ("link",)

    def __init__(self, spec: FunctionSpec, parent: Function | None, fabric: Fabric) -> None:
        super().__init__(spec, parent, fabric)
        self.link = Link(self.link_changed)

    def link_changed(self) -> None:
        """Show the link's state in Link Status and in what is reachable below."""
        if self.kind in SLOT_PORTS:
            offset = self.exp + EXP.LNKSTA
            inactive = self.config.peek(offset, 2) & ~EXP_LNKSTA_DLLLA
            self.config.poke(offset, 2, inactive | EXP_LNKSTA_DLLLA * self.link.dll_active)
        self.refresh()

    def way_down(self, child: Function) -> int:
        """When a request gets through: own reset over, link up, bus numbers of the whole way lead there."""
        if self.link.up and self.config.data[TYPE1.SECONDARY_BUS] == child.sbdf.bus and self.routes(child.sbdf.bus):
            return self.reachable_at
        return NEVER

    def routes(self, bus: int) -> bool:
        """Whether this port and every port above claim requests to ``bus`` (secondary to subordinate)."""
        port: Function | None = self
        while port is not None:
            data = port.config.data
            if not 0 < data[TYPE1.SECONDARY_BUS] <= bus <= data[TYPE1.SUBORDINATE_BUS]:
                return False
            port = port.parent
        return True


class RootPort(Port):
    """A root port."""

    __slots__ = ("aer_interrupt",)

    def __init__(self, spec: FunctionSpec, parent: Function | None, fabric: Fabric) -> None:
        super().__init__(spec, parent, fabric)
        self.aer_interrupt = AerInterrupt(self)
