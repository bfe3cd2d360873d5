"""Plays mutants as cases: each is hunted in a process of its own, and good if a campaign has found it."""

from __future__ import annotations

from typing import Any

from xenaer.campaign.build import Builder, Case
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Outcome, Task
from xenaer.campaign.form import MUTANT
from xenaer.campaign.mutants.catalogue import CONTROL
from xenaer.campaign.mutants.hunt import STARTS
from xenaer.campaign.mutants.process import Hunted, hunted

FOUND_BY = "found_by"  # key of a feedback: campaign, case, outcome, problem
MOVED = "played twice, and what found it was another case or another journal: "


class MutantPlayer:
    """``chunk.Player`` for the exploration ``mutants``."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.builder = Builder(campaign)

    def close(self) -> None:
        """Nothing runs."""

    def rehearse(self) -> None:
        """Every mutant has a process of its own."""

    def play(self, task: Task) -> CaseResult:
        """One mutant; twice if the task says so."""
        case = self.builder.build(task.number, task.recipe)
        result = self._one(case, keep=task.keep)
        if task.twice and result.outcome is not Outcome.HANG:  # when it is killed for that is the clock's decision
            again = self._one(case, keep=False)
            if (again.digest, again.text) != (result.digest, result.text):
                text = f"{MOVED}{result.text}; {again.text}"
                return _result(case, Outcome.HARNESS_ERROR, text, good=False)
        return result

    def _one(self, case: Case, *, keep: bool) -> CaseResult:
        label = case.values[MUTANT]
        assert self.campaign.form.explore is not None
        assert self.campaign.form.explore.mutants is not None
        seen = hunted(label, self.campaign.path, self.campaign.form.explore.mutants)
        if seen.broken:
            return _result(case, Outcome.HARNESS_ERROR, f"{label}: {seen.broken}", good=False)
        if seen.found is None:
            return _result(case, Outcome.NO_EFFECT, _survived(label, seen), good=label == CONTROL)
        result = _result(case, Outcome(seen.found["outcome"]), _told(label, seen.found), good=label != CONTROL)
        result.digest, result.guests = seen.found["digest"], seen.found["guests"]
        result.journal = seen.found["journal"] if keep or not result.good else None
        result.feedback = {
            FOUND_BY: {key: seen.found[key] for key in ("campaign", "how", "case", "outcome", "problem")}
        }
        return result


def _result(case: Case, outcome: Outcome, text: str, *, good: bool) -> CaseResult:
    return CaseResult(case.number, case.case_id, case.stratum, outcome, good, text, [] if good else [text])


def _survived(label: str, seen: Hunted) -> str:
    cases = ", ".join(f"{name} {count}" for name, count in seen.played.items())
    return f"{label}: no campaign found anything; cases played: {cases}"


def _told(label: str, found: dict[str, Any]) -> str:
    where = "could not start" if found["how"] == STARTS else f"case {found['case']}" if found["case"] else "its rates"
    return f"{label}: found by {found['campaign']}, {where}: {found['problem']}"
