"""The table of outcomes: every row can be reached, and of two rows that both apply the first one wins."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.campaign.verdict_kit import (
    DISCONNECT,
    ED,
    KILL,
    MM,
    NONE,
    PORT,
    RS,
    SR,
    A,
    B,
    C,
    Written,
)  # fmt: skip
from tests.tidy.sources import ROOT
from xenaer.campaign.case import Outcome
from xenaer.campaign.verdict import verdict as table
from xenaer.campaign.verdict.afterwards import FAILED, Afterwards, Workload
from xenaer.campaign.verdict.always import INVARIANTS
from xenaer.campaign.verdict.required import CUT_OFF, QUESTION_ROWS, SILENCE_ROWS
from xenaer.campaign.verdict.seen import Seen
from xenaer.campaign.verdict.verdict import ROWS, decide

Build = Callable[[Written], Afterwards]
LOST_WORK = Afterwards(workload={("g1", A): Workload(FAILED, "no answer")})


# -- one way to each row -------------------------------------------------------------------------------
def harness(w: Written) -> Afterwards:
    return Afterwards(problem="the store is full")


def dom0_dies(w: Written) -> Afterwards:
    w.dom0("kernel.oops", "irq/24-aerdrv", "PageFault", "unable to handle page fault")
    return Afterwards()


def guard(w: Written) -> Afterwards:
    return Afterwards(guard="60 s of wall clock")


def no_end(w: Written) -> Afterwards:
    w.inject(A).begin(A).dom0("pciback.ask", A, ED, 1)
    return Afterwards()


def no_end_of_kill(w: Written) -> Afterwards:
    w.inject(B).begin(B).ask(B, ED, 4, DISCONNECT).end(B, "failed").report("g2", B).steps("g2", "mark", "dying", bdf=B)
    return Afterwards()


def reset_missing(w: Written) -> Afterwards:
    w.inject(A).begin(A).ask(A, ED, 4, DISCONNECT).end(A, "failed").report("g1", A)
    w.steps("g1", *(step for step in KILL if step != "reset"))
    return Afterwards()


def reset_order(w: Written) -> Afterwards:
    w.inject(B).begin(B).ask(B, ED, 4, DISCONNECT).end(B, "failed").report("g2", B)
    w.steps("g2", "mark", "dying", "block_dma", "reset", "stop", "deassign", "remove_nodes", "destroy", bdf=B)
    return Afterwards()


def wrong_device(w: Written) -> Afterwards:
    w.inject(A)
    w.begin(C, frozen=True).talk(C).end(C)  # a fatal error is taken from the message alone (T19)
    return Afterwards()


def hurt(w: Written) -> Afterwards:
    w.inject(A).begin(A).reset(C, "bus", task="xenwatch").talk(A).end(A)
    return Afterwards()


def alive(w: Written) -> Afterwards:
    w.inject(A).begin(A).ask(A, ED, 0, "timeout").ask(A, MM, 0, "timeout").end(A)
    return Afterwards()


def lost(w: Written) -> Afterwards:
    w.inject(B)
    return Afterwards()


def needless(w: Written) -> Afterwards:
    w.inject(A).begin(A).talk(A).talk(B).end(A).kill("g2", B)
    return Afterwards()


def dead(w: Written) -> Afterwards:
    w.inject(A).begin(A).talk(A).end(A)
    return LOST_WORK


def killed(w: Written) -> Afterwards:
    w.inject(B).begin(B).ask(B, ED, 4, DISCONNECT).end(B, "failed").kill("g2", B)
    return Afterwards()


def gone(w: Written) -> Afterwards:
    w.inject(A).begin(A).dom0("pciback.ask", A, ED, 1).stub("domain.died", "g1", 1001, 9)
    w.dom0("pciback.answer", A, ED, 0, "guest-dead").end(A, "failed")
    w.steps("g1", "dying", "block_dma", "wake", "reset", "deassign", "remove_nodes", "destroy")
    return Afterwards()


def failed(w: Written) -> Afterwards:
    w.inject(A).begin(A).ask(A, ED, 2).ask(A, MM, 5).end(A, "failed", "DISCONNECT")
    return Afterwards()


def after_reset(w: Written) -> Afterwards:
    w.inject(A).begin(A, frozen=True).ask(A, ED, 3, state=2).ask(B, ED, 3, state=2)
    w.dom0("aer.root_reset_begin", PORT).reset(PORT, "bus", task="irq/24-aerdrv").dom0(
        "aer.root_reset", PORT, "RECOVERED"
    )
    w.ask(A, SR, 5).ask(B, SR, 5).ask(A, RS, 1, NONE).ask(B, RS, 1, NONE).end(A).end(B)
    return Afterwards()


def recovered(w: Written) -> Afterwards:
    w.inject(A).begin(A).talk(A).end(A)
    return Afterwards()


def corrected(w: Written) -> Afterwards:
    w.inject(A, cor=1, uncor=0).dom0("aer.error", A, "CORRECTABLE", 1, [])
    return Afterwards()


def nothing(w: Written) -> Afterwards:
    return Afterwards()


EXAMPLES: dict[str, Build] = {
    "harness": harness,
    "dom0-dies": dom0_dies,
    "guard": guard,
    "no-end": no_end,
    "no-end-of-kill": no_end_of_kill,
    "reset-missing": reset_missing,
    "reset-order": reset_order,
    "wrong-device": wrong_device,
    "hurt": hurt,
    "alive": alive,
    "lost": lost,
    "needless": needless,
    "dead": dead,
    "killed": killed,
    "gone": gone,
    "failed": failed,
    "after-reset": after_reset,
    "recovered": recovered,
    "corrected": corrected,
    "nothing": nothing,
}


def both(first: Build, second: Build) -> tuple[Written, Afterwards]:
    """What the second needs, then what the first needs."""
    w = Written()
    later = second(w)
    found = first(w)
    return w, Afterwards(
        workload={**later.workload, **found.workload},
        guard=found.guard or later.guard,
        problem=found.problem or later.problem,
    )


def test_every_row_has_an_example() -> None:
    assert list(EXAMPLES) == [row.label for row in ROWS]
    assert {row.outcome for row in ROWS} == set(Outcome)


@pytest.mark.parametrize("label", EXAMPLES)
def test_every_row_can_be_reached(label: str) -> None:
    w = Written()
    after = EXAMPLES[label](w)
    verdict = w.verdict(after)
    assert verdict.label == label, verdict.text
    assert "\n" not in verdict.text


@pytest.mark.parametrize(("one", "next_one"), [(a.label, b.label) for a, b in pairwise(ROWS)])
def test_of_two_rows_that_apply_the_first_wins(one: str, next_one: str, monkeypatch: pytest.MonkeyPatch) -> None:
    w, after = both(EXAMPLES[one], EXAMPLES[next_one])
    case = Seen(w.facts(), after)
    rows = {row.label: row for row in ROWS}
    assert rows[one].says(case), f"{one} does not apply"
    assert rows[next_one].says(case), f"{next_one} does not apply"
    assert decide(w.facts(), after).label == one
    swapped = list(ROWS)
    at = [row.label for row in ROWS].index(one)
    swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
    monkeypatch.setattr(table, "ROWS", tuple(swapped))
    assert decide(w.facts(), after).label == next_one


# -- the document --------------------------------------------------------------------------------------
def documented(header: str) -> list[tuple[str, ...]]:
    """The cells of the table of docs/CAMPAIGNS.md that begins with this line."""
    text = (ROOT / "docs" / "CAMPAIGNS.md").read_text(encoding="utf-8")
    lines = text.partition(f"{header}\n")[2].partition("\n\n")[0].splitlines()[1:]
    return [tuple(cell.strip().strip("`") for cell in line.strip("|").split("|")) for line in lines]


def test_the_document_has_the_table_of_outcomes() -> None:
    assert documented("| row | outcome | when |") == [(row.label, str(row.outcome), row.when) for row in ROWS]


def test_the_document_has_who_had_to_die() -> None:
    rows = [(row.label, row.rule) for row in QUESTION_ROWS] + [(why, rule) for why, (rule, _) in SILENCE_ROWS.items()]
    found = [cells[:2] for cells in documented("| row | rule | the guest |")]
    assert found == [*rows, CUT_OFF[:2], ("device-lost", "KILL-5"), ("errors-without-end", "errata 9.2 no. 14")]


def test_the_document_has_the_invariants() -> None:
    assert documented("| invariant | what must hold |") == [(row.name, row.says) for row in INVARIANTS]


# -- logged, and no recovery began ------------------------------------------------------------------
def logged(w: Written) -> Written:
    """The core has logged an error of A and looks at another device first."""
    return w.inject(A).dom0("aer.error", A, "NONFATAL", 1 << 15, [])


def test_an_error_that_was_logged_wants_a_recovery() -> None:
    assert logged(Written()).verdict().outcome is Outcome.LOST


def test_but_not_if_its_guest_has_died_meanwhile_and_the_device_is_restored() -> None:
    w = Written().report("g1", A).steps("g1", "mark", "dying", "stop", "block_dma", "wake", "reset")
    logged(w).dom0("pci.restore", A, task="restore of hypervisor")
    assert (
        w.steps("g1", "restore", "check", "deassign", "remove_nodes", "destroy").verdict().outcome is not Outcome.LOST
    )


def test_a_restore_for_a_guest_that_lives_wipes_it_away() -> None:
    assert logged(Written()).dom0("pci.restore", A, task="sysfs").verdict().outcome is Outcome.LOST


def test_nor_if_the_device_has_died_meanwhile() -> None:
    assert logged(Written()).dom0("hw.gone", A, "dead").verdict().outcome is not Outcome.LOST
