"""What a run of a campaign means: rates with intervals, times, coverage; and whether it passed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xenaer.campaign.build import Builder
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.expectations import applies
from xenaer.campaign.form import RateForm
from xenaer.campaign.run.rows import to_result
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.run.summary import Summary
from xenaer.campaign.verdict.coverage import Section, sections, universe
from xenaer.campaign.verdict.statistics import Figures, Tallies, Tally, figures, rate
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
            "coverage": [section._asdict() for section in self.sections],
        }


def conclude(campaign: Campaign, folder: RunFolder, summary: Summary) -> Conclusion:
    """Read all results once; memory does not grow with them. Raises RunFolderError."""
    tallies = Tallies()
    wanted = [(index, form) for index, form in enumerate(campaign.form.expect) if form.rates]
    selected: dict[int, Tally] = {index: Tally() for index, _ in wanted}
    builder = Builder(campaign)
    counted = dict.fromkeys(COUNTED, 0)
    for row in folder.store.rows():
        result = to_result(row)
        tallies.add(result)
        for key in counted:
            counted[key] += (result.feedback or {}).get(key, 0)
        if wanted:
            values = builder.values(json.loads(row.recipe_json))
            for index, form in wanted:
                if applies(form, values):
                    selected[index].add(result)
    problems = list(_problems(summary))
    for index, form in wanted:
        problems += [text for item in form.rates if (text := _unmet(item, selected[index]))]
    covered = sections(universe(campaign.common_host), summary.coverage)
    strata = [figures(name, tally) for name, tally in sorted(tallies.strata.items())]
    return Conclusion(
        problems, figures(campaign.form.name, tallies.total()), strata if len(strata) > 1 else [], covered, counted
    )


def _problems(summary: Summary) -> Iterator[str]:
    if not summary.complete:
        yield "not all cases were played"
    if not summary.cases:
        yield "there was no case to play"
    if summary.failing:
        yield f"{summary.failing} of {summary.cases} cases failed"


def _unmet(form: RateForm, tally: Tally) -> str:
    found = rate(tally.outcomes.get(form.outcome, 0), tally.cases)
    if form.at_least is not None and found.low < form.at_least:
        return f"{form.outcome}: {found.text()}; expected: at least {form.at_least:.2%} with 95 % confidence"
    if form.at_most is not None and found.high > form.at_most:
        return f"{form.outcome}: {found.text()}; expected: at most {form.at_most:.2%} with 95 % confidence"
    return ""


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
