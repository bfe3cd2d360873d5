"""How fast interleavings are explored: complete ones of I1, both ends of the page (xen-pci.md 7.5)."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

ROUNDS = 50
EXPLORATIONS = 10  # of all orders, per round


def interleavings() -> dict[str, dict[str, Any]]:
    """Complete interleavings per second of processor time; equivalent ones that are given up only cost."""
    from xenaer.scenarios.exploring import explore_page  # noqa: PLC0415 - loads all roles

    rates, played = [], 0
    for _ in range(ROUNDS):
        begin, complete = time.process_time(), 0
        for _ in range(EXPLORATIONS):
            report = explore_page("I1", "hardened")
            assert not report.findings, list(report.findings)
            complete += report.complete
        rates.append(complete / (time.process_time() - begin))
        played += complete
    ordered = sorted(rates)
    return {"interleavings_per_s": {"p50": median(ordered), "p99": ordered[int(0.99 * ROUNDS)], "n": played}}
