"""The secondary side of a port: the link below it, or the internal bus of a switch.

Source: linux-aer.md 1.1 (Link Status bit 13), 4.8; xen-pci-errata.md 4.3 (a dead link shows bit 13 clear).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class LinkState(StrEnum):
    """UP carries requests and messages; FROZEN broke by itself; RESET is held by Secondary Bus Reset; DEAD stays so.

    CONTAINED is held down by Downstream Port Containment, whatever resets come, until the port is released.
    """

    UP = "up"
    FROZEN = "frozen"
    RESET = "reset"
    DEAD = "dead"
    CONTAINED = "contained"


class Link:
    """State of one link; ``changed`` is told after every change (the port updates Link Status)."""

    __slots__ = ("_changed", "_cut", "state")

    def __init__(self, changed: Callable[[], None]) -> None:
        self.state = LinkState.UP
        self._changed = changed
        self._cut = False

    @property
    def up(self) -> bool:
        """Requests go down and messages come up."""
        return self.state is LinkState.UP

    @property
    def dll_active(self) -> bool:
        """Data Link Layer Link Active, as Link Status bit 13 shows it."""
        return self.state is LinkState.UP

    def freeze(self) -> None:
        """The link goes down by itself: all ones from everything below until a bus reset (DEAD stays dead)."""
        if self.state is LinkState.UP:
            self._set(LinkState.FROZEN)

    def hold_in_reset(self) -> None:
        """Secondary Bus Reset was set."""
        if self.state is not LinkState.CONTAINED:
            self._set(LinkState.RESET)

    def release(self, dead: bool) -> None:
        """Secondary Bus Reset was cleared: the link trains again, or never (``link_dead_after_reset``)."""
        if self.state is not LinkState.CONTAINED:
            self._set(LinkState.DEAD if dead or self._cut else LinkState.UP)

    def cut(self) -> None:
        """The link breaks for good: no reset trains it again before it is mended."""
        self._cut = True
        self._set(LinkState.DEAD)

    def mend(self) -> None:
        """The cable is in its place again: the link trains, unless something else holds it down."""
        self._cut = False
        if self.state is LinkState.DEAD:
            self._set(LinkState.UP)

    def contain(self) -> None:
        """Downstream Port Containment was triggered."""
        self._set(LinkState.CONTAINED)

    def end_containment(self) -> None:
        """The trigger was cleared: a ``release`` has an effect again."""
        self._set(LinkState.RESET)

    def _set(self, state: LinkState) -> None:
        self.state = state
        self._changed()
