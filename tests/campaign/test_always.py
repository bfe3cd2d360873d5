"""Invariants of every case: each can be broken, and what looks like a breach and is none is let pass."""

from __future__ import annotations

import pytest

from tests.campaign.verdict_kit import DISCONNECT, ED, NONE, PORT, RS, SR, A, B, C, Written
from xenaer.campaign.verdict.afterwards import Afterwards, DeviceAfter

VIRTUAL = "0000:00:00.0"  # g1's name of A


def broken(w: Written, after: Afterwards | None = None) -> set[str]:
    """Names of the invariants that do not hold."""
    return {name for name, _ in w.verdict(after).broken}


def frozen() -> Written:
    """g1 knows that A is frozen."""
    w = Written().inject(A).begin(A, frozen=True).dom0("pciback.ask", A, ED, 2)
    return w.by("g1", "driver.callback", VIRTUAL, ED, 2, 3).dom0("pciback.answer", A, ED, 3, "answer-valid")


def test_a_frozen_device_is_not_used() -> None:
    assert broken(frozen().by("g1", "driver.workload", VIRTUAL, 8, 8, "").end(A)) == {"frozen-device"}
    assert broken(frozen().by("g1", "driver.reissue", VIRTUAL, 3).end(A)) == {"frozen-device"}


@pytest.mark.parametrize(
    ("policy", "ms", "early"), [("destroy", 1, True), ("destroy", 1_001, False), ("ignore", 1, False)]
)
def test_a_bus_reset_waits_for_the_condemned(policy: str, ms: int, early: bool) -> None:
    """H22; but not for ever, nor for whoever is to live."""
    w = Written(policy=policy).inject(A).begin(A, frozen=True).ask(A, ED, 4, DISCONNECT, state=2)
    w.dom0("pciback.kill", A).dom0("aer.root_reset_begin", PORT, ms=ms)
    assert ("stopped-first" in broken(w)) == early


def test_and_goes_on_once_they_are_stopped() -> None:
    w = (
        Written()
        .inject(A)
        .begin(A, frozen=True)
        .ask(A, ED, 4, DISCONNECT, state=2)
        .report()
        .steps("g1", "mark", "stop")
    )
    assert "stopped-first" not in broken(w.dom0("aer.root_reset_begin", PORT))


@pytest.mark.parametrize("phase", ["mmio_enabled", SR, RS])
def test_but_it_may_be_from_its_permission_on(phase: str) -> None:
    w = frozen().dom0("pciback.ask", A, phase, 1).by("g1", "driver.reissue", VIRTUAL, 3)
    assert not broken(w.dom0("pciback.answer", A, phase, 5, "answer-valid").end(A))


def test_a_workload_that_fails_meanwhile_has_not_used_it() -> None:
    assert not broken(frozen().by("g1", "driver.workload", VIRTUAL, 8, 0, "the queues have been stopped").end(A))


def test_the_permission_of_another_function_is_none() -> None:
    w = frozen().ask(B, SR, 5).by("g1", "driver.reissue", VIRTUAL, 3).end(A)
    assert broken(w) == {"frozen-device"}


@pytest.mark.parametrize(
    ("label", "fields"),
    [
        ("driver.callback", (ED, 1, 2)),
        ("driver.workload", (1, 1, "")),
        ("driver.probe", ("xnic",)),
        ("driver.reissue", (1,)),
    ],
)
def test_a_dead_guest_does_nothing(label: str, fields: tuple[object, ...]) -> None:
    w = Written().inject(B).begin(B).ask(B, ED, 4, DISCONNECT).end(B, "failed").kill("g2", B)
    assert broken(w.by("g2", label, VIRTUAL, *fields)) == {"dead-are-silent"}


def test_the_next_incarnation_is_another_guest() -> None:
    w = Written().inject(B).begin(B).ask(B, ED, 4, DISCONNECT).end(B, "failed").kill("g2", B)
    w.stub("domain.create", "g2", 7, "pv").by("g2", "driver.probe", VIRTUAL, "xnic")
    assert not broken(w)


def test_nor_does_it_answer() -> None:
    w = Written().inject(A).begin(A).stub("domain.died", "g1", 1001, 9).ask(A, ED, 2).end(A, "failed")
    assert "dead-are-silent" in broken(w)


def test_a_condemned_guest_is_not_asked_again() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 4, DISCONNECT).dom0("pciback.kill", A).ask(A, RS, 1, NONE).end(A)
    assert "not-asked-again" in broken(w)


def test_but_one_that_its_policy_spares_is() -> None:
    w = Written(policy="ignore").inject(A).begin(A).ask(A, ED, 4, DISCONNECT).dom0("pciback.kill", A)
    assert not broken(w.ask(A, ED, 4, DISCONNECT, state=3).end(A, "failed"))


def test_it_is_reported_once_in_a_recovery() -> None:
    w = Written(policy="ignore").inject(A).begin(A).dom0("pciback.kill", A).dom0("pciback.kill", A).end(A, "failed")
    assert broken(w) == {"reported-once"}
    w = Written(policy="ignore")
    for _ in range(2):
        w.inject(A).begin(A).dom0("pciback.kill", A).end(A, "failed")
    assert not broken(w)


def test_a_device_has_one_owner() -> None:
    w = Written().reset(A).dom0("hw.assign", A, 3)
    assert broken(w) == {"one-owner"}


def test_and_is_reset_before_the_next_one() -> None:
    handed = Written().dom0("hw.deassign", A).dom0("hw.assign", A, 3)
    assert broken(handed) == {"reset-between"}
    assert not broken(Written().dom0("hw.deassign", A).reset(A).dom0("hw.assign", A, 3))


@pytest.mark.parametrize(("rc", "found"), [(-25, {"reset-between"}), (0, set())])
def test_a_reset_that_failed_is_none(rc: int, found: set[str]) -> None:
    """D25"""
    w = Written().reset(A, "flr", -25).dom0("hw.deassign", A).reset(A, "flr", rc).dom0("hw.assign", A, 3)
    assert broken(w) == found


def test_statistics_equal_the_journal() -> None:
    w = Written().inject(A, cor=1, uncor=0).dom0("aer.error", A, "CORRECTABLE", 1, [])
    assert not broken(w, Afterwards(counters={A: {"COR": 1}}))
    assert broken(w, Afterwards(counters={A: {"COR": 2}})) == {"counters"}
    assert broken(w, Afterwards(counters={A: {"COR": 1, "FATAL": 1}})) == {"counters"}
    assert broken(w, Afterwards(counters={})) == {"counters"}
    assert not broken(w, Afterwards())


def test_neighbours_are_unchanged() -> None:
    w = Written().inject(A).begin(A).talk(A).talk(C).end(A)
    assert broken(w) == {"neighbours"}


def test_status_stays_until_it_is_logged() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 2).inject(A, uncor=1 << 16).end(A)
    assert broken(w, Afterwards(devices={A: DeviceAfter(left=(0, 0))})) == {"status-stays"}
    assert not broken(w, Afterwards(devices={A: DeviceAfter(left=(0, 1 << 16))}))  # still there: lost, not cleared
    assert not broken(w)  # nobody looked


def test_every_recovery_ends() -> None:
    assert broken(Written().inject(A).begin(A)) == {"recoveries-end"}
    assert broken(Written(), Afterwards(ended=False)) == {"recoveries-end"}


def test_a_round_that_another_one_takes_over_has_ended() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 2).dom0("recovery.round", A, 2).dom0("recovery.begin", A, "FROZEN")
    assert not broken(w.end(A))


@pytest.mark.parametrize("party", ["dom0", "hypervisor"])
def test_kernels_live(party: str) -> None:
    assert broken(Written().by(party, "kernel.oops", "xenwatch", "KeyError", "7")) == {"kernels-live"}


def test_a_guest_may_die_of_its_own_bugs() -> None:
    assert not broken(Written().by("g1", "kernel.oops", "pcifront_do_aer", "MissingHandlerError", "no handler"))


def test_an_answer_is_that_of_its_phase() -> None:
    """D10"""
    w = Written().inject(A).begin(A).dom0("pciback.ask", A, SR, 1).by("g1", "driver.callback", VIRTUAL, ED, 1, 2)
    assert broken(w.dom0("pciback.answer", A, SR, 2, "answer-valid").end(A)) == {"answers-fit"}


def test_a_new_incarnation_knows_nothing_of_the_freeze() -> None:
    w = frozen().end(A).stub("domain.create", "g1", 9, "pv").by("g1", "driver.workload", VIRTUAL, 8, 8, "")
    assert not broken(w)


def test_statistics_of_a_function_that_dom0_forgot_are_gone() -> None:
    w = Written().inject(A, cor=1, uncor=0).dom0("aer.error", A, "CORRECTABLE", 1, []).dom0("pci.remove", A)
    assert not broken(w, Afterwards(counters={}))


def test_older_kernels_do_not_count_what_they_could_not_read() -> None:
    w = Written().inject(A).begin(A, frozen=True).talk(A).end(A)
    assert broken(w, Afterwards(counters={})) == {"counters"}
    w.host.kernel = "linux-6.1"
    assert not broken(w, Afterwards(counters={}))
