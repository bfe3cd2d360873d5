"""One order of one case as it was played, and the result that is made of it; the same for both worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from protocol.ports import Record
from xenaer.campaign.build import Case
from xenaer.campaign.case import CaseResult, Outcome, Task
from xenaer.campaign.expectations import Ending, unmet
from xenaer.campaign.form import CampaignForm
from xenaer.campaign.steps.later import StepResult
from xenaer.campaign.steps.steps_form import StepForm
from xenaer.campaign.verdict.afterwards import VERIFIED, Afterwards
from xenaer.campaign.verdict.coverage import coverage_of
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.journal_hash import digest_of, pack_journal
from xenaer.campaign.verdict.verdict import ROWS, Verdict, decide
from xenaer.journal import Entry, entry

ARMED, REACHED = "armed", "reached"  # keys of a feedback
XL_ACTIONS = frozenset({"attach", "detach", "create", "destroy", "kill", "shutdown", "reboot", "pause", "unpause"})
HARM = {row.label: rank for rank, row in enumerate(ROWS)}  # the table is in the order of harm


@dataclass(slots=True)
class Played:
    """What one order came to. ``journal`` is packed, ``digest`` its hash; ``feedback`` goes to the exploration."""

    verdict: Verdict
    problems: list[str]
    digest: str
    journal: bytes
    coverage: frozenset[str] = frozenset()
    feedback: dict[str, Any] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[bool, int]:
        """Order of harm: what fails comes first, then the row of the verdict."""
        return not self.problems, HARM[self.verdict.label]


@dataclass(slots=True)
class Remains:
    """What an order that was played leaves to be judged: its journal, and what was found after it.

    ``begin_ns`` is when the case began, ``counters`` gives the statistics files of a function, ``problems`` are those
    that have been found already. ``excused``: the host is known to break invariants, which is no failure of the case.
    """

    facts: Facts
    after: Afterwards
    records: Sequence[tuple[str, Record]]
    begin_ns: int
    counters: Callable[[str], Mapping[str, str]]
    problems: list[str]
    excused: bool = False


def judged(form: CampaignForm, case: Case, remains: Remains) -> Played:
    """Verdict, problems, journal and coverage of an order that was played."""
    facts, after, records = remains.facts, remains.after, remains.records

    @cache
    def entries() -> list[Entry]:
        return [entry(party, record) for party, record in records]

    verdict = with_bugs(decide(facts, after), facts)
    ending = Ending(
        facts.ground.host, case.values, verdict.outcome, verdict.guests, verdict.phases, verified(after), entries,
        remains.counters,
    )  # fmt: skip
    invariants = [] if remains.excused else [text for _, text in verdict.broken]
    problems = remains.problems + invariants + unmet(form, ending)
    journal = pack_journal(records, remains.begin_ns)
    return Played(verdict, problems, digest_of(journal), journal, coverage_of(facts))


def result_of(case: Case, played: Played, task: Task) -> CaseResult:
    """The result of a case; its journal only if it failed or the task wants it."""
    verdict, good = played.verdict, not played.problems
    return CaseResult(
        number=case.number,
        case_id=case.case_id,
        stratum=case.stratum,
        outcome=verdict.outcome,
        good=good,
        text=verdict.text,
        problems=played.problems,
        effect=verdict.effect,
        guests=dict(verdict.guests),
        phases=dict(verdict.phases),
        coverage=played.coverage,
        digest=played.digest,
        journal=played.journal if task.keep or not good else None,
        feedback=played.feedback or None,
    )


def broken(case: Case, text: str) -> CaseResult:
    """The result of a case that could not be played."""
    return CaseResult(case.number, case.case_id, case.stratum, Outcome.HARNESS_ERROR, False, text, [text])


def differs(played: Played, digest: str) -> None:
    """The same case played again had another journal: nothing that it says can be trusted."""
    text = (
        f"played twice, with different journals ({played.digest} and {digest}): "
        "something outlives a case, for example a driver that keeps state in its module"
    )
    played.problems.insert(0, text)
    played.verdict = replace(played.verdict, outcome=Outcome.HARNESS_ERROR, label="harness", text=text)


def failed_steps(steps: list[StepForm], results: list[StepResult]) -> list[str]:
    """Steps that did not do what they should.

    A toolstack command may be refused, and what strikes at a program point may find nothing to strike any more: these
    are answers, not failures.
    """
    return [
        f"step {result.number} ({result.name}): {result.text}"
        for step, result in zip(steps, results, strict=False)
        if not result.good and result.action not in XL_ACTIONS and step.at is None and not step.background
    ]


def with_bugs(verdict: Verdict, facts: Facts) -> Verdict:
    """What of a guest died of an exception is said with the verdict: the author of a driver looks for his line."""
    bugs = [f"{party}, {task}: {text}" for party, task, text in facts.oopses if party in facts.ground.guests]
    return replace(verdict, text="; ".join([verdict.text, *dict.fromkeys(bugs)])) if bugs else verdict


def points_reached(steps: list[StepForm], results: list[StepResult]) -> dict[str, Any]:
    """How many program points were waited for, and how many were reached; nothing if none was."""
    waited = [result for step, result in zip(steps, results, strict=False) if step.at is not None]
    return {ARMED: len(waited), REACHED: sum(result.reached for result in waited)} if waited else {}


def verified(after: Afterwards) -> dict[str, bool]:
    """Guest to whether traffic ran through all of its devices that carry any."""
    found: dict[str, bool] = {}
    for (guest, _), work in after.workload.items():
        found[guest] = found.get(guest, True) and work.state == VERIFIED
    return found
