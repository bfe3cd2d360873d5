"""Who had to die, and by which rule: tables over what a guest answered and what became of its devices.

The standard is the promise of the 2008 letter as H1 to H25 make it exact (xen-pci.md 7.4, xen-pci-errata.md 9), in both
profiles: that ``linux`` does not keep it is what a campaign is to find out. In each table the first row wins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from protocol.ers import ErsResult, result_name
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.facts_parts import NEVER, PERM_FAILURE, Life, Question, Recovery, Silence

ERROR_DETECTED, MMIO_ENABLED, SLOT_RESET, RESUME = "error_detected", "mmio_enabled", "slot_reset", "resume"
# What a phase may be answered with, and what the votes of a group may merge to, for the recovery to go on.
GOES_ON: dict[str, frozenset[int]] = {
    ERROR_DETECTED: frozenset({ErsResult.CAN_RECOVER, ErsResult.NEED_RESET, ErsResult.RECOVERED}),
    MMIO_ENABLED: frozenset({ErsResult.NEED_RESET, ErsResult.RECOVERED}),
    SLOT_RESET: frozenset({ErsResult.RECOVERED}),
}
ANYTHING: frozenset[int] = frozenset()  # a phase whose answer decides nothing
ROUNDS_MAX = 3


class Required(NamedTuple):
    """A guest had to die: the row that says so, the rule, and a sentence without the guest's name."""

    label: str
    rule: str
    text: str
    at: int


class QuestionRow(NamedTuple):
    """One way to fail a phase: how the question ended, and what else must be true. ``text`` is filled in."""

    label: str
    rule: str
    situation: str
    fails: Callable[[Facts, Question], bool]
    text: str


def at_fault(bdf: str, recovery: Recovery | None) -> bool:
    """Is the function more than a bystander (H20): the error's source, frozen, or reset."""
    return recovery is None or recovery.frozen or recovery.source == bdf or bdf in recovery.hit


def _votes(facts: Facts, q: Question) -> bool:
    """The answer counts: resume has none of its own, and nobody looks at what a lost device's driver says."""
    return q.phase != RESUME and q.state != PERM_FAILURE


def _not_lost(facts: Facts, q: Question) -> bool:
    return q.state != PERM_FAILURE


def _no_handler(facts: Facts, q: Question) -> bool:
    return _votes(facts, q) and at_fault(q.bdf, q.recovery)


def _dragged_along(facts: Facts, q: Question) -> bool:
    """A bystander without handlers whose guest asks for a reset of the whole bus (H20)."""
    return _votes(facts, q) and any(
        other.life is q.life and other.recovery is q.recovery and other.answer == ErsResult.NEED_RESET
        for other in facts.questions
        if other.situation == "answer-valid" and other.bdf in facts.ground.group.get(q.bdf, ())
    )


def _cannot_go_on(facts: Facts, q: Question) -> bool:
    """Neither the answer nor what the votes of its group merged to lets the recovery go on."""
    allowed = GOES_ON.get(q.phase, ANYTHING)
    if q.answer in allowed or allowed is ANYTHING or q.state == PERM_FAILURE:
        return False
    merged = q.recovery.votes.get(q.bdf) if q.recovery is not None else None
    return merged is None or merged[0] != q.phase or merged[1] not in {result_name(result) for result in allowed}


# fmt: off
QUESTION_ROWS: tuple[QuestionRow, ...] = (
    #            label             rule           the question ended   and             what the sentence says
    QuestionRow("mute",           "H3",          "timeout",           _not_lost,
        "did not answer {phase} for {bdf} in time"),
    QuestionRow("invalid-answer", "H8",          "answer-invalid",    _votes,
        "answered {phase} for {bdf} with {answer}, which is no vote"),
    QuestionRow("gave-up",        "H15",         "answer-disconnect", _votes,
        "gave {bdf} up in {phase} (DISCONNECT)"),
    QuestionRow("no-handler",     "H15, FE-20",  "answer-none",       _no_handler,
        "has no handler for {bdf} ({phase} answered NONE)"),
    QuestionRow("dragged-along",  "H20",         "answer-none",       _dragged_along,
        "has no handler for {bdf}, whose bus it asked to be reset"),
    QuestionRow("closed",         "X33",         "channel-lost",      _not_lost,
        "closed its channel while it was asked {phase} for {bdf}"),
    QuestionRow("failed-phase",   "T4",          "answer-valid",      _cannot_go_on,
        "answered {phase} for {bdf} with {answer}, which does not go on"),
)
# fmt: on
BY_SITUATION: dict[str, list[QuestionRow]] = {
    situation: [row for row in QUESTION_ROWS if row.situation == situation]
    for situation in dict.fromkeys(row.situation for row in QUESTION_ROWS)
}

# Why a guest that was not asked had to die for a function at fault; other silences are no reason.
SILENCE_ROWS: dict[str, tuple[str, str]] = {
    "no-frontend": ("errata 9.2 no. 4", "has no pcifront to ask about {bdf}"),
    "closed": ("X33, H13", "was not connected when {bdf} had an error"),
    "no-code": ("H15", "has a pcifront without AER code for {bdf}"),
}
# The same of one that has voted in this recovery, a bystander too: it is too late to be left alone.
CUT_OFF = "cut-off", "X33", "was asked about {bdf} and cannot be told how it ended"
UNREACHABLE = ("closed", "young", "no-code")


def required(facts: Facts, life: Life) -> Required | None:
    """Why this incarnation of a guest had to die, whether or not it did: the first reason in time."""
    reasons = [_by_question(facts, life), _by_silence(facts, life), _by_device(facts, life), _by_rounds(facts, life)]
    found = [reason for reason in reasons if reason is not None]
    return min(found, key=lambda reason: reason.at) if found else None


def _by_question(facts: Facts, life: Life) -> Required | None:
    for q in facts.questions:
        if q.life is not life or q.done == NEVER or q.leaving:
            continue
        for row in BY_SITUATION.get(q.situation, ()):
            if row.fails(facts, q):
                text = row.text.format(phase=q.phase, bdf=q.bdf, answer=result_name(q.answer))
                return Required(row.label, row.rule, text, q.done)
    return None


def _by_silence(facts: Facts, life: Life) -> Required | None:
    for silence in facts.silences:
        row = SILENCE_ROWS.get(silence.why)
        if silence.life is not life:
            continue
        if row is not None and at_fault(silence.bdf, silence.recovery):
            return Required(silence.why, row[0], row[1].format(bdf=silence.bdf), silence.at)
        if silence.why in UNREACHABLE and _has_voted(facts, silence):
            return Required(CUT_OFF[0], CUT_OFF[1], CUT_OFF[2].format(bdf=silence.bdf), silence.at)
    return None


def _has_voted(facts: Facts, silence: Silence) -> bool:
    """Its driver knows of the recovery, and may have stopped the device."""
    return any(
        q.bdf == silence.bdf and q.recovery is silence.recovery and q.situation == "answer-valid"
        for q in facts.questions
    )


def _by_device(facts: Facts, life: Life) -> Required | None:
    """A device that did not come back from a reset (KILL-5, errata 9.2 no. 5 and 14)."""
    for recovery in facts.recoveries:
        for bdf, why in recovery.lost.items():
            if facts.had(life, bdf, recovery.at):
                return Required("device-lost", "KILL-5", f"has lost {bdf}: {why}", max(recovery.done, recovery.at))
    return None


def _by_rounds(facts: Facts, life: Life) -> Required | None:
    """Errors without end: no fourth round (errata 9.2 no. 14)."""
    for recovery in facts.recoveries:
        failed = "failed" in recovery.verdicts.values()
        if recovery.number >= ROUNDS_MAX and failed and facts.had(life, recovery.source, recovery.at):
            text = f"has a device, {recovery.source}, whose errors do not end"
            return Required("errors-without-end", "errata 9.2 no. 14", text, recovery.done)
    return None
