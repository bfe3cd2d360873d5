"""What must hold in every case, whatever its faults: checks over the facts of one case, as rows of a table.

``xenaer.simulation.invariants`` looks into a system at rest, for the explorer; what a journal alone can prove is
here, and costs a campaign next to nothing. The texts name no times, so that equal findings are counted together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dom0_pciback.aer.generation import REPORTING
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.facts_parts import NEVER, PERM_FAILURE, Question
from xenaer.campaign.verdict.guest_verdict import GuestOutcome
from xenaer.campaign.verdict.seen import Seen

ANSWERED = "answer-"
COUNTER_OF = {"CORRECTABLE": "COR", "NONFATAL": "NONFATAL", "FATAL": "FATAL"}  # names as in the journal, in counters
LET_LIVE = frozenset({"ignore", "poweroff"})  # policies under which a reported guest is still there (KILL-7)


def _frozen_device(case: Seen) -> Iterator[str]:
    for guest, name, what in case.facts.frozen_use:
        bdf = case.facts.state.names.get((guest, name), name)
        yield f"{guest} used {bdf} while it was frozen: {what}"


def _dead_are_silent(case: Seen) -> Iterator[str]:
    for guest, what in case.facts.late_acts:
        yield f"{guest} did something after its death: {what}"
    for q in case.facts.questions:
        life = q.life
        if life is not None and NEVER < life.died < q.asked and q.situation.startswith(ANSWERED):
            yield f"{q.guest} answered {q.phase} for {q.bdf} after its death"


def _condemned_are_not_asked(case: Seen) -> Iterator[str]:
    for q in case.facts.questions:
        life = q.life
        if life is not None and NEVER < life.asked_to_kill < q.asked and not _spared(case.facts, q):
            yield f"{q.guest} was asked {q.phase} for {q.bdf} although it is being killed"


def _spared(facts: Facts, q: Question) -> bool:
    """Its policy lets it live, at least for a while; and it may be told of the loss (errata 9.2 no. 3)."""
    spec = facts.ground.guests.get(q.guest)
    return spec is not None and spec.policy in LET_LIVE and (q.state == PERM_FAILURE or spec.policy == "ignore")


def _reported_once(case: Seen) -> Iterator[str]:
    seen: list[tuple[object, object]] = []
    for _, _, life, recovery in case.facts.kills:
        if life is None or recovery is None:
            continue
        if (life, recovery) in seen:
            yield f"{life.guest} was reported for killing more than once in one recovery"
        seen.append((life, recovery))


def _stopped_first(case: Seen) -> Iterator[str]:
    """A rule of ours, which ``linux`` knows nothing of; whoever is let live by its policy is not waited for."""
    for port, guest in case.facts.hurried if case.facts.ground.hardened else ():
        spec = case.facts.ground.guests.get(guest)
        if spec is not None and spec.policy not in LET_LIVE:
            yield f"all below {port} was reset while {guest}, which was being killed, was still running"


def _reset_before_next(case: Seen) -> Iterator[str]:
    yield from (fault.text for fault in case.faults)


def _one_owner(case: Seen) -> Iterator[str]:
    for bdf, one, other in case.facts.twice_owned:
        yield f"{bdf} was given to {other} while {one} had it"


def _counters(case: Seen) -> Iterator[str]:
    """Older kernels do not count a fatal error whose status they could not read (linux-aer.md 14)."""
    if case.after.counters is None:
        return
    unread = REPORTING[case.facts.ground.host.kernel].counts_inaccessible
    logged = Counter((bdf, COUNTER_OF[word]) for _, bdf, word, status in case.facts.errors if status or unread)
    counted = {(bdf, word): n for bdf, totals in case.after.counters.items() for word, n in totals.items() if n}
    for bdf, word in sorted(key for key in logged.keys() | counted.keys() if key[0] not in case.facts.removed):
        there, here = counted.get((bdf, word), 0), logged[bdf, word]
        if there != here:
            yield f"dom0 counted {there} errors {word} of {bdf}, the journal has {here}"


def _neighbours(case: Seen) -> Iterator[str]:
    for verdict in case.guests.values():
        if verdict.row.outcome is GuestOutcome.HURT:
            yield verdict.case.harmed or verdict.case.lost


def _status_stays(case: Seen) -> Iterator[str]:
    for bdf, (cor, uncor) in case.facts.pending.items():
        device = case.after.devices.get(bdf)
        if bdf not in case.facts.told or device is None or device.left is None:
            continue
        if not (device.left[0] & cor or device.left[1] & uncor):
            yield f"the error of {bdf} was cleared before anybody had logged it"


def _recoveries_end(case: Seen) -> Iterator[str]:
    for recovery in case.facts.recoveries:
        if recovery.done == NEVER:
            yield f"the recovery of {recovery.source} never ends"
    if not case.after.ended or case.after.guard:
        yield case.after.guard or "a recovery or a kill has not ended"


def _kernels_live(case: Seen) -> Iterator[str]:
    for party, task, text in case.facts.oopses:
        if party in ("dom0", "hypervisor"):
            yield f"{party} died of a bug in {task}: {text}"


def _answers_fit(case: Seen) -> Iterator[str]:
    for q in case.facts.questions:
        if q.heard and q.phase not in q.heard and q.situation.startswith(ANSWERED):
            yield f"an answer of {q.guest} to another phase was taken for {q.phase} of {q.bdf}"


Check = Callable[[Seen], Iterator[str]]


class Invariant(NamedTuple):
    """One thing that must hold in every case."""

    name: str
    check: Check
    says: str


INVARIANTS: tuple[Invariant, ...] = (
    Invariant("frozen-device", _frozen_device, "nobody uses a frozen device before its permission (X44)"),
    Invariant("dead-are-silent", _dead_are_silent, "no guest answers or acts after its death (KILL-4.2)"),
    Invariant("not-asked-again", _condemned_are_not_asked, "a guest that is being killed is not asked again (H16)"),
    Invariant("reported-once", _reported_once, "a guest is reported once per recovery (H23)"),
    Invariant("stopped-first", _stopped_first, "a bus reset waits until condemned guests are stopped (H22)"),
    Invariant("reset-between", _reset_before_next, "each kill has its reset, in order, before the next owner (KILL-4)"),
    Invariant("one-owner", _one_owner, "a function belongs to one guest at a time"),
    Invariant("counters", _counters, "dom0's statistics equal the journal (linux-aer.md 7)"),
    Invariant("neighbours", _neighbours, "guests that have nothing to do with the error are unchanged"),
    Invariant("status-stays", _status_stays, "a status bit stays until it was logged (errata 9.2 no. 14)"),
    Invariant("recoveries-end", _recoveries_end, "every recovery ends"),
    Invariant("kernels-live", _kernels_live, "neither dom0 nor the stub dies of a bug"),
    Invariant("answers-fit", _answers_fit, "an answer is that of the phase that was asked (D10)"),
)


def broken(case: Seen) -> tuple[tuple[str, str], ...]:
    """(name, text) of everything that did not hold; each text once."""
    found = [(row.name, text) for row in INVARIANTS for text in row.check(case)]
    return tuple(dict.fromkeys(found))
