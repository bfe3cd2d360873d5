"""The order of KILL-4, step against step: which resets count, and what a missing one looks like."""

from __future__ import annotations

import pytest

from tests.campaign.verdict_kit import DISCONNECT, ED, KILL, A, Written
from xenaer.campaign.verdict.afterwards import Afterwards, DeviceAfter
from xenaer.campaign.verdict.ends import MISSING, WRONG_ORDER, reset_faults

NOTHING = Afterwards()


def killed(*steps: str) -> Written:
    """g1 gave up and is killed with these steps."""
    w = Written().inject(A).begin(A).ask(A, ED, 4, DISCONNECT).end(A, "failed").report("g1", A)
    return w.steps("g1", *steps)


def kinds(w: Written, after: Afterwards = NOTHING) -> list[str]:
    """What is wrong with the resets."""
    return [fault.kind for fault in reset_faults(w.facts(), after)]


def moved(step: str, before: str) -> tuple[str, ...]:
    """The steps of KILL-4 with one of them earlier."""
    steps = [each for each in KILL if each != step]
    steps.insert(steps.index(before), step)
    return tuple(steps)


def test_the_order_of_the_specification() -> None:
    assert kinds(killed(*KILL)) == []


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        (moved("reset", "stop"), WRONG_ORDER),
        (moved("reset", "mark"), WRONG_ORDER),
        (moved("reset", "block_dma"), WRONG_ORDER),
        (moved("deassign", "reset"), WRONG_ORDER),
        (moved("wake", "mark"), None),
        (moved("check", "restore"), None),
        (tuple(step for step in KILL if step != "reset"), MISSING),
        (
            tuple(step for step in KILL if step != "block_dma"),
            None,
        ),  # dead before its reset: nothing programs the device
    ],
)
def test_every_step_that_matters(steps: tuple[str, ...], kind: str | None) -> None:
    assert kinds(killed(*steps)) == ([] if kind is None else [kind])


def test_a_reset_of_the_recovery_does_not_stand_in_for_that_of_the_kill() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 3).reset(A, task="recovery of A").ask(A, "slot_reset", 4, DISCONNECT)
    w.end(A, "failed").report("g1", A).steps("g1", *(step for step in KILL if step != "reset"))
    assert kinds(w) == [MISSING]


def test_a_reset_that_fails_leaves_the_function_faulty() -> None:
    """KILL-5"""
    w = killed("mark", "dying", "stop", "block_dma").reset(A, "flr", -25).step("g1", "reset", A, "failed")
    w.steps("g1", "deassign", "remove_nodes", "destroy")
    assert kinds(w) == [MISSING]
    assert kinds(w, Afterwards(devices={A: DeviceAfter(faulty="reset failed")})) == []
    assert kinds(w.stub("pci.faulty", A, "reset failed")) == []


def test_a_reset_when_pciback_puts_it_back_comes_too_late() -> None:
    w = killed("mark", "dying", "stop", "block_dma", "deassign").reset(A, task="xenwatch").steps("g1", "destroy")
    assert kinds(w) == [WRONG_ORDER]


def test_libxl_detaches_before_it_stops() -> None:
    """BUS-30, finding 19"""
    w = Written("linux").reset(A).stub("pci.step", A, "reset", "done", task="teardown g1").dom0("hw.deassign", A)
    w.stub("pci.detach", A, "g1", task="teardown g1").steps("g1", "detach_devices", "dying", "stop", "destroy")
    assert kinds(w) == [WRONG_ORDER]


def test_a_guest_that_shut_down_does_not_run() -> None:
    w = Written("linux").stub("domain.shutdown", "g1", 0).reset(A)
    w.stub("pci.step", A, "reset", "done", task="teardown g1").dom0("hw.deassign", A)
    assert kinds(w.steps("g1", "detach_devices", "dying", "stop", "destroy")) == []


def test_a_detach_is_no_end() -> None:
    w = Written("linux").reset(A).stub("pci.step", A, "reset", "done", task="xl").dom0("hw.deassign", A)
    assert kinds(w.stub("pci.detach", A, "g1", task="xl")) == []


def test_an_end_that_is_under_way_is_not_judged() -> None:
    assert kinds(killed("mark", "dying", "stop")) == []


def test_a_faulty_function_that_is_put_back_stays_faulty() -> None:
    """An FLR of a function that does not answer seems to work."""
    w = killed("mark", "dying", "stop", "block_dma").stub("pci.faulty", A, "no reset available")
    w.step("g1", "reset", A, "failed").steps("g1", "deassign", "remove_nodes", "destroy").reset(A, task="xenwatch")
    assert kinds(w) == []


def test_an_older_reset_is_not_that_of_a_step_that_failed() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 3).reset(A, task="recovery of A").end(A, "failed").report("g1", A)
    w.steps("g1", "mark", "dying", "stop", "block_dma").step("g1", "reset", A, "failed")
    assert kinds(w.steps("g1", "deassign", "remove_nodes", "destroy")) == [MISSING]


@pytest.mark.parametrize(("rc", "outcome"), [(0, ""), (-25, "function-reset-missing")])
def test_what_a_detach_has_reset_needs_no_other_one(rc: int, outcome: str) -> None:
    w = Written().stub("pci.step", A, "unplug", "ok").stub("pci.step", A, "block_dma", "ok").reset(A, "flr", rc)
    w.stub("domain.shutdown", "g1", 0).steps("g1", "dying").dom0("hw.deassign", A)
    w.steps("g1", "stop", "remove_nodes", "destroy")
    found = w.verdict().outcome
    assert found == outcome if outcome else found != "function-reset-missing"


def test_what_was_pulled_out_cannot_be_reset() -> None:
    w = Written().dom0("pci.remove", A).stub("domain.shutdown", "g1", 0).steps("g1", "dying", "stop", "destroy")
    assert not reset_faults(w.facts(), Afterwards())


def test_nor_is_one_of_a_recovery_that_found_the_function_faulty() -> None:
    """Its guest had shut down by then: nothing that it programmed could run, so the order is right."""
    w = Written().inject(A).begin(A, frozen=True).stub("domain.shutdown", "g1", 1).reset(A, task="irq/24-aerdrv")
    w.stub("pci.faulty", A, "does not answer").steps("g1", "dying", "stop", "block_dma")
    w.step("g1", "reset", A, "failed").steps("g1", "deassign", "remove_nodes", "destroy")
    assert kinds(w) == []
