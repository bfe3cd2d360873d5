"""Whatever a journal looks like, its case has exactly one outcome, and nothing raises."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.campaign.verdict_kit import PROFILES, Item, PlayedCase, played
from xenaer.campaign.case import Outcome
from xenaer.campaign.verdict.afterwards import ABSENT, CLEAN, DIRTY, FAILED, VERIFIED, Afterwards, DeviceAfter, Workload
from xenaer.campaign.verdict.coverage import coverage_of
from xenaer.campaign.verdict.facts_read import read
from xenaer.campaign.verdict.ground import Ground, State
from xenaer.campaign.verdict.guest_verdict import GuestOutcome
from xenaer.campaign.verdict.journal_hash import journal_hash
from xenaer.campaign.verdict.verdict import ROWS, decide

NAMES = ("I8", "I17", "I23", "I27", "I29", "I34", "X20", "X42", "D20", "D25", "S1", "S2", "S4", "S5", "S7")
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.integers(), st.text(max_size=8), st.binary(max_size=4), st.lists(st.integers(), max_size=2),
    st.booleans(), st.floats(allow_nan=False),
)  # fmt: skip
CASES = st.tuples(st.sampled_from(NAMES), st.sampled_from(PROFILES))
WORKS = st.builds(Workload, st.sampled_from([VERIFIED, FAILED]))
DEVICES = st.builds(
    DeviceAfter,
    st.sampled_from([CLEAN, DIRTY, ABSENT]),
    owner=st.sampled_from(["", "g1", "g2", "h1"]),
    faulty=st.sampled_from(["", "reset failed"]),
    left=st.none() | st.tuples(st.integers(0, 1), st.sampled_from([0, 1 << 15])),
)
BDFS = ("0000:01:00.0", "0000:01:00.1", "0000:02:00.0")
AFTERS = st.builds(
    Afterwards,
    guests=st.dictionaries(st.sampled_from(["g1", "g2"]), st.sampled_from(["running", "absent"])),
    workload=st.dictionaries(st.tuples(st.sampled_from(["g1", "g2"]), st.sampled_from(BDFS)), WORKS),
    devices=st.dictionaries(st.sampled_from(BDFS), DEVICES),
    ended=st.booleans(),
)


@cache
def grounds(name: str, profile: str) -> Ground:
    return Ground(played(name, profile).host)


def judged(case: PlayedCase, name: str, profile: str, items: list[Any], after: Afterwards) -> None:
    """Exactly one outcome, in the vocabulary, in one line."""
    ground = grounds(name, profile)
    facts = read(ground, case.state, items)
    verdict = decide(facts, after)
    assert verdict.outcome in Outcome
    assert verdict.label in {row.label for row in ROWS}
    assert verdict.text
    assert "\n" not in verdict.text
    assert all(outcome in set(GuestOutcome) for outcome in verdict.guests.values())
    assert all(ms >= 0 for ms in verdict.phases.values()) or items != case.items
    assert all(isinstance(point, str) for point in coverage_of(facts))


@settings(max_examples=150)
@given(CASES, AFTERS, st.data())
def test_any_part_of_a_journal(which: tuple[str, str], after: Afterwards, data: st.DataObject) -> None:
    case = played(*which)
    kept = data.draw(st.lists(st.booleans(), min_size=len(case.items), max_size=len(case.items)))
    judged(case, *which, [item for item, keep in zip(case.items, kept, strict=True) if keep], after)


@settings(max_examples=150)
@given(CASES, AFTERS, st.data())
def test_any_order(which: tuple[str, str], after: Afterwards, data: st.DataObject) -> None:
    case = played(*which)
    moves = data.draw(st.lists(st.tuples(st.integers(0), st.integers(0)), max_size=12))
    items = list(case.items)
    for source, target in moves:
        items.insert(target % len(items), items.pop(source % len(items)))
    judged(case, *which, items, after)


def spoiled(item: Item, at: int, value: Any, cut: int) -> tuple[Any, Any]:
    """A record with one value replaced, and with its end cut off if ``cut`` is above 0."""
    party, record = item
    values: list[Any] = [party, *record]
    values[at % len(values)] = value
    return values[0], tuple(values[1 : len(values) - cut if cut else None])


@settings(max_examples=300)
@given(
    CASES, AFTERS, st.lists(st.tuples(st.integers(0), st.integers(0), ODD, st.integers(0, 5)), min_size=1, max_size=6)
)
def test_any_nonsense(which: tuple[str, str], after: Afterwards, spoils: list[tuple[int, int, Any, int]]) -> None:
    case = played(*which)
    items: list[Any] = list(case.items)
    for number, at, value, cut in spoils:
        index = number % len(items)
        if isinstance(items[index], tuple) and isinstance(items[index][1], tuple) and items[index][1]:
            items[index] = spoiled(items[index], at, value, cut)
    judged(case, *which, items, after)


@given(st.lists(ODD, max_size=5))
def test_what_is_no_journal_at_all(items: list[Any]) -> None:
    case = played("I27", "hardened")
    judged(case, "I27", "hardened", items, Afterwards())


def test_nonsense_of_a_guest_is_its_own_affair() -> None:
    case = played("I27", "hardened")
    nonsense: list[Item] = [
        ("g1", (1, "t", "driver.callback", "0000:00:00.0")),
        ("g1", (1, "t", "recovery.begin", "0000:02:00.0", "FROZEN")),
        ("g1", (1, "t", "kill.incident", "g2", "destroy")),
    ]
    ground = grounds("I27", "hardened")
    assert decide(read(ground, case.state, [*case.items, *nonsense])).outcome == Outcome.RECOVERED_AFTER_RESET


def test_damage_in_dom0s_journal_is_the_harness_s() -> None:
    case = played("I27", "hardened")
    damaged: list[Item] = [*case.items, ("dom0", (1, "t", "recovery.end"))]
    verdict = decide(read(grounds("I27", "hardened"), case.state, damaged))
    assert verdict.outcome == Outcome.HARNESS_ERROR
    assert "IndexError" in verdict.text


@settings(max_examples=50)
@given(CASES, st.integers(0, 10**12))
def test_time_does_not_matter(which: tuple[str, str], shift: int) -> None:
    """Neither to the verdict nor to the hash."""
    case = played(*which)
    moved = [(party, (record[0] + shift, *record[1:])) for party, record in case.items]
    exported = {bdf: (guest, ns + shift if ns >= 0 else ns) for bdf, (guest, ns) in case.state.exported.items()}
    state = State(
        case.state.owners, exported, case.state.names, case.state.domids, case.state.alive, case.state.connected
    )
    ground = grounds(*which)
    assert decide(read(ground, state, moved)) == decide(read(ground, case.state, case.items))
    assert journal_hash(moved) == journal_hash(case.items)
