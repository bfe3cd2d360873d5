"""Counts of a campaign and what they say: rates with intervals, and how long things took; per stratum, mergeable.

Everything is plain counting, so that results are the same in whatever order, pieces or processes they come in, and the
memory of a tally does not grow with the number of its cases.

**Interval of a rate** (two-sided, 95 %): Wilson's score interval. With p = count / n and z = 1.959963984540054:
(p + z²/2n ± z·sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n). E. B. Wilson, JASA 22 (1927).

**Upper bound of what was never seen** (one-sided, 95 %): 1 - 0.05^(1/n), the largest rate at which seeing nothing in n
cases is not less likely than 5 %. It is exact (Clopper and Pearson for a count of 0); 3/n, the rule of three, is its
approximation. Wilson's upper end for a count of 0, z²/(n + z²), would be that of a two-sided interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from xenaer.campaign.case import CaseResult, Outcome
from xenaer.campaign.verdict.percentiles import Spread

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
MISS = 0.05  # how likely an upper bound may be too low


def wilson(count: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a rate that was seen ``count`` times in ``n``; (0, 1) if there were none.

    Raises ValueError unless 0 <= count <= n.
    """
    if not 0 <= count <= n:
        raise ValueError(f"{count} of {n} is no count")
    if n == 0:
        return 0.0, 1.0
    rate, square = count / n, Z * Z / n
    middle = (rate + square / 2) / (1 + square)
    half = Z * sqrt(rate * (1 - rate) / n + square / (4 * n)) / (1 + square)
    return (0.0 if count == 0 else middle - half), (1.0 if count == n else middle + half)


def never_seen(n: int) -> float:
    """The upper 95 % bound of the rate of what was not seen once in ``n`` cases; 1 if there were none."""
    return 1 - float(MISS ** (1 / n)) if n > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Rate:
    """How often an outcome occurred. ``low``, ``high``: Wilson's interval, or (0, upper bound) for a count of 0."""

    count: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """The rate itself; 0 without cases."""
        return self.count / self.n if self.n else 0.0

    def text(self) -> str:
        """``12  1.20 % (0.69 to 2.09 %)``, or ``0  below 0.03 %``."""
        if not self.count:
            return f"{self.count}  below {self.high:.2%}"
        return f"{self.count}  {self.share:.2%} ({self.low:.2%} to {self.high:.2%})"


def rate(count: int, n: int) -> Rate:
    """The rate of something seen ``count`` times in ``n`` cases."""
    return Rate(count, n, *(wilson(count, n) if count else (0.0, never_seen(n))))


@dataclass(slots=True)
class Tally:
    """Counts of one stratum: outcomes, outcomes of guests, times per phase. ``good``: expectations held."""

    cases: int = 0
    good: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    guests: dict[str, dict[str, int]] = field(default_factory=dict)
    phases: dict[str, Spread] = field(default_factory=dict)

    def add(self, result: CaseResult) -> None:
        """One more case."""
        self.cases += 1
        self.good += result.good
        _count(self.outcomes, result.outcome.value, 1)
        for guest, outcome in result.guests.items():
            _count(self.guests.setdefault(guest, {}), outcome, 1)
        for phase, ms in result.phases.items():
            self.phases.setdefault(phase, Spread()).add(ms)

    def merge(self, other: Tally) -> None:
        """Take in the counts of another tally, which stays as it is."""
        self.cases += other.cases
        self.good += other.good
        for outcome, count in other.outcomes.items():
            _count(self.outcomes, outcome, count)
        for guest, counts in other.guests.items():
            for outcome, count in counts.items():
                _count(self.guests.setdefault(guest, {}), outcome, count)
        for phase, spread in other.phases.items():
            self.phases.setdefault(phase, Spread()).merge(spread)

    def rates(self) -> dict[Outcome, Rate]:
        """Every outcome with its rate, also those never seen."""
        return {outcome: rate(self.outcomes.get(outcome, 0), self.cases) for outcome in Outcome}

    def plain(self) -> dict[str, Any]:
        """As plain data that JSON and msgpack know; equal counts give equal data."""
        return {
            "cases": self.cases,
            "good": self.good,
            "outcomes": dict(sorted(self.outcomes.items())),
            "guests": {guest: dict(sorted(counts.items())) for guest, counts in sorted(self.guests.items())},
            "phases": {phase: spread.plain() for phase, spread in sorted(self.phases.items())},
        }

    @classmethod
    def of_plain(cls, data: Mapping[str, Any]) -> Tally:
        """The tally that ``plain`` was taken from."""
        phases = {phase: Spread.of_plain(spread) for phase, spread in data["phases"].items()}
        guests = {guest: dict(counts) for guest, counts in data["guests"].items()}
        return cls(data["cases"], data["good"], dict(data["outcomes"]), guests, phases)


def _count(counts: dict[str, int], key: str, by: int) -> None:
    counts[key] = counts.get(key, 0) + by


class Tallies:
    """One tally for each stratum, and of all cases together."""

    def __init__(self) -> None:
        self.strata: dict[str, Tally] = {}

    def add(self, result: CaseResult) -> None:
        """One more case."""
        self.strata.setdefault(result.stratum, Tally()).add(result)

    def merge(self, others: Mapping[str, Tally]) -> None:
        """Take in tallies by stratum."""
        for stratum, tally in others.items():
            self.strata.setdefault(stratum, Tally()).merge(tally)

    def total(self) -> Tally:
        """All strata together."""
        whole = Tally()
        for tally in self.strata.values():
            whole.merge(tally)
        return whole


@dataclass(frozen=True, slots=True)
class Figures:
    """What is told of a stratum or of a whole campaign; ``times`` are p50, p95, p99, max in ms by phase."""

    name: str
    cases: int
    good: int
    rates: dict[Outcome, Rate]
    times: dict[str, dict[str, float]]

    def lines(self) -> Iterable[str]:
        """For people: outcomes that were seen, the bound for all others, times per phase."""
        yield f"{self.name}: {self.cases} cases, {self.good} as expected"
        for outcome, found in self.rates.items():
            if found.count:
                yield f"  {outcome:34} {found.text()}"
        unseen = [outcome for outcome, found in self.rates.items() if not found.count]
        if unseen and self.cases:
            yield f"  never seen, each below {never_seen(self.cases):.2%}: {', '.join(unseen)}"
        for phase, times in self.times.items():
            yield f"  {phase:14} ms  " + "  ".join(f"{name} {ms:.3f}" for name, ms in times.items())


def figures(name: str, tally: Tally) -> Figures:
    """What a tally says."""
    times = {phase: tally.phases[phase].percentiles() for phase in sorted(tally.phases)}
    return Figures(name, tally.cases, tally.good, tally.rates(), times)
