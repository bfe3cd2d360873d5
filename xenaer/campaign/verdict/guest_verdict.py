"""What a case meant for each guest: a table of rows, the first that fits wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from xenaer.campaign.verdict.afterwards import ABSENT, DIRTY, FAILED, Afterwards, DeviceAfter
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.facts_parts import NEVER, Life, Question
from xenaer.campaign.verdict.required import Required, required


class GuestOutcome(StrEnum):
    """What a case meant for one guest."""

    UNTOUCHED = "untouched"
    TOLD = "told"
    RECOVERED = "recovered"
    RECOVERED_BUT_DEAD = "recovered-but-dead"
    KILLED_REQUIRED = "killed-required"
    KILLED_NEEDLESS = "killed-needless"
    ALIVE_THOUGH_REQUIRED_DEAD = "alive-though-required-dead"
    GONE_BY_ITSELF = "gone-by-itself"
    HURT = "hurt"


class GuestCase:
    """A guest in a case, looked at from every side that the tables ask for.

    ``source``: a function of it had the error, or a fault was aimed at it; ``near``: it has a function that a recovery
    of the error concerns. ``killed``, ``gone``, ``alive`` are about its last incarnations. ``reason``: why it had to
    die. ``lost``: what of it does not work any more, as a text. ``harmed``: what happened to a guest that is not near.
    """

    __slots__ = (
        "alive", "gone", "harmed", "killed", "life", "lives_on", "lost", "name", "near", "questions", "reason",
        "recovered", "source",
    )  # fmt: skip

    def __init__(self, facts: Facts, after: Afterwards, concern: Concern, name: str) -> None:
        lives = facts.lives.get(name, [])
        self.name = name
        self.questions = [q for q in facts.questions if q.guest == name]
        self.source = name in concern.sources
        self.near = name in concern.near
        self.gone = next((life for life in lives if life.ending() in ("died", "crashed")), None)
        self.alive = bool(lives) and lives[-1].ending() in ("", "ended")
        self.life, self.reason = _first_required(facts, lives) if self.near else (None, None)
        self.killed = next((life for life in lives if _killed(life, self.reason)), None)
        self.lives_on = self.reason is not None and self.life is not None and _lives_on(facts, self.life)
        self.recovered = _recovered(facts, name, self.questions)
        self.lost = _lost(facts, after, name)
        self.harmed = "" if self.near else _harm(facts, name, self)


class Concern(NamedTuple):
    """Whom the faults of a case concern: functions with an error, guests that have one, guests near one."""

    functions: frozenset[str]
    sources: frozenset[str]
    near: frozenset[str]


def concern(facts: Facts) -> Concern:
    """Derived from what was injected, touched, triggered, and from status that the core found in a function."""
    group, above = facts.ground.group, facts.ground.above
    origins = set(facts.injected) | set(facts.ports_told) | set(facts.struck)
    origins.update(bdf for _, bdf, _, status in facts.errors if status)
    for bdf in facts.touched:  # the function need not exist: whoever is in its slot, or the port, reports
        origins.update(other for other in above if other.rpartition(".")[0] == bdf.rpartition(".")[0])
    if not origins:
        origins.update(recovery.source for recovery in facts.recoveries)
    functions = set(origins).union(*(group.get(bdf, ()) for bdf in origins))
    aimed = {name for name in facts.targets if name in facts.lives}
    aimed |= {life.guest for lives in facts.lives.values() for life in lives if life.ending() not in ("", "killed")}
    had = _had(facts)
    sources = {guest for guest, bdf in had if bdf in origins} | aimed
    near = {guest for guest, bdf in had if bdf in functions} | sources
    return Concern(frozenset(functions), frozenset(sources), frozenset(near or facts.lives))


def _had(facts: Facts) -> set[tuple[str, str]]:
    """(guest, function) of everybody who had a function in this case: a killed guest's goes to the next one."""
    had = {(life.guest, bdf) for lives in facts.lives.values() for life in lives for bdf in life.functions}
    had.update((guest, bdf) for bdf, (guest, _) in facts.state.exported.items())
    had.update((guest, bdf) for bdf, guest in facts.state.owners.items())
    had.update((q.guest, q.bdf) for q in facts.questions)
    return had


def _first_required(facts: Facts, lives: list[Life]) -> tuple[Life | None, Required | None]:
    for life in lives:
        reason = required(facts, life)
        if reason is not None:
            return life, reason
    return None, None


def _killed(life: Life, reason: Required | None) -> bool:
    """It was killed, or it ended of something else when it was condemned with reason already (KILL-8)."""
    ending = life.ending()
    condemned = reason is not None and NEVER < life.asked_to_kill < life.end_begun()
    return ending == "killed" or (ending == "ended" and condemned)


def _lives_on(facts: Facts, life: Life) -> bool:
    """It lived on with the device although it had to die: it lives still, or ended of something else, later."""
    ending = life.ending()
    if ending == "":
        return True
    last = max((recovery.done for recovery in facts.recoveries), default=NEVER)
    return ending == "ended" and life.end_begun() > last


def _recovered(facts: Facts, name: str, questions: list[Question]) -> bool:
    """A recovery that the guest took part in has ended well for it."""
    outcomes = {facts.outcomes.get(q.bdf) for q in questions}
    if outcomes - {None}:
        return "recovered" in outcomes
    return any(q.recovery is not None and "successful" in q.recovery.verdicts.values() for q in questions)


def _lost(facts: Facts, after: Afterwards, name: str) -> str:
    """What does not work any more for a guest that lives."""
    for (guest, bdf), work in after.workload.items():
        if guest == name and work.state == FAILED:
            return f"the workload of {name} on {bdf} fails{': ' if work.text else ''}{work.text}"
    for bdf, device in after.devices.items():
        if device.owner == name and useless(facts, bdf, device):
            return f"{bdf} of {name} is {device.state}{': ' if device.text else ''}{device.text}"
    return ""


def useless(facts: Facts, bdf: str, device: DeviceAfter) -> bool:
    """It does not answer, or a recovery has left status in it; masked bits that nobody cleared are no harm."""
    if device.state != DIRTY:
        return device.state == ABSENT
    concerned = any(bdf in facts.ground.group.get(recovery.source, ()) for recovery in facts.recoveries)
    return concerned and (device.left is None or any(device.left))


def _harm(facts: Facts, name: str, case: GuestCase) -> str:
    """What happened to a guest that has nothing to do with the error: that must be nothing."""
    if case.killed is not None:
        return f"{name} was killed"
    asked = next((q for q in case.questions), None)
    if asked is not None:
        return f"{name} was asked {asked.phase} for {asked.bdf}"
    for _, _, method, _, hit in facts.resets:
        mine = [bdf for bdf in hit if facts.state.owners.get(bdf) == name and bdf not in facts.operated]
        if mine and name not in facts.operated:
            return f"{mine[0]} of {name} was reset ({method})"
    return case.lost


class Row(NamedTuple):
    """One outcome of a guest and when it applies."""

    label: str
    applies: Callable[[GuestCase], bool]
    outcome: GuestOutcome


O = GuestOutcome  # noqa: E741 - the table below is read by its columns
# fmt: off
ROWS: tuple[Row, ...] = (
    Row("stranger-harmed",    lambda g: bool(g.harmed),                                O.HURT),
    Row("had-to-die",         lambda g: g.lives_on,                                    O.ALIVE_THOUGH_REQUIRED_DEAD),
    Row("killed-for-nothing", lambda g: g.killed is not None and g.reason is None,     O.KILLED_NEEDLESS),
    Row("killed",             lambda g: g.killed is not None,                          O.KILLED_REQUIRED),
    Row("gone",               lambda g: g.gone is not None,                            O.GONE_BY_ITSELF),
    Row("neighbour-lost",     lambda g: bool(g.lost) and g.alive and not g.source,     O.HURT),
    Row("lost",               lambda g: bool(g.lost) and g.alive,                      O.RECOVERED_BUT_DEAD),
    Row("recovered",          lambda g: g.recovered,                                   O.RECOVERED),
    Row("told",               lambda g: bool(g.questions),                             O.TOLD),
    Row("untouched",          lambda g: True,                                          O.UNTOUCHED),
)
# fmt: on


class GuestVerdict(NamedTuple):
    """The row that decided about a guest, and everything it was decided from."""

    row: Row
    case: GuestCase


def guest_verdicts(facts: Facts, after: Afterwards) -> Mapping[str, GuestVerdict]:
    """One verdict per guest that ever lived in this case, in the order of the host file."""
    about = concern(facts)
    found = {}
    for name in dict.fromkeys((*facts.ground.guests, *facts.lives)):
        if name in facts.lives:
            case = GuestCase(facts, after, about, name)
            found[name] = GuestVerdict(next(row for row in ROWS if row.applies(case)), case)
    return found
