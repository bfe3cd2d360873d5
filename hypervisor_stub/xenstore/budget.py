"""How fast a guest's real clients may change the store: its watchers in other domains have to keep up."""

from __future__ import annotations

RATE = 200  # changes per second, in the long run
BURST = 1000  # changes at once
SECOND_NS = 1_000_000_000


class Budget:
    """Credit of one domain. It may go below zero, by one request: a commit makes many changes at once."""

    __slots__ = ("_credit", "_since")

    def __init__(self, now: int) -> None:
        self._credit = float(BURST)
        self._since = now

    def spend(self, now: int, changes: int) -> int:
        """Changes were made; the time (ns) from which on more of them may be. Not later than ``now``: at once."""
        earned = (now - self._since) * RATE / SECOND_NS
        self._credit = min(BURST, self._credit + earned) - changes
        self._since = now
        missing = max(0.0, 1 - self._credit)
        return now + int(missing * SECOND_NS / RATE)
