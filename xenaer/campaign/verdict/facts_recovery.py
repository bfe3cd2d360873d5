"""What the records of dom0's recoveries prove: rounds, phases, votes, verdicts, and who was not asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from protocol.ers import Phase
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.facts_hardware import recovery_leaves, recovery_takes
from xenaer.campaign.verdict.facts_parts import NEVER, Recovery, Silence

MS = 1_000_000
RESUME = "resume"
SUCCESSFUL, SUPERSEDED = "successful", "superseded"  # of a recovery, of a function
PHASES = {str(phase): str(phase) for phase in Phase}  # what else a record says is damage


def _begin(facts: Facts, party: str, r: Any) -> None:
    source, frozen = r[3], r[4] == "FROZEN"
    port = facts.ground.scope.get(source, source)
    old = facts.active.get(port)
    if old is not None:
        old.done = facts.at  # cut short: this round takes over
    recovery = Recovery(facts.at, r[0], source, frozen, facts.round_of.pop(source, 1))
    recovery.task = r[1]
    facts.recoveries.append(recovery)
    facts.active[port] = recovery
    recovery_takes(facts, source)


def _end(facts: Facts, party: str, r: Any) -> None:
    """The hardened recovery writes one end for each group; the first of them ends the conversation."""
    subject, verdict = r[3], str(r[5])
    recovery = facts.recovery_of(subject) or _last_about(facts, subject)
    if recovery is None:
        return
    recovery.verdicts[subject] = verdict
    if recovery.done == NEVER:
        recovery.done = facts.at
        recovery.ms = (r[0] - recovery.begun_ns) / MS
        facts.active.pop(facts.ground.scope.get(recovery.source, recovery.source), None)
        recovery_leaves(facts, recovery.source, verdict == SUCCESSFUL)


def _last_about(facts: Facts, subject: str) -> Recovery | None:
    group = facts.ground.group
    return next((each for each in reversed(facts.recoveries) if subject in group.get(each.source, ())), None)


def _round(facts: Facts, party: str, r: Any) -> None:
    facts.round_of[r[3]] = int(r[4])


def _vote(facts: Facts, party: str, r: Any) -> None:
    bdf, phase = r[3], PHASES[r[4]]
    facts.votes.append((str(r[1]), phase, str(r[5]), str(r[6])))
    recovery = facts.recovery_of(bdf)
    if recovery is not None:
        recovery.votes[bdf] = phase, str(r[6])
    if facts.asked_now.pop(bdf, None) != phase and phase != RESUME and bdf not in facts.ground.native:
        guest = facts.guest_of(bdf)
        why = _why_unasked(facts, r[0], bdf, guest)
        facts.silences.append(Silence(facts.at, bdf, guest, why, facts.life(guest), recovery))


# What pciback's log says of a function that nobody is asked about; what it does not say follows from who has it.
UNASKED_ROWS: dict[str, str] = {
    "not-assigned": "nobody",
    "unassigned": "nobody",
    "no-code": "no-code",
    "no-code-later": "no-code",
    "no-code-resume": "no-code",
    "no-page": "no-page",
}


def _why_unasked(facts: Facts, now: int, bdf: str, guest: str) -> str:
    """The word of ``SILENCES`` that fits."""
    why = next((UNASKED_ROWS[row] for row in facts.said.pop(bdf, ()) if row in UNASKED_ROWS), "")
    if not guest or why == "nobody":
        return "nobody"
    if bdf in facts.leaving:
        return "leaving"
    if why == "no-page":
        return _why_no_page(facts, now, bdf, guest)
    life = facts.life(guest)
    ended = life is not None and (life.ending() or life.asked_to_kill != NEVER)
    return why or ("ended" if ended else "leaving")


def _why_no_page(facts: Facts, now: int, bdf: str, guest: str) -> str:
    spec = facts.ground.guests.get(guest)
    if spec is not None and (spec.type != "pv" or not spec.front):
        return "no-frontend"
    since = facts.state.exported.get(bdf, ("", NEVER))[1]
    return "young" if since != NEVER and now - since < facts.ground.grace_ns else "closed"


def _outcome(facts: Facts, party: str, r: Any) -> None:
    """What failed below a port that was contained meanwhile has no meaning: another recovery begins there again."""
    facts.outcomes[r[3]] = str(r[4])
    if r[4] == SUPERSEDED:
        for recovery in facts.recoveries:
            recovery.lost.pop(r[3], None)


def _check(facts: Facts, party: str, r: Any) -> None:
    recovery = facts.recovery_of(r[3])
    if recovery is not None and not r[4] and r[3] not in facts.left:
        recovery.lost[r[3]] = str(r[5])


def _root_reset_begin(facts: Facts, party: str, r: Any) -> None:
    facts.reset_begun[r[3]] = r[0]
    recovery = facts.active.get(r[3])
    patience = facts.ground.host.timing.kill_deadline_ms * MS
    for _, _, life, of in facts.kills if recovery is not None else ():
        if of is recovery and life is not None and life.died == NEVER and r[0] - life.asked_to_kill_ns < patience:
            facts.hurried.append((r[3], life.guest))


def _root_reset(facts: Facts, party: str, r: Any) -> None:
    begun = facts.reset_begun.pop(r[3], None)
    if begun is not None:
        facts.phase_ms["reset"] = max((r[0] - begun) / MS, facts.phase_ms.get("reset", 0.0))


READERS: Mapping[str, Callable[[Facts, str, Any], None]] = {
    "recovery.begin": _begin,
    "recovery.end": _end,
    "recovery.round": _round,
    "recovery.vote": _vote,
    "recovery.outcome": _outcome,
    "recovery.check": _check,
    "aer.root_reset_begin": _root_reset_begin,
    "aer.root_reset": _root_reset,
}
