"""Who had to die (H1 to H25, KILL-5): every reason, and what looks like one and is none."""

from __future__ import annotations

import pytest

from tests.campaign.verdict_kit import (
    DISCONNECT,
    ED,
    INVALID,
    MM,
    NONE,
    PORT,
    RS,
    SR,
    VALID,
    A,
    B,
    C,
    Written,
)  # fmt: skip
from xenaer.campaign.verdict.required import Required, required

NEED_RESET = 3


def reason(w: Written, name: str = "g1") -> Required | None:
    """Why the guest's first incarnation had to die."""
    facts = w.facts()
    return required(facts, facts.lives[name][0])


def asked(phase: str, answer: int, situation: str, *, state: int = 1, frozen: bool = False) -> Written:
    """g1 is asked one thing about A."""
    return Written().inject(A).begin(A, frozen=frozen).ask(A, phase, answer, situation, state=state).end(A, "failed")


@pytest.mark.parametrize(
    ("phase", "answer", "situation", "label"),
    [
        (ED, 0, "timeout", "mute"),
        (RS, 0, "timeout", "mute"),  # errata 9.2 no. 11
        (ED, 77, INVALID, "invalid-answer"),
        (MM, 6, INVALID, "invalid-answer"),
        (ED, 4, DISCONNECT, "gave-up"),
        (SR, 4, DISCONNECT, "gave-up"),
        (ED, 1, NONE, "no-handler"),
        (SR, 1, NONE, "no-handler"),
        (ED, 0, "channel-lost", "closed"),
        (SR, 2, VALID, "failed-phase"),
        (SR, 3, VALID, "failed-phase"),
        (MM, 2, VALID, "failed-phase"),
    ],
)
def test_a_failed_phase_is_a_reason(phase: str, answer: int, situation: str, label: str) -> None:
    found = reason(asked(phase, answer, situation))
    assert found is not None
    assert found.label == label
    assert A in found.text


@pytest.mark.parametrize(
    ("phase", "answer", "situation"),
    [
        (ED, 2, VALID),
        (ED, 3, VALID),
        (ED, 5, VALID),
        (MM, 3, VALID),
        (MM, 5, VALID),
        (SR, 5, VALID),
        (RS, 1, NONE),
        (RS, 77, INVALID),  # resume has no answer of its own
        (RS, 4, DISCONNECT),
        (ED, 0, "detached"),  # H11
        (ED, 0, "guest-dead"),
    ],
)
def test_a_good_answer_is_none(phase: str, answer: int, situation: str) -> None:
    assert reason(asked(phase, answer, situation)) is None


@pytest.mark.parametrize("situation", ["timeout", NONE, DISCONNECT, INVALID])
def test_nobody_looks_at_the_answer_to_perm_failure(situation: str) -> None:
    assert reason(asked(ED, 4, situation, state=3)) is None


# -- bystanders (H20) ----------------------------------------------------------------------------------
def test_a_bystander_without_handlers_has_no_reason_to_die() -> None:
    w = Written().inject(A).begin(A).talk(A).ask(B, ED, 1, NONE).end(A).end(B)
    assert reason(w, "g2") is None


@pytest.mark.parametrize(("answer", "situation"), [(4, DISCONNECT), (9, INVALID), (0, "timeout")])
def test_a_bystander_that_fails_has(answer: int, situation: str) -> None:
    assert reason(Written().inject(A).begin(A).ask(B, ED, answer, situation).end(A), "g2") is not None


def test_a_frozen_function_is_no_bystander() -> None:
    found = reason(Written().inject(A).begin(A, frozen=True).ask(B, ED, 1, NONE, state=2).end(A), "g2")
    assert found is not None
    assert found.label == "no-handler"


def test_nor_is_one_that_the_recovery_resets() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, NEED_RESET).ask(B, ED, 1, NONE)
    w.reset(PORT, "bus", task="irq/24-aerdrv").end(A)
    found = reason(w, "g2")
    assert found is not None
    assert found.label == "no-handler"


def test_but_one_that_somebody_else_resets_is() -> None:
    w = Written().inject(A).begin(A).talk(A).ask(B, ED, 1, NONE).reset(B, "flr", task="sysfs reset").end(A)
    assert reason(w, "g2") is None


def test_a_guest_may_drag_its_own_bystander_along() -> None:
    w = Written()
    w.dom0("hw.deassign", B).dom0("pciback.unexport", B).dom0("hw.assign", B, 1).dom0("pciback.export", B, 1)
    w.inject(A).begin(A).ask(B, ED, 1, NONE).ask(A, ED, NEED_RESET).end(A, "failed")
    found = reason(w)
    assert found is not None
    assert found.label == "dragged-along"


# -- detaching, connecting, HVM ------------------------------------------------------------------------
def test_a_function_that_is_being_taken_away_is_no_reason() -> None:
    w = Written().inject(A).stub("pci.step", A, "reset", "done").begin(A).ask(A, ED, 1, NONE).end(A)
    assert reason(w) is None


NOT_CONNECTED = "device is not connected or owned by HVM, kill it"


def unasked(w: Written, text: str) -> Written:
    """A is in a recovery, nobody is asked, and pciback says why."""
    w.inject(A).begin(A).dom0("printk", "", 3, f"pciback {A}: xen_pciback: {text}")
    return w.dom0("recovery.vote", A, ED, "DISCONNECT", "DISCONNECT").end(A, "failed")


def test_a_guest_that_is_still_connecting_is_spared() -> None:
    """H13"""
    w = Written().stub("domain.create", "g1", 4, "pv").dom0("hw.deassign", A).dom0("hw.assign", A, 4)
    unasked(w.dom0("pciback.unexport", A).dom0("pciback.export", A, 0), NOT_CONNECTED)
    facts = w.facts()
    assert [silence.why for silence in facts.silences] == ["young"]
    assert required(facts, facts.lives["g1"][-1]) is None


def test_but_not_for_ever() -> None:
    w = Written().dom0("pciback.unexport", A).dom0("pciback.export", A, 0)
    found = reason(unasked(w.dom0("hw.block", C, ms=31_000), NOT_CONNECTED))
    assert found is not None
    assert found.label == "closed"


def test_one_that_closed_is_not_young() -> None:
    w = Written().dom0("pciback.unexport", A).dom0("pciback.export", A, 0).dom0("pciback.disconnect", "g1", "closes")
    found = reason(unasked(w, NOT_CONNECTED))
    assert found is not None
    assert found.label == "closed"


def test_an_hvm_guest_cannot_be_asked() -> None:
    found = reason(unasked(Written(type="hvm"), NOT_CONNECTED))
    assert found is not None
    assert (found.label, found.rule) == ("no-frontend", "errata 9.2 no. 4")


def test_a_frontend_without_aer_code_is_as_good_as_none() -> None:
    found = reason(unasked(Written(), "guest may have no aer driver, kill it"))
    assert found is not None
    assert found.label == "no-code"


@pytest.mark.parametrize("voted", [True, False])
def test_a_bystander_that_cannot_be_told_of_the_end(voted: bool) -> None:
    """X33: only if it knows of the beginning."""
    w = Written().inject(A).begin(A)
    if voted:
        w.ask(B, ED, 2)
    w.dom0("printk", "", 3, f"pciback {B}: xen_pciback: {NOT_CONNECTED}")
    found = reason(w.dom0("recovery.vote", B, MM, "DISCONNECT", "DISCONNECT").end(A), "g2")
    assert (found.label if found else "") == ("cut-off" if voted else "")


@pytest.mark.parametrize("text", ["device is not found/assigned", "nothing that a table says"])
def test_other_silences_are_no_reason(text: str) -> None:
    assert reason(unasked(Written(), text)) is None


# -- devices that do not come back ---------------------------------------------------------------------
def test_a_reset_that_fails_loses_the_device() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, NEED_RESET).reset(A, "flr", -25, task="recovery of A").end(A, "failed")
    found = reason(w)
    assert found is not None
    assert (found.label, found.rule) == ("device-lost", "KILL-5")


def test_unless_a_second_one_brings_it_back() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, NEED_RESET)
    for rc in (-25, 0):
        w.reset(PORT, "bus", rc, task="irq/24-aerdrv")
    assert reason(w.ask(A, SR, 5).end(A)) is None


def test_so_does_a_check_that_fails() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 2).dom0("recovery.check", A, False, "does not answer").end(A, "failed")
    found = reason(w)
    assert found is not None
    assert found.text == f"has lost {A}: does not answer"


def test_errors_without_end() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 2)
    for number in (2, 3):
        w.dom0("recovery.round", A, number).dom0("recovery.begin", A, "NORMAL").ask(A, ED, 2)
    found = reason(w.end(A, "failed"))
    assert found is not None
    assert found.label == "errors-without-end"


def test_the_first_reason_in_time_counts() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 77, INVALID).ask(A, MM, 0, "timeout").end(A)
    found = reason(w)
    assert found is not None
    assert found.label == "invalid-answer"


@pytest.mark.parametrize("when", ["before that", "after it"])
def test_a_device_that_was_pulled_out_is_no_reason(when: str) -> None:
    w = Written().inject(A).begin(A, frozen=True).ask(A, ED, 3, state=2)
    if when == "before that":
        w.dom0("pci.state", A, "PERM_FAILURE")
    w.reset(PORT, "bus", -25, task="irq/24-aerdrv").end(A, "failed")
    if when == "after it":
        w.dom0("pci.remove", A)
    assert (w.verdict().guests["g1"] == "alive-though-required-dead") == (when == "after it")
