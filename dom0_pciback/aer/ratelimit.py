"""The kernel's rate limiter (``___ratelimit``, linux-aer.md 6, linux-aer-errata.md C9)."""

from __future__ import annotations

from collections.abc import Callable

HZ = 250  # of the reference kernel; the sysfs files show jiffies (T34)
NS_PER_JIFFY = 1_000_000_000 // HZ
DEFAULT_INTERVAL_MS = 5000
DEFAULT_BURST = 10


class RateLimit:
    """``burst`` calls per window of ``interval`` jiffies are granted; 0 jiffies: no limit (T35).

    A window ends when *more* than the interval has passed since its start. ``missed`` counts refused calls
    and is reported when a window ends; a restart of the limiter does not clear it (C9).
    """

    __slots__ = ("begin", "burst", "interval", "left", "missed", "report", "started")

    def __init__(self, report: Callable[[int], None]) -> None:
        self.interval = msecs_to_jiffies(DEFAULT_INTERVAL_MS)
        self.burst = DEFAULT_BURST
        self.begin = 0
        self.left = 0
        self.missed = 0
        self.started = False
        self.report = report  # told how many calls were suppressed

    def allow(self, now: int) -> bool:
        """One call at ``now`` (ns): granted or refused."""
        if self.interval <= 0 or self.burst <= 0:
            granted = self.interval == 0
            self.started = False
        else:
            self._open_window(now)
            granted = self.left > 0
            self.left -= granted
        self.missed += not granted
        return granted

    def _open_window(self, now: int) -> None:
        if not self.started:
            self.started, self.begin, self.left = True, now, self.burst
        elif now - self.begin > self.interval * NS_PER_JIFFY:
            self.begin, self.left = now, self.burst
            if self.missed:
                missed, self.missed = self.missed, 0
                self.report(missed)

    def set_interval_ms(self, ms: int) -> None:
        """Write to ``*_ratelimit_interval_ms``: 0 or less is 0, else rounded up to jiffies (6.4)."""
        self.interval = msecs_to_jiffies(ms)


def msecs_to_jiffies(ms: int) -> int:
    """Milliseconds in jiffies, rounded up (errata 7.9: 250 ms are 63)."""
    return max(0, -(-ms * HZ // 1000))
