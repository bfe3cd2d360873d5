"""The 19 findings under the hardened profile, row by row: xen-pci-errata.md 9.2; names carry the row's number.

What 9.4 asks of the same rows (callbacks, resets, verdict) is in test_recorded_cases; here are the orders of steps,
what happens to data, and the policies.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.kit import BAD_TLP, COMP_ABORT, MALF_TLP, POISON_TLP, UNX_COMP, Rig, guest, one_port

A, PORT, FULL = "01:00.0", "00:04.0", "0000:01:00.0"


def alone(error: int = COMP_ABORT, *, settle: float = 2e4, spec: dict[str, Any] | None = None, **options: Any) -> Rig:
    """One guest with one function, after an error of it."""
    return Rig(one_port(guest("g1", A, spec=spec, **options))).inject(A, error).settle(settle)


def order(rig: Rig, *labels: str) -> list[str]:
    """Labels in the order of their records, with the step of a kill and the method of a reset."""
    found = [e for e in rig.entries() if e["label"] in labels]
    return [str(e.get("step") or e.get("method") or e["label"]) for e in found]


def test_no_1_kill_in_the_letters_order() -> None:
    rig = alone(MALF_TLP, ed_frozen=4)
    steps = order(rig, "pciback.answer", "pciback.kill", "kill.step", "recovery.end", "pci.reset")
    assert steps[:4] == ["pciback.answer", "pciback.kill", "mark", "dying"]
    assert steps.index("stop") < steps.index("bus") < steps.index("recovery.end")
    assert steps.index("bus") < steps.index("flr") < steps.index("restore") < steps.index("check")
    assert steps[-3:] == ["deassign", "remove_nodes", "destroy"]
    rig.check()


def test_no_2_vote_and_verdict_agree() -> None:
    for answer in (0, 1, 6, 99):
        rig = alone(ed=answer)
        assert [e["result"] for e in rig.records("recovery.end")] == ["DISCONNECT"]
        assert rig.verdict_lines() == ["failed"]
        assert len(rig.aerfail) == 1
        rig.check()


def test_no_3_a_killed_guest_is_not_asked_again() -> None:
    rig = alone(ed=4, ed_perm=4)
    assert [e["phase"] for e in rig.records("pciback.ask")] == ["error_detected"]
    rig.check()


@pytest.mark.parametrize("policy", ["ignore", "poweroff"])
def test_no_3_a_guest_that_lives_on_is_told_once(policy: str) -> None:
    rig = alone(ed=4, ed_perm=4, spec={"policy": policy}, settle=2_000)
    states = [(e["phase"], e["state"]) for e in rig.records("pciback.ask")]
    assert states == [("error_detected", 1), ("error_detected", 3)]
    assert len(rig.aerfail) == 1
    assert rig.verdicts() == ["failed"]
    rig.settle()
    assert rig.alive("g1") is (policy == "ignore")
    rig.check()


def test_no_4_a_pv_guest_that_can_never_connect_is_killed() -> None:
    rig = alone(spec={"front": False})
    assert rig.outcome(A) == "killed"
    assert not rig.alive("g1")
    assert rig.clean(A)
    rig.check()


def test_no_5_working_registers_before_slot_reset() -> None:
    """H18: dom0 restores, so the guest finds its BARs and its Command at slot_reset, whether it restores or not."""
    for restore in (False, True):
        rig = alone(MALF_TLP, restore=restore)
        order_of = order(rig, "pci.reset", "recovery.restore", "recovery.check", "pciback.ask")
        assert order_of[:5] == ["pciback.ask", "bus", "recovery.restore", "recovery.check", "pciback.ask"]
        assert rig.same(A)
        assert rig.outcome(A) == "recovered"
        rig.inject(A, COMP_ABORT).settle()
        assert rig.callbacks()[-3:] == ["ED(1) 2", "MM 5", "RS"]  # a later error reports normally
        rig.check()


def test_no_5_a_bad_check_makes_it_faulty() -> None:
    rig = Rig(one_port(guest("g1", A, ed=3)))
    rig.function(A).spec.ready_ms = -1  # the next reset is its last
    rig.inject(A, COMP_ABORT).settle(200_000)
    assert rig.outcome(A) == "faulty"
    assert not rig.alive("g1")
    assert not rig.assignable(A)
    assert len(rig.aerfail) == 1
    assert rig.callbacks() == ["ED(1) 3"]
    rig.check()


def test_no_6_one_budget_for_the_whole_incident() -> None:
    """H25: 200 s in one phase and 200 s in the next are more than one guest may take."""
    rig = alone(ed_ms=200_000, mmio_ms=200_000, settle=280_000)
    assert rig.alive("g1")
    rig.settle(150_000)
    assert rig.outcome(A) == "killed"
    assert not rig.alive("g1")
    timeouts = [e for e in rig.records("pciback.answer") if e["situation"] == "timeout"]
    assert [(e["phase"], round(e["t"] - rig.records("aer.irq")[0]["t"])) for e in timeouts] == [("mmio_enabled", 300)]
    rig.check()


def test_h10_a_mute_guest_that_lives_on_is_not_asked_again() -> None:
    rig = alone(fail={"error_detected": "hang"}, spec={"policy": "ignore"}, settle=310_000)
    rig.inject(A, UNX_COMP).settle(310_000)
    assert len(rig.records("pciback.ask")) == 1
    assert rig.verdicts() == ["failed", "failed"]
    rig.check()


@pytest.mark.parametrize("failure", ["raise", "spin", "exit", "panic"])
@pytest.mark.parametrize("phase", ["error_detected", "mmio_enabled", "slot_reset", "resume"])
def test_no_7_a_guest_that_breaks_in_a_phase_is_killed(phase: str, failure: str) -> None:
    """A worker that dies or spins is mute; an exit or a panic ends the wait at once (H2)."""
    rig = alone(ed=3 if phase == "slot_reset" else 2, fail={phase: failure}, settle=320_000)
    assert not rig.alive("g1")
    assert rig.clean(A)
    assert rig.verdicts() == ["failed"]
    assert rig.outcome(A) == "killed"
    rig.check()


@pytest.mark.parametrize("missing", ["mmio_enabled", "slot_reset", "resume"])
def test_no_7_missing_callbacks_are_skipped(missing: str) -> None:
    rig = alone(MALF_TLP if missing == "slot_reset" else COMP_ABORT, missing=[missing])
    assert rig.outcome(A) == "recovered"
    assert rig.same(A)
    rig.check()


def test_no_8_correctable_is_cleared_counted_and_not_told() -> None:
    rig = Rig(one_port(guest("g1", A)))
    rig.inject(A, 0, BAD_TLP).settle()
    assert rig.callbacks() == []
    assert not rig.records("recovery.begin")
    assert rig.same(A)
    assert any("severity=Correctable" in line for line in rig.log())
    assert rig.records("aer.error")[0]["severity"] == "CORRECTABLE"
    rig.check()


@pytest.mark.parametrize("vote", [2, 5, 3])
def test_no_9_frozen_means_reset(vote: int) -> None:
    rig = alone(MALF_TLP, ed_frozen=vote)
    assert rig.callbacks() == [f"ED(2) {vote}", "SR 5", "RS"]
    assert rig.resets() == ["bus"]
    assert any("status after the reset 00040000: MalfTLP" in line for line in rig.log())
    rig.check()


def test_no_10_status_is_clear_after_a_failure() -> None:
    for error in (COMP_ABORT, MALF_TLP):
        rig = alone(error, ed=4, ed_frozen=4)
        registers = rig.registers(A)
        assert (registers["status"], registers["DevSta"]) == (0, 0)
        assert rig.clean(A)
        rig.check()


def test_no_11_a_guest_that_does_not_finish_resume_is_killed() -> None:
    rig = alone(fail={"resume": "hang"}, settle=320_000)
    assert rig.outcome(A) == "killed"
    assert not rig.alive("g1")
    assert rig.clean(A)
    rig.check()


def test_no_13_detach_ends_the_phase_at_once() -> None:
    rig = Rig(one_port(guest("g1", A, ed_ms=60_000))).inject(A, COMP_ABORT).settle(1_000)
    rig.start_xl("pci-detach", "g1", A)
    rig.settle(500)
    assert rig.verdicts() == ["abandoned"]
    assert not rig.aerfail
    assert [e["result"] for e in rig.records("recovery.end")] == ["NONE"]
    rig.settle(70_000)
    assert rig.alive("g1")
    assert rig.clean(A)
    assert rig.resets() == ["flr"]
    rig.check()


def test_no_14_new_bits_mean_another_round_and_three_are_the_limit() -> None:
    rig = Rig(one_port(guest("g1", A, ed_ms=1_000)))
    for number, bit in enumerate((COMP_ABORT, UNX_COMP, POISON_TLP, 1 << 14)):
        rig.inject(A, bit).settle(600 if number == 0 else 1_000)
    rig.settle()
    assert rig.callbacks() == ["ED(1) 2", "MM 5", "RS"] * 3
    assert rig.verdicts() == ["successful", "successful", "failed"]
    assert rig.outcome(A) == "killed"
    assert len(rig.aerfail) == 1
    assert rig.clean(A)
    rig.check()


def test_no_14_a_fatal_error_cuts_a_nonfatal_recovery_short() -> None:
    rig = Rig(one_port(guest("g1", A, ed_ms=1_000))).inject(A, COMP_ABORT).settle(500)
    rig.inject(A, MALF_TLP).settle()
    assert rig.callbacks() == ["ED(1) 2", "ED(2) 3", "SR 5", "RS"]
    assert rig.resets() == ["bus"]
    assert rig.verdicts() == ["successful"]
    assert rig.same(A)
    rig.check()


def test_no_15_a_pause_is_no_silence() -> None:
    rig = Rig(one_port(guest("g1", A)))
    rig.xl("pause", "g1")
    rig.inject(A, COMP_ABORT).settle(500_000)
    assert rig.alive("g1")
    rig.xl("unpause", "g1")
    rig.settle()
    assert rig.outcome(A) == "recovered"
    assert rig.callbacks() == ["ED(1) 2", "MM 5", "RS"]
    rig.check()


def test_no_15_a_pause_has_an_end() -> None:
    rig = Rig(one_port(guest("g1", A)))
    rig.xl("pause", "g1")
    rig.inject(A, COMP_ABORT).settle(595_000)
    assert rig.alive("g1")
    rig.settle(20_000)
    assert rig.outcome(A) == "killed"
    assert not rig.alive("g1")
    assert rig.clean(A)
    rig.check()


def test_no_18_destroy_does_not_wait() -> None:
    rig = Rig(one_port(guest("g1", A, fail={"error_detected": "hang"}))).inject(A, COMP_ABORT).settle(1_000)
    begin = rig.system.now_s
    assert rig.xl("destroy", "g1")[0] == 0
    assert rig.system.now_s - begin < 1.0
    assert not rig.alive("g1")
    rig.settle()
    assert rig.outcome(A) == "detached"
    assert not rig.aerfail
    assert rig.clean(A)
    rig.check()


def test_no_19_nothing_is_left_of_a_destroyed_guest() -> None:
    rig = alone(ed=4)
    listing = rig.system.ctl("hypervisor", "xenstore-ls", ["/local/domain/0/backend/pci"])
    assert "aerState" not in listing
    assert rig.resets() == ["flr"]
    rig.check()
