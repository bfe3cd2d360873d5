"""What a run of a campaign means: rates with intervals, times, coverage; and whether it passed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xenaer.campaign.build import Builder
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.rates import RateCount
from xenaer.campaign.run.rows import to_result
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.run.summary import Summary
from xenaer.campaign.verdict.coverage import Section, sections, universe
from xenaer.campaign.verdict.statistics import Figures, Tallies, figures
from xenaer.campaign.worlds.play_simulated import EQUIVALENT, ORDERS
from xenaer.campaign.worlds.played import ARMED, REACHED

PASSED, FAILED = 0, 1
COUNTED = (ARMED, REACHED, ORDERS, EQUIVALENT)
SHOWN = 10


@dataclass(slots=True)
class Conclusion:
    """``problems`` is empty if the campaign passed. ``strata`` are told one by one if there are several."""

    problems: list[str]
    whole: Figures
    strata: list[Figures]
    sections: list[Section]
    counted: dict[str, int]  # program points armed and reached, orders of events played
    shares: list[str]  # how many cases were good, where that is what is expected

    @property
    def status(self) -> int:
        """Exit status: 0 passed, 1 failed."""
        return FAILED if self.problems else PASSED

    def plain(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "passed": not self.problems,
            "problems": self.problems,
            "figures": [_plain(found) for found in (self.whole, *self.strata)],
            "counted": self.counted,
            "shares": self.shares,
            "coverage": [section._asdict() for section in self.sections],
        }


def conclude(campaign: Campaign, folder: RunFolder, summary: Summary) -> Conclusion:
    """Read all results once; memory does not grow with them. Raises RunFolderError."""
    tallies = Tallies()
    rates = RateCount(campaign.form)
    builder = Builder(campaign)
    counted = dict.fromkeys(COUNTED, 0)
    for row in folder.store.rows():
        result = to_result(row)
        tallies.add(result)
        for key in counted:
            counted[key] += (result.feedback or {}).get(key, 0)
        if rates.counts:
            rates.add(result, builder.values(json.loads(row.recipe_json)))
    problems = [*_problems(summary, rates.excused), *rates.unmet()]
    covered = sections(universe(campaign.common_host), summary.coverage)
    strata = [figures(name, tally) for name, tally in sorted(tallies.strata.items())]
    return Conclusion(
        problems,
        figures(campaign.form.name, tallies.total()),
        strata if len(strata) > 1 else [],
        covered,
        counted,
        rates.shares(),
    )


def _problems(summary: Summary, excused: int) -> Iterator[str]:
    if not summary.complete:
        yield "not all cases were played"
    if not summary.cases:
        yield "there was no case to play"
    if summary.failing > excused:
        yield f"{summary.failing} of {summary.cases} cases failed"


def _plain(found: Figures) -> dict[str, Any]:
    rates = {
        str(outcome): {"count": r.count, "share": r.share, "low": r.low, "high": r.high}
        for outcome, r in found.rates.items()
    }
    return {"name": found.name, "cases": found.cases, "good": found.good, "rates": rates, "times": found.times}


def lines(conclusion: Conclusion, summary: Summary) -> Iterator[str]:
    """The conclusion for people."""
    yield from conclusion.whole.lines()
    for found in conclusion.strata:
        seen = ", ".join(f"{outcome} {r.count}" for outcome, r in found.rates.items() if r.count)
        yield f"  {found.name}: {found.cases} cases: {seen}"
    yield from (f"  {text}" for text in conclusion.shares)
    yield "  coverage: " + ", ".join(found.text() for found in conclusion.sections)
    counted = conclusion.counted
    if counted[ARMED]:
        yield f"  program points: {counted[REACHED]} of {counted[ARMED]} reached"
    if counted[ORDERS]:
        yield f"  orders of events: {counted[ORDERS]} played, {counted[EQUIVALENT]} equivalent ones given up"
    for failure in summary.failures[:SHOWN]:
        yield f"  FAILED {failure.case_id} {failure.outcome}: {'; '.join(failure.problems) or failure.text}"
    if summary.failing > SHOWN:
        yield f"  ... and {summary.failing - SHOWN} more"
    yield from (f"  {text}" for text in conclusion.problems)
