"""The outcome of a case: one table, the first row that applies wins.

The order is that of harm. What makes the case worthless comes first, then what has no end, then what endangers others
(resets, blame, neighbours), then broken promises to the guests concerned, then how a recovery went, and last that there
was none. ``docs/CAMPAIGNS.md`` has the same table; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from xenaer.campaign.case import Effect, Outcome
from xenaer.campaign.verdict.afterwards import NOTHING_LOOKED_UP, Afterwards
from xenaer.campaign.verdict.always import broken
from xenaer.campaign.verdict.ends import MISSING, WRONG_ORDER
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.facts_parts import NEVER, Silence
from xenaer.campaign.verdict.guest_verdict import GuestOutcome, useless
from xenaer.campaign.verdict.proof import effect_of
from xenaer.campaign.verdict.seen import Seen


# -- what the rows ask -------------------------------------------------------------------------------
# Each answers with the row's sentence, or "" if the row does not apply.
def _harness(case: Seen) -> str:
    stub = next((f"the hypervisor stub died in {task}: {text}" for p, task, text in case.facts.oopses if p == STUB), "")
    damage = case.facts.damaged
    return case.after.problem or stub or (f"the journal is damaged: {damage[0]}" if damage else "")


STUB = "hypervisor"


def _dom0_dies(case: Seen) -> str:
    for party, task, text in case.facts.oopses:
        if party == "dom0":
            return f"dom0 died of a bug in {task}, and with it every recovery: {text}"
    lost = any(subject == "dom0" for _, subject in case.facts.party_lost)
    return "dom0 ended; nobody recovers any more" if lost else ""


def _guard(case: Seen) -> str:
    return f"the case did not end: {case.after.guard}" if case.after.guard else ""


def _no_end(case: Seen) -> str:
    for recovery in case.facts.recoveries:
        if recovery.done == NEVER:
            waiting = next((q for q in case.facts.questions if q.done == NEVER and q.recovery is recovery), None)
            where = f", it waits for {waiting.guest} in {waiting.phase} of {waiting.bdf}" if waiting is not None else ""
            return f"the recovery of {recovery.source} never ends{where}"
    return "" if case.after.ended else "a recovery or a kill has not ended"


def _no_end_of_kill(case: Seen) -> str:
    for name, found in case.guests.items():
        life = found.case.killed
        if life is not None and life.done == NEVER and case.after.guests.get(name) != "absent":
            return f"the kill of {name} never ends, its last step was {life.steps[-1][1] if life.steps else 'none'}"
    return ""


def _reset_missing(case: Seen) -> str:
    fault = case.fault(MISSING)
    return f"{fault.text} (KILL-4.5)" if fault is not None else ""


def _reset_order(case: Seen) -> str:
    fault = case.fault(WRONG_ORDER)
    return f"{fault.text} (KILL-4)" if fault is not None else ""


def _wrong_device(case: Seen) -> str:
    return f"{case.blamed} was blamed although {case.lost}" if case.blamed else ""


def _hurt(case: Seen) -> str:
    found = case.guest(GuestOutcome.HURT)
    return f"{found.case.harmed or found.case.lost}, although the error was not its own" if found is not None else ""


def _alive(case: Seen) -> str:
    found = case.guest(GuestOutcome.ALIVE_THOUGH_REQUIRED_DEAD)
    if found is None or found.case.reason is None:
        return ""
    reason, name = found.case.reason, found.case.name
    policy = " (its policy is ignore)" if found.case.life is not None and _ignored(case, name) else ""
    return f"{name} lives on{policy}, but {reason.text}; {reason.rule} wants it killed"


def _ignored(case: Seen, name: str) -> bool:
    spec = case.facts.ground.guests.get(name)
    return spec is not None and spec.policy == "ignore"


def _lost(case: Seen) -> str:
    return case.lost


def _needless(case: Seen) -> str:
    found = case.guest(GuestOutcome.KILLED_NEEDLESS)
    if found is None:
        return ""
    name, questions = found.case.name, found.case.questions
    said = next((f"its driver answered {q.phase} of {q.bdf} well" for q in questions if q.situation == VALID), "")
    given = next((f"{q.bdf} was being taken from it already (H11)" for q in questions if q.leaving), "")
    young = next((f"it was still connecting when {s.bdf} had its error (H13)" for s in _young(case, name)), "")
    return f"{name} was killed for nothing: {given or young or said or 'it had no part in the error'}"


VALID = "answer-valid"


def _young(case: Seen, name: str) -> list[Silence]:
    return [silence for silence in case.facts.silences if silence.guest == name and silence.why == "young"]


def _dead(case: Seen) -> str:
    found = case.guest(GuestOutcome.RECOVERED_BUT_DEAD)
    said = "the recovery says success" if "successful" in _verdicts(case) else "nobody said so"
    if found is not None:
        return f"{found.case.lost}, but {said}"
    ended = any(life.ending() for lives in case.facts.lives.values() for life in lives)
    for bdf, device in {} if ended or not _verdicts(case) else case.after.devices.items():
        if not device.owner and not device.faulty and useless(case.facts, bdf, device):
            return f"{bdf}, which nobody has, is {device.state}: {device.text}, but {said}"
    return ""


def _killed(case: Seen) -> str:
    found = case.guest(GuestOutcome.KILLED_REQUIRED)
    if found is None or found.case.reason is None or found.case.killed is None:
        return ""
    how = "was killed" if found.case.killed.ending() == "killed" else "ended before it was killed"
    return f"{found.case.name} {how}, as it had to be: it {found.case.reason.text} ({found.case.reason.rule})"


def _gone(case: Seen) -> str:
    found = case.guest(GuestOutcome.GONE_BY_ITSELF)
    if found is None or found.case.gone is None:
        return ""
    asked = next((q for q in found.case.questions if q.situation in ("guest-dead", "timeout", "")), None)
    when = f" while it was asked {asked.phase} for {asked.bdf}" if asked is not None else ""
    return f"{found.case.name} {'crashed' if found.case.gone.reason else 'died'} by itself{when} (KILL-8)"


def _failed(case: Seen) -> str:
    for recovery in case.facts.recoveries:
        for bdf, verdict in recovery.verdicts.items():
            if verdict == "failed":
                return f"the recovery of {bdf} failed, and there is no guest that had to die for it"
    return ""


def _verdicts(case: Seen) -> list[str]:
    return [verdict for recovery in case.facts.recoveries for verdict in recovery.verdicts.values()]


def _after_reset(case: Seen) -> str:
    facts = case.facts
    for recovery in facts.recoveries:
        abandoned = [bdf for bdf, verdict in recovery.verdicts.items() if verdict == "abandoned"]
        if abandoned and any(bdf in facts.good_resets for bdf in abandoned):
            return f"{abandoned[0]} was taken away during its recovery, and reset"
        if recovery.hit:
            return f"{recovery.source} recovered after a reset{_conversation(case)}"
    return ""


def _recovered(case: Seen) -> str:
    if not case.facts.recoveries:
        return ""
    source = case.facts.recoveries[0].source
    if "abandoned" in case.facts.recoveries[0].verdicts.values():
        return f"{source} was taken away during its recovery"
    return f"{source} recovered without a reset{_conversation(case)}"


def _conversation(case: Seen) -> str:
    guests = {q.guest: None for q in case.facts.questions}
    total = max((recovery.ms for recovery in case.facts.recoveries), default=0.0)
    tried = any(work.state != "not-tried" for work in case.after.workload.values())
    who = f", {', '.join(guests)} answered" if guests else ", nobody was asked"
    return f"{who}, {total:.1f} ms{'' if tried else ', no workload was tried'}"


def _corrected(case: Seen) -> str:
    if not case.facts.errors:
        return ""
    _, bdf, severity, status = case.facts.errors[0]
    return (
        f"{severity.lower()} error {status:08x} of {bdf} was logged, {len(case.facts.errors)} in all; nobody was asked"
    )


def _nothing(case: Seen) -> str:
    facts = case.facts
    for bdf, why in facts.faulty.items():
        return f"nothing reached the core or a guest; {bdf} is kept back as faulty: {why}"
    if facts.pending:
        bdf = next(iter(facts.pending))
        return f"the error of {bdf} was masked or not reported: nothing reached the core or a guest"
    return "nothing reached the core or a guest"


# -- the table ---------------------------------------------------------------------------------------
class Row(NamedTuple):
    """One way for a case to end. ``says`` answers with a sentence if the row applies, with "" if not."""

    label: str
    says: Callable[[Seen], str]
    outcome: Outcome
    when: str


# fmt: off
ROWS: tuple[Row, ...] = (
    Row("harness", _harness, Outcome.HARNESS_ERROR,
        "the journal is damaged, the hypervisor stub died, or the harness itself failed"),
    Row("dom0-dies", _dom0_dies, Outcome.HANG,
        "dom0 died of a bug, or ended: nobody recovers any more"),
    Row("guard", _guard, Outcome.HANG,
        "a limit of time ended the case"),
    Row("no-end", _no_end, Outcome.HANG,
        "a recovery that began has not ended"),
    Row("no-end-of-kill", _no_end_of_kill, Outcome.HANG,
        "a kill that began has not ended"),
    Row("reset-missing", _reset_missing, Outcome.FUNCTION_RESET_MISSING,
        "a guest ended, or its function went to the next one, without a reset of it that worked; a function kept "
        "back as faulty is excepted"),
    Row("reset-order", _reset_order, Outcome.FUNCTION_RESET_WRONG_ORDER,
        "there was such a reset, but before the guest had stopped running, before its DMA was blocked, or after "
        "the function had been taken from it"),
    Row("wrong-device", _wrong_device, Outcome.WRONG_DEVICE_BLAMED,
        "the core logged or recovered a function that had no error, and the one that had is left"),
    Row("hurt", _hurt, Outcome.NEIGHBOUR_HURT,
        "a guest without a function below the error's port was asked, reset, killed or lost its workload; or one "
        "that has a function there, but not the error, lost its workload and lives"),
    Row("alive", _alive, Outcome.GUEST_ALIVE_THOUGH_REQUIRED_DEAD,
        "a guest that had to die lived on"),
    Row("lost", _lost, Outcome.LOST,
        "a root port was told of an error, or a device still shows it unmasked, and nobody processed it"),
    Row("needless", _needless, Outcome.GUEST_KILLED_NEEDLESS,
        "a guest was killed and no rule required it"),
    Row("dead", _dead, Outcome.RECOVERED_BUT_DEAD,
        "a guest lives, and its workload fails or its device does not answer or still has status"),
    Row("killed", _killed, Outcome.GUEST_KILLED_REQUIRED,
        "a guest was killed and a rule required it"),
    Row("gone", _gone, Outcome.GUEST_KILLED_REQUIRED,
        "a guest died or crashed by itself, and its end went as it should"),
    Row("failed", _failed, Outcome.RECOVERED_BUT_DEAD,
        "a recovery failed and no guest had to die for it: dom0's own driver, or nobody's device"),
    Row("after-reset", _after_reset, Outcome.RECOVERED_AFTER_RESET,
        "every recovery ended well, with a reset; or the device was taken away meanwhile, and reset"),
    Row("recovered", _recovered, Outcome.RECOVERED,
        "every recovery ended well, without a reset, or the device was taken away meanwhile"),
    Row("corrected", _corrected, Outcome.CORRECTED_LOGGED,
        "errors were logged, nobody was asked, all guests live"),
    Row("nothing", _nothing, Outcome.NO_EFFECT,
        "nothing reached the core or a guest"),
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a case. ``label`` is the row that decided, ``guests`` the outcome of each guest.

    ``phases`` are milliseconds: the longest question of each phase, ``reset`` of the link, ``kill`` from the report to
    the domain's end, ``total`` the longest round of a recovery. ``broken`` are invariants that did not hold, as
    (name, text).
    """

    outcome: Outcome
    label: str
    text: str
    guests: Mapping[str, str] = field(default_factory=dict)
    effect: Effect = field(default_factory=Effect)
    phases: Mapping[str, float] = field(default_factory=dict)
    broken: tuple[tuple[str, str], ...] = ()

    def replaced(self, outcome: Outcome, text: str) -> Verdict:
        """The same case with another outcome, which somebody else found out."""
        return replace(self, outcome=outcome, text=text)


def decide(facts: Facts, after: Afterwards = NOTHING_LOOKED_UP) -> Verdict:
    """Exactly one outcome for every journal, whatever is in it; never raises."""
    case = Seen(facts, after)
    row, text = next((row, text) for row in ROWS if (text := row.says(case)))
    guests = {name: str(found.row.outcome) for name, found in case.guests.items()}
    return Verdict(row.outcome, row.label, text, guests, effect_of(facts, after), durations(facts), broken(case))


def durations(facts: Facts) -> dict[str, float]:
    """Milliseconds by phase; ``total`` only if a recovery ended."""
    total = max((recovery.ms for recovery in facts.recoveries if recovery.done != NEVER), default=None)
    return facts.phase_ms if total is None else facts.phase_ms | {"total": total}
