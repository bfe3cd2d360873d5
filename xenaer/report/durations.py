"""How long recoveries took, for the page: figures and a coarse histogram of each phase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import floor, log10
from typing import Any

from xenaer.campaign.verdict.percentiles import Spread, middle

PER_DECADE = 6  # bins
ORDER = ("total", "error_detected", "mmio_enabled", "slot_reset", "resume", "reset", "kill")


def durations(times: Mapping[tuple[str, str], Spread]) -> list[dict[str, Any]]:
    """All strata together under the name "", then each of them."""
    whole: dict[str, Spread] = {}
    strata: dict[str, dict[str, Spread]] = {}
    for (stratum, phase), spread in sorted(times.items()):
        whole.setdefault(phase, Spread()).merge(spread)
        strata.setdefault(stratum, {})[phase] = spread
    several = strata.items() if len(strata) > 1 else ()
    return [{"stratum": name, "phases": _phases(found)} for name, found in [("", whole), *several]]


def _phases(found: Mapping[str, Spread]) -> list[dict[str, Any]]:
    order = sorted(found, key=lambda phase: (ORDER.index(phase) if phase in ORDER else len(ORDER), phase))
    return [
        {"phase": phase, "n": found[phase].n, **found[phase].percentiles(), "bins": _bins(found[phase])}
        for phase in order
    ]


def _bins(spread: Spread) -> list[tuple[int, int]]:
    """(bin, count): bin b begins at 10 ** (b / PER_DECADE) microseconds; shorter ones are in bin 0."""
    counted: Counter[int] = Counter()
    for us in spread.exact or ():
        counted[bin_of(us)] += 1
    for number, count in spread.buckets.items():
        counted[bin_of(middle(number))] += count
    return sorted(counted.items())


def bin_of(us: int) -> int:
    """The bin of a duration."""
    return max(0, floor(log10(us) * PER_DECADE + 1e-9)) if us > 0 else 0
