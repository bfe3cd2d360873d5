"""What a case has reached, as short texts, and what can be reached on a host: taken from the tables themselves.

A point is ``section/...``. Sections and where their points come from:

``row``         rows of pciback's decision tables (``pciback.profile``)
``answer``      phase and situation in which a question ended
``unasked``     why a guest was not asked
``merge``       cells of the merge of votes: status so far and next vote (``protocol.ers.MERGE``)
``transition``  from one step of a conversation to the next, by the table of the kernel generation, or H17
``verdict``     ends of recoveries; ``outcome``: of functions (hardened)
``reset``       methods, and whether they worked
``end``         how guests ended; ``teardown``: steps of their end (``teardown.ORDERS``), ``detach``: libxl's
``frontend``    xenbus states of frontends that pciback saw
``error``       severities and bits that the core logged; ``inject``: bits that were injected
``fault``       faults, and where the recovery stood when they struck
``label``       labels of the journal
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from dom0_pciback.pciback.profile import Decision, Situation, make_profile
from protocol.bits import COR_BY_NUMBER, UNCOR_BY_NUMBER, bits_of
from protocol.ers import ErsResult, Phase, merge, result_name
from protocol.labels import LABELS
from protocol.topology import HostSpec
from protocol.xenbus import XenbusState
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.facts_parts import PERM_FAILURE

UNCORRECTABLE = ("NONFATAL", "FATAL")
PERM = "perm_failure"
START = {"error_detected": "CAN_RECOVER", "mmio_enabled": "RECOVERED", "slot_reset": "RECOVERED"}
NUMBER = {result.name: int(result) for result in ErsResult}


LABEL_POINT = {label: f"label/{label}" for label in LABELS}
FRONTEND_POINT = {str(state): f"frontend/{state}" for state in map(int, XenbusState)}


def coverage_of(facts: Facts) -> frozenset[str]:
    """The points that a case has reached."""
    points = {LABEL_POINT[label] for label in facts.labels if label in LABEL_POINT}
    points.update(_points(facts))
    return frozenset(points)


def _points(facts: Facts) -> Iterator[str]:
    yield from (f"row/{row}" for row in facts.rows & _labels(*facts.ground.tables))
    yield from (f"unasked/{silence.why}" for silence in facts.silences)
    yield from (FRONTEND_POINT[state] for state in facts.frontend_states if state in FRONTEND_POINT)
    yield from (f"outcome/{outcome}" for outcome in set(facts.outcomes.values()))
    yield from (f"fault/{kind}@{moment}" for kind, moment in facts.strikes)
    yield from (f"reset/{method}/{'failed' if rc else 'good'}" for _, _, method, rc, _ in facts.resets)
    yield from _questions(facts)
    yield from _merges(facts)
    yield from _bits(facts)
    for recovery in facts.recoveries:
        yield from (f"verdict/{verdict}" for verdict in recovery.verdicts.values())
    yield from _ends(facts)


def _questions(facts: Facts) -> Iterator[str]:
    rows = _row_of(*facts.ground.tables)
    before: dict[tuple[str, int], str] = {}
    for q in facts.questions:
        key = q.bdf, q.recovery.at if q.recovery is not None else -1
        phase = PERM if q.state == PERM_FAILURE else q.phase
        yield f"transition/{before.get(key, 'begin')}>{phase}"
        before[key] = phase
        if q.situation:
            yield f"answer/{q.phase}/{q.situation}"
            label = rows.get((q.situation, q.phase))
            if label is not None:
                yield f"row/{label}"


@lru_cache(maxsize=16)
def _row_of(profile: str, turned_over: tuple[str, ...]) -> dict[tuple[str, str], str]:
    """(situation, phase) -> row of the table that decides about a function at fault."""
    return {(str(key[0]), str(key[1])): decision.label for key, decision in _table(profile, turned_over).items()}


@lru_cache(maxsize=16)
def _labels(profile: str, turned_over: tuple[str, ...]) -> frozenset[str]:
    """Labels of all rows of a profile."""
    found = make_profile(profile, turned_over)
    return frozenset(
        decision.label for table in (found.table(), found.bystander_table()) for decision in table.values()
    )


def _table(profile: str, turned_over: tuple[str, ...]) -> dict[tuple[Situation, Phase], Decision]:
    return make_profile(profile, turned_over).table()


def _merges(facts: Facts) -> Iterator[str]:
    """Votes of one task follow one another; each phase begins with a status of its own."""
    hardened = facts.ground.hardened
    status: dict[tuple[str, str], str] = {}
    for task, phase, vote, merged in facts.votes:
        before = status.get((task, phase)) or START.get(phase)
        status[task, phase] = merged
        if hardened and vote == "NONE":
            continue  # no vote there (H15)
        if before in NUMBER and vote in NUMBER and result_name(merge(NUMBER[before], NUMBER[vote])) == merged:
            yield f"merge/{before}+{vote}"


def _bits(facts: Facts) -> Iterator[str]:
    for _, _, severity, status in facts.errors:
        yield f"error/{severity}"
        table = UNCOR_BY_NUMBER if severity in UNCORRECTABLE else COR_BY_NUMBER
        yield from (f"error/{severity}/{table[number].name}" for number in _numbers(status) if number in table)
    for cor, uncor, _ in facts.injected.values():
        yield from (f"inject/{bit.name}" for _, bit in bits_of("correctable", cor) if bit is not None)
        yield from (f"inject/{bit.name}" for _, bit in bits_of("uncorrectable", uncor) if bit is not None)


def _numbers(status: int) -> Iterator[int]:
    while status > 0:
        yield (status & -status).bit_length() - 1
        status &= status - 1


def _ends(facts: Facts) -> Iterator[str]:
    yield from (f"detach/{step}" for step in facts.detach_steps)
    for lives in facts.lives.values():
        for life in lives:
            ending = life.ending()
            if ending:
                yield f"end/{ending}"
                yield from (f"teardown/{step}" for _, step, _, _ in life.steps)


class Section(NamedTuple):
    """One section of a coverage report."""

    name: str
    reached: int
    total: int
    missing: tuple[str, ...]

    def text(self) -> str:
        """``merge 12/25``."""
        return f"{self.name} {self.reached}/{self.total}"


def sections(universe: Iterable[str], reached: Iterable[str]) -> list[Section]:
    """Reached and total per section, in the order of their names; what is reached but not foreseen is not counted."""
    whole, found = set(universe), set(reached)
    names = dict.fromkeys(sorted(point.partition("/")[0] for point in whole))
    result = []
    for name in names:
        of_section = {point for point in whole if point.partition("/")[0] == name}
        missing = sorted(of_section - found)
        result.append(Section(name, len(of_section) - len(missing), len(of_section), tuple(missing)))
    return result


def universe(host: HostSpec) -> frozenset[str]:
    """Every point that can be reached on a host."""
    from xenaer.campaign.verdict.coverage_universe import points  # noqa: PLC0415 - the tables of all parties, needed once

    return frozenset(points(host))
