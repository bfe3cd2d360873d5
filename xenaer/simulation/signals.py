"""Parties of a simulation as processes: what SIGKILL and SIGSTOP do to them, and how one ends that has lost another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kernel_stub.kernel import Kernel
from xenaer.simulation.links import SimLink
from xenaer.simulation.parties import LOST
from xenaer.simulation.world import World


class Signalled(Protocol):
    """Whatever takes signals: a guest (``SimGuest``), or a part of the host (``SimProcess``)."""

    ended: bool

    def freeze(self, *, on: bool) -> None:
        """SIGSTOP, SIGCONT."""

    def end(self, status: int) -> None:
        """The process is gone, with this wait status."""


class SimProcess:
    """dom0, the hypervisor stub, or a supervisor. ``links`` are its ends; ``on_end`` hears of its end, once."""

    def __init__(self, world: World, kernel: Kernel, links: Callable[[], list[SimLink]]) -> None:
        self.world = world
        self.kernel = kernel
        self.links = links
        self.ended = False
        self.on_end: Callable[[], None] = lambda: None

    def freeze(self, *, on: bool) -> None:
        """Stop the party where it is, or let it go on: neither its tasks nor its interrupts run meanwhile."""
        if self.ended:
            return
        if on:
            self.world.drop(self.kernel)
        for link in self.links():
            link.hold(on=on)
        if not on:
            self.world.adopt(self.kernel)

    def end(self, status: int) -> None:
        """The process is gone; whoever is connected hears of it a moment later."""
        if self.ended:
            return
        self.ended = True
        self.world.drop(self.kernel)
        self.kernel.close()
        for link in self.links():
            link.close()
        self.on_end()

    def lost(self, who: str, reason: str) -> None:
        """The party has lost ``who`` and ends by itself, in order (exit status 3)."""
        self.kernel.trace("party.lost", who, reason)
        self.leave()

    def leave(self) -> None:
        """End with status 3, once what is ready has run."""
        self.world.at(self.world.now(), self._leave)

    def _leave(self) -> None:
        if not self.ended:
            self.kernel.trace("party.end", self.kernel.name, LOST)
            self.end(LOST << 8)
