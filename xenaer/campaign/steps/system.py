"""What a campaign is played on: a running system, whichever world it lives in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from protocol.ports import Record


class Call(Protocol):
    """A control request that is under way."""

    @property
    def done(self) -> bool:
        """There is an answer."""

    def result(self) -> Any:
        """The answer. Raises ControlError with what was refused, or if there is none."""


class Watch(Protocol):
    """Waits for a program point. ``of``: of which kind it is; ``ms``: from now on, for a time."""

    of: Literal["time", "record", "lock"]
    ms: float
    kills: str  # party whose process ends at this point ("": none): in the simulation, before it takes one more step

    def record(self, party: str, record: Record) -> bool:
        """True for the record that is waited for; every record is shown until then."""

    def entry(self, item: dict[str, Any]) -> bool:
        """``record`` for a record in the form of ``xenaer.journal``."""

    def lock(self, party: str, when: str, name: str) -> bool:
        """True for what happens to the lock that is waited for (waiting, taken, released)."""


class System(Protocol):
    """A running system, whichever world it lives in."""

    @property
    def now_s(self) -> float:
        """Seconds since the system started, real or virtual."""

    @property
    def now_ns(self) -> int:
        """The same in nanoseconds, exactly: a difference does not depend on how long the system has run already."""

    def ctl(self, target: str, verb: str, args: list[Any]) -> Any:
        """Ask ``hypervisor``, ``dom0`` or a guest (by name) to do something. Raises ControlError."""

    def start(self, target: str, verb: str, args: list[Any], *, at_once: bool = False) -> Call:
        """``ctl`` without waiting. ``at_once``: as the next thing that happens, where the world allows that."""

    def signal(self, target: str, does: str, for_ms: float | None = None) -> None:
        """``kill``, or ``stop`` for a while, the process of the stub, of dom0 or of a guest. Raises ControlError."""

    def arm(self, watch: Watch, fire: Callable[[], None]) -> None:
        """Call ``fire`` once, at a program point. Raises ControlError for one that this world cannot see."""

    def disarm(self) -> None:
        """Points that were not reached are forgotten."""

    def recorded(self) -> int | None:
        """How many records there are; None: reading them tells."""

    def records(self, cursor: Any) -> tuple[list[dict[str, Any]], Any]:
        """Journal records since ``cursor`` (None: the beginning), merged by time, and the next cursor."""

    def advance(self, ms: float) -> None:
        """Let time pass."""

    def close(self) -> None:
        """End this view of the system."""
