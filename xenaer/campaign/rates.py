"""What a campaign expects of many cases together: how often an outcome may occur, how many must be good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xenaer.campaign.case import CaseResult
from xenaer.campaign.expectations import applies
from xenaer.campaign.form import CampaignForm, ExpectationForm, RateForm
from xenaer.campaign.verdict.statistics import Tally, rate


class RateCount:
    """Counts the cases that each such expectation is about; memory does not grow with them.

    ``excused``: failed cases of which ``good_at_least`` says how many there may be.
    """

    def __init__(self, form: CampaignForm) -> None:
        wanted = [each for each in form.expect if each.rates or each.good_at_least is not None]
        self._counted = [(each, Tally()) for each in wanted]
        self.excused = 0

    @property
    def counts(self) -> bool:
        """Is there anything to be counted."""
        return bool(self._counted)

    def add(self, result: CaseResult, values: Mapping[str, Any]) -> None:
        """One more case, with these values of the axes."""
        relevant = [(each, tally) for each, tally in self._counted if applies(each, values)]
        for _, tally in relevant:
            tally.add(result)
        self.excused += not result.good and any(each.good_at_least is not None for each, _ in relevant)

    def unmet(self) -> list[str]:
        """What does not hold."""
        rates = [text for each, tally in self._counted for form in each.rates if (text := _unmet(form, tally))]
        return rates + [text for text, holds in self._shares() if not holds]

    def shares(self) -> list[str]:
        """How many of the cases were good, where the campaign says how many must be."""
        return [text for text, _ in self._shares()]

    def _shares(self) -> Iterator[tuple[str, bool]]:
        for each, tally in self._counted:
            if each.good_at_least is not None and tally.cases:
                found = f"{_selection(each)}: {tally.good} of {tally.cases} good"
                text = f"{found}; expected: at least {each.good_at_least:.0%}"
                yield text, tally.good >= each.good_at_least * tally.cases


def _selection(form: ExpectationForm) -> str:
    return ", ".join(f"{name}={value}" for name, value in form.where.items()) or "all"


def _unmet(form: RateForm, tally: Tally) -> str:
    found = rate(tally.outcomes.get(form.outcome, 0), tally.cases)
    if form.at_least is not None and found.low < form.at_least:
        return f"{form.outcome}: {found.text()}; expected: at least {form.at_least:.2%} with 95 % confidence"
    if form.at_most is not None and found.high > form.at_most:
        return f"{form.outcome}: {found.text()}; expected: at most {form.at_most:.2%} with 95 % confidence"
    return ""
