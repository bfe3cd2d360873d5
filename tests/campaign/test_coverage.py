"""What a case has reached, against what can be reached; and the digest of its journal."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.ers import ChannelState, Phase
from protocol.labels import LABELS
from tests.campaign.verdict_kit import ED, MM, NONE, PROFILES, A, B, Item, Written, facts_of, played, three_guests
from xenaer.campaign.verdict.coverage import coverage_of, sections, universe
from xenaer.campaign.verdict.coverage_universe import LABEL_ROWS
from xenaer.campaign.verdict.journal_hash import digest_of, journal_hash, pack_journal
from xenaer.scenarios.library import PLAYED


def reached(w: Written, section: str) -> set[str]:
    """Points of one section, without its name."""
    return {point.partition("/")[2] for point in coverage_of(w.facts()) if point.partition("/")[0] == section}


def conversation() -> Written:
    """A goes well; B, a bystander, has no handler."""
    w = Written().inject(A).begin(A).ask(A, ED, 2).dom0("recovery.vote", A, ED, "CAN_RECOVER", "CAN_RECOVER")
    w.ask(B, ED, 1, NONE).dom0("recovery.vote", B, ED, "NONE", "CAN_RECOVER", task="recovery of B")
    return w.ask(A, MM, 5).dom0("recovery.vote", A, MM, "RECOVERED", "RECOVERED").ask(A, "resume", 1, NONE).end(A)


@pytest.mark.parametrize(
    ("section", "points"),
    [
        ("answer", {f"{ED}/answer-valid", f"{ED}/answer-none", f"{MM}/answer-valid", "resume/answer-none"}),
        ("row", {"answer", "no-service", "resume-answered"}),
        ("merge", {"CAN_RECOVER+CAN_RECOVER", "RECOVERED+RECOVERED"}),
        ("transition", {f"begin>{ED}", f"{ED}>{MM}", f"{MM}>resume"}),
        ("verdict", {"successful"}),
        ("fault", {"inject@rest"}),
        ("inject", {"CmpltAbrt"}),
        ("error", {"NONFATAL", "NONFATAL/CmpltAbrt"}),
    ],
)
def test_what_a_conversation_reaches(section: str, points: set[str]) -> None:
    assert reached(conversation(), section) == points


def test_where_a_fault_strikes() -> None:
    w = (
        Written()
        .inject(A)
        .begin(A)
        .dom0("pciback.ask", A, ED, 1)
        .inject(B)
        .dom0("pciback.answer", A, ED, 3, "answer-valid")
    )
    w.dom0("hw.gone", A, "dead").dom0("aer.root_reset_begin", "0000:00:04.0").stub("domain.died", "g1", 1001, 9)
    assert reached(w, "fault") == {"inject@rest", f"inject@{ED}", "gone@recovery", "death@reset"}


def test_how_a_guest_ends() -> None:
    w = Written().kill("g1", A)
    assert reached(w, "end") == {"killed"}
    assert reached(w, "teardown") >= {"mark", "stop", "reset", "destroy"}
    assert reached(w, "reset") == {"flr/good"}


@pytest.mark.parametrize("profile", PROFILES)
def test_scenarios_reach_nothing_that_cannot_be_reached(profile: str) -> None:
    for scenario in PLAYED:
        case = played(scenario.name, profile)
        assert coverage_of(facts_of(case)) <= universe(case.host), scenario.name


@pytest.mark.parametrize("profile", PROFILES)
def test_what_they_reach_together(profile: str) -> None:
    together = frozenset().union(*(coverage_of(facts_of(played(each.name, profile))) for each in PLAYED))
    found = {section.name: section for section in sections(universe(three_guests(profile)), together)}
    for name in ("detach", "frontend"):
        assert not found[name].missing
    assert found["row"].missing == (("row/detaching", "row/no-code") if profile == "hardened" else ("row/no-code",))


def test_sections_count() -> None:
    found = sections({"a/1", "a/2", "b/1"}, {"a/2", "b/1", "c/1"})
    assert [(s.name, s.reached, s.total, s.missing) for s in found] == [("a", 1, 2, ("a/1",)), ("b", 1, 1, ())]
    assert found[0].text() == "a 1/2"


def test_linux_and_hardened_have_different_tables() -> None:
    linux, hardened = universe(three_guests("linux")), universe(three_guests("hardened"))
    assert "verdict/abandoned" in hardened - linux
    assert "transition/slot_reset>perm_failure" in linux
    assert "merge/NO_AER_DRIVER+RECOVERED" in linux - hardened
    assert "row/mute" in linux & hardened


def test_every_label_has_a_rule_and_every_rule_a_label() -> None:
    for prefix, _ in LABEL_ROWS:
        assert any(label.startswith(prefix) for label in LABELS), prefix


# -- the digest ----------------------------------------------------------------------------------------

ITEMS: list[Item] = [("dom0", (5, "t", "a", "s", Phase.RESUME, ChannelState.FROZEN, (1, 2))), ("g1", (9, "t", "b", ""))]


def test_enumerations_are_what_they_stand_for() -> None:
    plain: list[Item] = [("dom0", (5, "t", "a", "s", "resume", 2, [1, 2])), ("g1", (9, "t", "b", ""))]
    assert journal_hash(plain) == journal_hash(ITEMS)


def test_it_begins_with_the_case() -> None:
    earlier: list[Item] = [("dom0", (1, "t", "boot", "")), *((p, (r[0] + 7, *r[1:])) for p, r in ITEMS)]
    assert journal_hash(earlier, 1) == journal_hash(ITEMS)
    assert journal_hash(earlier) != journal_hash(ITEMS)


@pytest.mark.parametrize(
    ("at", "record"),
    [
        (0, ("dom1", ITEMS[0][1])),
        (1, ("g1", (10, "t", "b", ""))),
        (1, ("g1", (9, "u", "b", ""))),
        (1, ("g1", (9, "t", "b", "", 0))),
        (1, ("g1", (9, "t", "b", None))),
    ],
)
def test_every_difference_shows(at: int, record: Any) -> None:
    other = [record if index == at else item for index, item in enumerate(ITEMS)]
    assert journal_hash(other) != journal_hash(ITEMS)


def test_what_msgpack_does_not_know_is_text() -> None:
    assert journal_hash([("g1", (0, "t", "a", "", {1}))]) == journal_hash([("g1", (0, "t", "a", "", "{1}"))])


def test_it_is_that_of_what_is_stored() -> None:
    assert digest_of(pack_journal(ITEMS, 5)) == journal_hash(ITEMS)
    assert journal_hash([]) == digest_of(pack_journal([], 0))
