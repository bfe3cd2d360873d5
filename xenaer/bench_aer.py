"""Benchmarks of dom0's AER stack alone: recorded cases per second, and a storm of correctable errors.

Both are per second of one processor. A storm whose counters are not exact is no figure but a failure.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

from dom0_pciback.native import NativeDom0
from kernel_stub.kernel import Kernel
from protocol.ids import Sbdf
from xenaer.boot import ROOT, data_dir
from xenaer.host import load_host
from xenaer.simulation.world import World

CASES = ROOT / "tests" / "recorded" / "linux"  # in a checkout; the package does not carry the recordings
ROUNDS = 5
STORM_DEVICE = Sbdf.parse("0000:01:00.0")
STORM_ERRORS = 100_000
STORM_SPACING_NS = 100_000  # virtual time between two errors: 10 s in all
STORM_WINDOW_NS = 5_000_000_000
LOGGED_PER_WINDOW = 10
RX_ERR = 1

Figures = dict[str, Any]


def golden_cases() -> dict[str, Figures]:
    """All recorded cases, loaded before and machines booted in the first round; nothing outside a checkout."""
    from xenaer.conform.case import load_case  # noqa: PLC0415 - loads all of dom0
    from xenaer.conform.run import Conformity  # noqa: PLC0415

    cases = [load_case(path) for path in sorted(Path(CASES).glob("*.json"))]
    if not cases:
        return {}
    conformity = Conformity(interleavings=1)
    rates = []
    for _ in range(ROUNDS + 1):
        begin = time.process_time()
        for case in cases:
            conformity.run(case)
        rates.append(len(cases) / (time.process_time() - begin))
    return {"golden_cases_per_s": _figures(rates[1:], len(cases))}


def storm() -> dict[str, Figures]:
    """Correctable errors of one device, 10,000 per virtual second: each counted, ten logged per window."""
    rates = [_storm() for _ in range(ROUNDS)]
    return {"storm_errors_per_s": _figures(rates, STORM_ERRORS)}


def _storm() -> float:
    world, journal = World(1), _Lines()
    kernel = Kernel("dom0", world, journal)
    world.adopt(kernel)
    dom0 = NativeDom0(kernel, world, load_host(data_dir("hosts") / "one-nic.yaml"))
    kernel.spawn(dom0.start(), "init")
    world.run_until(lambda: False, world.now() + 1)
    start, inject = world.now(), dom0.hierarchy.inject
    left = STORM_ERRORS

    def strike() -> None:
        nonlocal left
        left -= 1
        if left:
            world.at(world.now() + STORM_SPACING_NS, strike)
        inject(STORM_DEVICE, RX_ERR, 0)

    world.at(start, strike)
    journal.details = 0
    begin = time.process_time()
    world.run_until(lambda: False, start + STORM_ERRORS * STORM_SPACING_NS)
    taken = time.process_time() - begin
    counted = dom0.aer.stats_text(dom0.core.devices[STORM_DEVICE], "aer_dev_correctable")
    windows = STORM_ERRORS * STORM_SPACING_NS // STORM_WINDOW_NS
    logged = (journal.details, windows * LOGGED_PER_WINDOW)
    assert f"RxErr {STORM_ERRORS}\n" in counted, f"not all {STORM_ERRORS} errors are counted: {counted}"
    assert logged[0] == logged[1], f"{logged[0]} errors logged, {logged[1]} allowed"
    return STORM_ERRORS / taken


class _Lines:
    """A journal that keeps nothing but how many detail lines it saw."""

    def __init__(self) -> None:
        self.details = 0

    def append(self, record: tuple[Any, ...]) -> None:
        if record[2] == "printk" and "[ 0] RxErr" in record[5]:
            self.details += 1

    def flush(self) -> None:
        """Nothing waits."""


def _figures(rates: list[float], count: int) -> Figures:
    return {"p50": median(rates), "p99": max(rates), "n": count}
