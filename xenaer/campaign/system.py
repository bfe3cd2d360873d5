"""What a campaign is played on: a running system, whichever world it lives in."""

from __future__ import annotations

from typing import Any, Protocol


class System(Protocol):
    """A running system, whichever world it lives in."""

    @property
    def now_s(self) -> float:
        """Seconds since the system started, real or virtual."""

    def ctl(self, target: str, verb: str, args: list[Any]) -> Any:
        """Ask ``hypervisor``, ``dom0`` or a guest (by name) to do something. Raises ControlError."""

    def records(self, cursor: Any) -> tuple[list[dict[str, Any]], Any]:
        """Journal records since ``cursor`` (None: the beginning), merged by time, and the next cursor."""

    def advance(self, ms: float) -> None:
        """Let time pass."""

    def close(self) -> None:
        """End this view of the system."""
