"""Ports: functions with a link below them. A root port also collects messages and interrupts."""

from __future__ import annotations

from dom0_pciback.pcie.collector import AerInterrupt
from dom0_pciback.pcie.function import NEVER, Fabric, Function
from dom0_pciback.pcie.link import Link
from protocol.layout_header import TYPE1
from protocol.layout_pcie import (
    EXP,
    EXP_LNKSTA_2_5GT_X1,
    EXP_LNKSTA_DLLLA,
    EXP_LNKSTA_SPEED_WIDTH,
    EXP_SLTSTA_PRESENT,
    SLOT_PORTS,
)
from protocol.topology import FunctionSpec

PORTS = frozenset({"root_port", "upstream_port", "downstream_port"})  # of PCI Express on both sides


class Port(Function):
    """A root, upstream or downstream port; ``link`` is its secondary side.

    A switch is one upstream port with downstream ports as children. The secondary side of an upstream port is the
    switch's inner bus, which no Link Status register shows.
    """

    __slots__ = ("_presence", "link")

    def __init__(self, spec: FunctionSpec, parent: Function | None, fabric: Fabric) -> None:
        super().__init__(spec, parent, fabric)
        self.link = Link(self.link_changed)
        self._presence = 0  # bit of Slot Status that told of the card which was taken out

    def link_changed(self) -> None:
        """Show the link's state in Link Status and in what is reachable below."""
        if self.kind in SLOT_PORTS:
            offset = self.exp + EXP.LNKSTA
            inactive = self.config.peek(offset, 2) & ~EXP_LNKSTA_DLLLA
            needs_hotplug = self.fabric.profile.dll_active_needs_hotplug
            shows = self.fabric.native_hotplug if needs_hotplug else self.spec.link_reporting
            shown = shows and self.link.dll_active and bool(self.children)
            self.config.poke(offset, 2, inactive | EXP_LNKSTA_DLLLA * shown)
        self.refresh()

    def slot_changed(self) -> None:
        """Something was taken out of the slot: an empty one shows neither a card nor a link."""
        if not self.children and self.kind in SLOT_PORTS:
            offset = self.exp + EXP.SLTSTA
            status = self.config.peek(offset, 2)
            self._presence = status & EXP_SLTSTA_PRESENT
            self.config.poke(offset, 2, status & ~EXP_SLTSTA_PRESENT)
            self.link_changed()

    def slot_filled(self) -> None:
        """Something was put into the slot: it shows what it showed before it was taken out."""
        if self.kind in SLOT_PORTS:
            self.config.set_bits(self.exp + EXP.SLTSTA, 2, self._presence)
        self.link_changed()

    def wake(self) -> None:
        """The kernel holds the port awake for a recovery: an idle link shows what it runs at (errata 4.5)."""
        if self.kind == "root_port" and self.fabric.profile.idle_link_shows_capability:
            offset = self.exp + EXP.LNKSTA
            kept = self.config.peek(offset, 2) & ~EXP_LNKSTA_SPEED_WIDTH
            self.config.poke(offset, 2, kept | EXP_LNKSTA_2_5GT_X1)

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
