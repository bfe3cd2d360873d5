"""What a case means for each guest: every row of the table, and who is a neighbour."""

from __future__ import annotations

import pytest

from tests.campaign.verdict_kit import DISCONNECT, ED, NONE, PORT, RS, SR, A, B, C, Written
from xenaer.campaign.verdict.afterwards import ABSENT, CLEAN, DIRTY, FAILED, VERIFIED, Afterwards, DeviceAfter, Workload


def guests(w: Written, after: Afterwards | None = None) -> dict[str, str]:
    """Outcome of each guest."""
    return dict(w.verdict(after).guests)


def fails(guest: str, bdf: str) -> Afterwards:
    """The workload of a guest fails."""
    return Afterwards(workload={(guest, bdf): Workload(FAILED, "no answer")})


def good() -> Written:
    """A recovers, B is asked too, C has nothing to do with it."""
    return Written().inject(A).begin(A).talk(A).ask(B, ED, 1, NONE).end(A).end(B)


def test_recovered_told_untouched() -> None:
    w = good().dom0("recovery.outcome", A, "recovered").dom0("recovery.outcome", B, "untouched")
    assert guests(w) == {"g1": "recovered", "g2": "told", "g3": "untouched"}


def test_the_owner_of_the_error_is_dead_its_neighbour_is_hurt() -> None:
    assert guests(good(), fails("g1", A))["g1"] == "recovered-but-dead"
    assert guests(good(), fails("g2", B))["g2"] == "hurt"
    assert guests(good(), fails("g3", C))["g3"] == "hurt"


def test_a_shared_reset_hurts_nobody_who_recovers() -> None:
    w = Written().inject(A).begin(A, frozen=True).ask(A, ED, 3, state=2).ask(B, ED, 3, state=2)
    w.reset(PORT, "bus", task="irq/24-aerdrv").ask(A, SR, 5).ask(B, SR, 5).ask(A, RS, 1, NONE).ask(B, RS, 1, NONE).end(
        A
    )
    after = Afterwards(workload={("g1", A): Workload(VERIFIED), ("g2", B): Workload(VERIFIED)})
    verdict = w.verdict(after)
    assert verdict.outcome == "recovered-after-reset"
    assert dict(verdict.guests) == {"g1": "recovered", "g2": "recovered", "g3": "untouched"}


@pytest.mark.parametrize(
    ("device", "outcome"),
    [
        (DeviceAfter(CLEAN, owner="g1"), "recovered"),
        (DeviceAfter(ABSENT, owner="g1"), "recovered-but-dead"),
        (DeviceAfter(DIRTY, owner="g1"), "recovered-but-dead"),
        (DeviceAfter(DIRTY, owner="g1", left=(0, 1)), "recovered-but-dead"),
        (DeviceAfter(DIRTY, owner="g1", left=(0, 0)), "recovered"),  # masked bits only
        (DeviceAfter(DIRTY, owner="g2"), "recovered"),
    ],
)
def test_the_state_of_its_device(device: DeviceAfter, outcome: str) -> None:
    assert guests(good(), Afterwards(devices={A: device}))["g1"] == outcome


def test_status_of_an_error_that_nobody_recovers_is_no_dead_device() -> None:
    w = Written().inject(A, told=False)
    assert w.verdict(Afterwards(devices={A: DeviceAfter(DIRTY, owner="g1", left=(0, 0))})).outcome == "no-effect"


@pytest.mark.parametrize("how", ["asked", "reset", "killed"])
def test_a_stranger_must_not_be(how: str) -> None:
    w = Written().inject(A).begin(A).talk(A)
    if how == "asked":
        w.ask(C, ED, 2)
    elif how == "reset":
        w.reset(C, "flr", task="recovery of C")
    w.end(A)
    if how == "killed":
        w.kill("g3", C)
    verdict = w.verdict()
    assert verdict.outcome == "neighbour-hurt"
    assert verdict.guests["g3"] == "hurt"
    assert how.replace("asked", "was asked") in verdict.text


def test_what_an_operator_does_to_a_stranger_hurts_nobody() -> None:
    w = Written().inject(A).begin(A).talk(A).end(A).stub("pci.step", C, "unplug", "ok").reset(C, "flr")
    w.stub("pci.step", C, "reset", "flr").dom0("hw.deassign", C).stub("pci.detach", C, "g3")
    assert guests(w)["g3"] == "untouched"


def test_an_end_that_the_operator_asked_for_is_no_kill() -> None:
    w = good().steps(
        "g1", "dying", "withdraw", "stop", "block_dma", "wake", "reset", "deassign", "remove_nodes", "destroy"
    )
    verdict = w.verdict()
    assert verdict.outcome == "recovered"
    assert verdict.guests["g1"] == "recovered"


@pytest.mark.parametrize(("reason", "outcome"), [(0, "recovered"), (1, "recovered"), (3, "gone-by-itself")])
def test_nor_is_a_shutdown(reason: int, outcome: str) -> None:
    w = good().stub("domain.shutdown", "g1", reason)
    w.steps("g1", "dying", "stop", "block_dma", "wake", "reset", "deassign", "remove_nodes", "destroy")
    assert guests(w)["g1"] == outcome


def test_whoever_died_before_anybody_acted_is_gone_by_itself() -> None:
    """KILL-8"""
    w = Written().inject(A).begin(A).ask(A, ED, 4, DISCONNECT).dom0("pciback.kill", A)
    w.stub("domain.died", "g1", 1001, 9).stub("kill.report", "g1", 1).stub("kill.incident", "g1", "destroy")
    w.steps("g1", "dying", "block_dma", "reset", "deassign", "remove_nodes", "destroy").end(A, "failed")
    verdict = w.verdict()
    assert verdict.guests["g1"] == "gone-by-itself"
    assert verdict.label == "gone"


def test_a_guest_that_dies_without_any_error() -> None:
    w = Written().stub("domain.died", "g1", 1001, 9)
    w.steps("g1", "dying", "block_dma", "wake", "reset", "deassign", "remove_nodes", "destroy")
    assert w.verdict().label == "gone"


def test_a_guest_that_had_to_die_and_is_destroyed_much_later_has_lived_on() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 0, "timeout").end(A)
    w.steps("g1", "dying", "stop", "block_dma", "reset", "deassign", "remove_nodes", "destroy")
    assert w.verdict().outcome == "guest-alive-though-required-dead"


def test_but_not_if_it_is_destroyed_meanwhile() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 4, DISCONNECT)
    w.steps("g1", "dying", "stop", "block_dma", "reset", "deassign", "remove_nodes", "destroy").end(A, "abandoned")
    assert w.verdict().outcome == "recovered-after-reset"


def test_the_policy_is_named() -> None:
    w = Written(policy="ignore").inject(A).begin(A).ask(A, ED, 4, DISCONNECT).report("g1", A, "ignore").end(A, "failed")
    assert "its policy is ignore" in w.verdict().text


def test_preserve_is_a_kill_that_keeps_the_memory() -> None:
    w = Written(policy="preserve").inject(A).begin(A).ask(A, ED, 4, DISCONNECT).end(A, "failed")
    w.report("g1", A, "preserve").steps("g1", "pause", "block_dma", "wake", "reset", "restore", "check", "deassign")
    assert w.steps("g1", "remove_nodes").verdict().outcome == "guest-killed-required"


def test_a_restarted_guest_is_judged_by_all_its_incarnations() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 4, DISCONNECT).end(A, "failed").kill("g1", A)
    w.stub("domain.create", "g1", 9, "pv").dom0("hw.assign", A, 9).dom0("pciback.export", A, 0).dom0(
        "pciback.connect", "g1"
    )
    verdict = w.verdict()
    assert verdict.outcome == "guest-killed-required"
    assert verdict.guests["g1"] == "killed-required"


def test_faults_of_a_guest_are_its_own() -> None:
    w = Written().by("g3", "fault.driver", "0000:00:00.0", ED, "hang")
    assert guests(w, fails("g3", C))["g3"] == "recovered-but-dead"
    w = Written().dom0("hw.gone", C, "dead")
    assert guests(w, fails("g3", C))["g3"] == "recovered-but-dead"
    assert guests(w, fails("g1", A))["g1"] == "hurt"


def test_whoever_ends_while_it_is_condemned_has_ended_as_it_had_to() -> None:
    """KILL-8"""
    w = Written().inject(A).begin(A).ask(A, ED, 4, DISCONNECT).dom0("pciback.kill", A).stub("domain.shutdown", "g1", 0)
    w.stub("kill.report", "g1", 1).stub("kill.incident", "g1", "destroy").end(A, "failed")
    verdict = w.steps("g1", "dying", "stop", "block_dma", "reset", "deassign", "remove_nodes", "destroy").verdict()
    assert verdict.outcome == "guest-killed-required"
    assert "ended before it was killed" in verdict.text


def test_whoever_had_the_function_when_it_had_its_error_is_no_neighbour() -> None:
    w = Written().dom0("hw.touch", "0000:01:00.7").begin(A).ask(A, ED, 4, DISCONNECT).end(A, "failed").kill("g1", A)
    w.stub("domain.create", "fresh", 9).dom0("hw.assign", A, 9)
    w.dom0("hw.touch", "0000:01:00.7").begin(A).talk(A).end(A)
    verdict = w.verdict()
    assert verdict.outcome == "guest-killed-required"
    assert verdict.guests["g1"] == "killed-required"


def test_a_reset_that_the_operator_writes_to_sysfs_hurts_no_neighbour() -> None:
    w = Written().inject(A).begin(A).talk(A).end(A).reset(C, task="ctl of hypervisor")
    w.dom0("sysfs.store", f"/sys/bus/pci/devices/{C}/reset", "1", 0)
    assert w.verdict().guests["g3"] == "untouched"
    assert w.verdict(fails("g3", C)).guests["g3"] == "recovered-but-dead"
