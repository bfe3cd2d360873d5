"""How values are spread: percentiles of any number of them in little memory, whatever their order.

Values are whole microseconds. Up to ``EXACT`` of them are kept, and percentiles are exact (nearest rank: the smallest
value that at least the wanted share of all values does not exceed). Beyond that values are counted in buckets: one for
each of the first 256 microseconds, then 128 for every doubling. A bucket stands for its middle, so that a percentile is
off by at most 1/256 of itself (0.4 %); the largest value stays exact. All of it is counting of whole numbers: merging
and order change nothing, and two machines agree to the bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import repeat
from math import ceil
from operator import mul
from typing import Any

EXACT = 1_000
FINE_BITS = 8  # of a value are told apart: one bucket for each value below 2**8, 128 for each power of two above
US = 1_000  # microseconds in a millisecond
PERCENTILES: tuple[tuple[str, float], ...] = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))


def bucket(us: int) -> int:
    """The bucket of a value: its order is that of the values."""
    shift = max(us.bit_length() - FINE_BITS, 0)
    return (shift << FINE_BITS) + (us >> shift)


def middle(number: int) -> int:
    """The value that a bucket stands for."""
    shift, top = number >> FINE_BITS, number & (1 << FINE_BITS) - 1
    return (top << shift) + (1 << shift >> 1)


class Spread:
    """A multiset of durations in milliseconds."""

    __slots__ = ("buckets", "exact", "largest", "n")

    def __init__(self) -> None:
        self.n = 0
        self.largest = 0  # us
        self.exact: list[int] | None = []  # None: there are more than EXACT
        self.buckets: dict[int, int] = {}

    def add(self, ms: float) -> None:
        """One more value; what is below 0 counts as 0."""
        self._take([max(round(ms * US), 0)])

    def extend(self, values: Iterable[float]) -> None:
        """Many values at once, which is faster: equal ones are counted together."""
        us = list(map(round, map(mul, values, repeat(US))))
        if min(us, default=0) < 0:
            us = [max(value, 0) for value in us]
        if self.exact is not None:
            self._take(us)
            return
        self.n += len(us)
        self.largest = max(self.largest, max(us, default=0))
        for value, count in Counter(us).items():
            number = bucket(value)
            self.buckets[number] = self.buckets.get(number, 0) + count

    def merge(self, other: Spread) -> None:
        """All values of another spread, which stays as it is."""
        if other.exact is not None:
            self._take(other.exact)
            return
        self._overflow()
        self.n += other.n
        self.largest = max(self.largest, other.largest)
        for number, count in other.buckets.items():
            self.buckets[number] = self.buckets.get(number, 0) + count

    def _take(self, values: Iterable[int]) -> None:
        values = list(values)
        self.n += len(values)
        self.largest = max(self.largest, *values, 0)
        if self.exact is not None:
            self.exact += values
            if self.n > EXACT:
                self._overflow()
            return
        for us in values:
            number = bucket(us)
            self.buckets[number] = self.buckets.get(number, 0) + 1

    def _overflow(self) -> None:
        """From now on values are counted only."""
        kept, self.exact = self.exact or [], None
        for us in kept:
            number = bucket(us)
            self.buckets[number] = self.buckets.get(number, 0) + 1

    def percentile(self, share: float) -> float:
        """The value (ms) that ``share`` of all values do not exceed; 0 without values."""
        if not self.n:
            return 0.0
        rank = max(ceil(share * self.n), 1)
        if self.exact is not None:
            return sorted(self.exact)[rank - 1] / US
        for number in sorted(self.buckets):
            rank -= self.buckets[number]
            if rank <= 0:
                return min(middle(number), self.largest) / US
        return self.largest / US

    def percentiles(self) -> dict[str, float]:
        """p50, p95, p99 and the largest, in ms."""
        return {name: self.percentile(share) for name, share in PERCENTILES} | {"max": self.largest / US}

    def plain(self) -> dict[str, Any]:
        """As plain data; equal multisets give equal data."""
        kept = None if self.exact is None else sorted(self.exact)
        return {"n": self.n, "max": self.largest, "exact": kept, "buckets": sorted(self.buckets.items())}

    @classmethod
    def of_plain(cls, data: Mapping[str, Any]) -> Spread:
        """The spread that ``plain`` was taken from."""
        spread = cls()
        spread.n, spread.largest = data["n"], data["max"]
        spread.exact = None if data["exact"] is None else list(data["exact"])
        spread.buckets = {int(number): int(count) for number, count in data["buckets"]}
        return spread
