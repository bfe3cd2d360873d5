"""Guests that share a port: xen-pci-errata.md 9.3, H14, H15, H20, H21; one merge per owner, one verdict per owner."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.kit import COMP_ABORT, DLP, MALF_TLP, Rig, guest, one_port

A, B, PORT = "01:00.0", "01:00.1", "00:04.0"
FINE: dict[str, Any] = {}
NO_HANDLER = {"no_err_handler": True}
MUTE = {"fail": {"error_detected": "hang"}}
ASKS_RESET = {"ed": 3}


def two_guests(a: dict[str, Any], b: dict[str, Any], **host_options: Any) -> Rig:
    """Guest ``a`` has function 0, guest ``b`` function 1 of the same card."""
    return Rig(one_port(guest("a", A, **a), guest("b", B, **b), functions=2, **host_options))


def ends(rig: Rig) -> tuple[str, str]:
    """Outcomes of both functions."""
    return rig.outcome(A), rig.outcome(B)


def test_9_3_a_bystander_without_handlers_is_untouched() -> None:
    rig = two_guests(FINE, NO_HANDLER).inject(A, COMP_ABORT).settle()
    assert ends(rig) == ("recovered", "untouched")
    assert (rig.callbacks("a"), rig.callbacks("b")) == (["ED(1) 2", "MM 5", "RS"], [])
    assert rig.alive("b")
    assert not rig.aerfail
    assert not rig.resets()
    rig.check()


@pytest.mark.parametrize("answer", [4, 1, 0, 6])
def test_9_3_the_source_fails_and_the_other_never_sees_a_reset(answer: int) -> None:
    rig = two_guests({"ed": answer}, FINE).inject(A, COMP_ABORT).settle()
    assert ends(rig) == ("killed", "recovered")
    assert rig.callbacks("b") == ["ED(1) 2", "MM 5", "RS"]
    assert rig.resets() == ["flr"]
    assert rig.resets_of(A) == ["flr"]
    assert sorted(rig.verdicts()) == ["failed", "successful"]
    assert len(rig.aerfail) == 1
    assert sorted(rig.verdict_lines()) == [f"failed: 0000:{A}", f"successful: 0000:{B}"]
    assert rig.clean(A)
    assert rig.same(B)
    assert not rig.alive("a")
    assert rig.alive("b")
    rig.check()


def test_h20_the_source_recovers_and_the_silent_neighbour_lives() -> None:
    """9.2 no. 2 with another function: the same votes, but function 1 is the source."""
    rig = two_guests({"ed": 1}, FINE).inject(B, COMP_ABORT).settle()
    assert ends(rig) == ("untouched", "recovered")
    assert rig.alive("a")
    assert not rig.aerfail
    assert rig.verdicts() == ["successful", "successful"]
    rig.check()


@pytest.mark.parametrize("answer", [4, 0, 6, 99])
def test_h20_a_bystander_that_refuses_is_killed(answer: int) -> None:
    rig = two_guests(FINE, {"ed": answer}).inject(A, COMP_ABORT).settle()
    assert ends(rig) == ("recovered", "killed")
    assert rig.clean(B)
    rig.check()


def test_9_3_need_reset_with_flr_resets_only_the_function_that_asked() -> None:
    rig = two_guests(ASKS_RESET, FINE).inject(A, COMP_ABORT).settle()
    assert ends(rig) == ("recovered", "recovered")
    assert rig.callbacks("a") == ["ED(1) 3", "SR 5", "RS"]
    assert rig.callbacks("b") == ["ED(1) 2", "MM 5", "RS"]
    assert rig.resets() == rig.resets_of(A) == ["flr"]
    assert rig.same(A)
    assert rig.same(B)
    rig.check()


def test_9_3_need_reset_without_flr_is_faulty_and_the_bus_is_left_alone() -> None:
    rig = two_guests(ASKS_RESET, FINE, fields={"flr": False}).inject(A, COMP_ABORT).settle()
    assert ends(rig) == ("faulty", "recovered")
    assert "bus" not in rig.resets()
    assert not rig.assignable(A)
    assert not rig.alive("a")
    assert rig.alive("b")
    assert rig.same(B)
    rig.check()


def test_9_3_nobody_waits_for_a_mute_guest() -> None:
    rig = two_guests(MUTE, FINE).inject(A, COMP_ABORT).settle(1_000)
    assert rig.callbacks("b") == ["ED(1) 2", "MM 5", "RS"]
    assert rig.alive("a")
    rig.settle(320_000)
    assert ends(rig) == ("killed", "recovered")
    rig.check()


def test_9_3_fatal_both_reset_once_and_restored_before_the_first_slot_reset() -> None:
    rig = two_guests(FINE, FINE).inject(A, MALF_TLP).settle()
    assert ends(rig) == ("recovered", "recovered")
    assert rig.resets() == ["bus"]
    assert rig.callbacks("a") == rig.callbacks("b") == ["ED(2) 3", "SR 5", "RS"]
    order = [e for e in rig.entries() if e["label"] in ("recovery.restore", "pciback.ask")]
    first_slot_reset = next(i for i, e in enumerate(order) if e.get("phase") == "slot_reset")
    restored = {e["subject"] for e in order[:first_slot_reset] if e["label"] == "recovery.restore"}
    assert restored == {f"0000:{A}", f"0000:{B}"}
    rig.check()


def test_9_3_fatal_the_other_waits_for_a_mute_guest_once() -> None:
    rig = two_guests(MUTE, FINE).inject(A, MALF_TLP).settle(1_000)
    assert rig.callbacks("b") == ["ED(2) 3"]
    assert not rig.resets()
    rig.settle(320_000)
    assert ends(rig) == ("killed", "recovered")
    assert rig.callbacks("b") == ["ED(2) 3", "SR 5", "RS"]
    assert stopped_before_bus_reset(rig, "a")
    rig.check()


def stopped_before_bus_reset(rig: Rig, name: str) -> bool:
    """The guest was stopped before its bus was reset (H22): the reset takes 100 ms, so its record is later."""
    records = [e for e in rig.entries() if e["label"] in ("domain.died", "pci.reset")]
    died = next(e["t"] for e in records if e["label"] == "domain.died" and e["subject"] == name)
    bus = next(e["t"] for e in records if e["label"] == "pci.reset" and e["method"] == "bus")
    return bool(died < bus - 0.1)


@pytest.mark.parametrize("b", [NO_HANDLER, {"ed_frozen": 1}, {"ed_frozen": 4}], ids=["no-handler", "none", "leave"])
def test_9_3_fatal_a_guest_without_handlers_dies_before_the_bus_reset(b: dict[str, Any]) -> None:
    rig = two_guests(FINE, b).inject(A, MALF_TLP).settle()
    assert ends(rig) == ("recovered", "killed")
    assert stopped_before_bus_reset(rig, "b")
    assert rig.resets_of(PORT) == ["bus"]
    assert rig.clean(B)
    assert rig.same(A)
    rig.check()


def test_9_3_fatal_destroyed_in_mid_reset() -> None:
    rig = two_guests(FINE, FINE).inject(A, MALF_TLP).settle(50)
    rig.start_xl("destroy", "b")
    rig.settle()
    assert ends(rig) == ("recovered", "detached")
    assert not rig.aerfail
    assert rig.resets_of(PORT) == ["bus"]
    assert rig.same(A)
    assert rig.clean(B)
    assert sorted(rig.verdicts()) == ["abandoned", "successful"]
    rig.check()


def test_9_3_fatal_reset_fails() -> None:
    fields = {"link_dead_after_reset": True}
    rig = two_guests(FINE, FINE, fields=fields).inject(A, MALF_TLP).settle(200_000)
    assert ends(rig) == ("faulty", "faulty")
    assert rig.resets() == ["bus", "bus"]
    assert rig.verdicts() == ["failed", "failed"]
    assert len(rig.aerfail) == 2
    assert not rig.alive("a")
    assert not rig.alive("b")
    assert not rig.assignable(A)
    assert not rig.assignable(B)
    rig.check()


def test_9_3_an_unassigned_neighbour_is_not_asked() -> None:
    rig = Rig(one_port(guest("a", A), functions=2)).inject(A, COMP_ABORT).settle()
    assert ends(rig) == ("recovered", "untouched")
    assert not rig.resets()
    rig.check()


@pytest.mark.parametrize(("error", "option"), [(COMP_ABORT, {"ed": 3}), (DLP, {})], ids=["nonfatal", "fatal"])
def test_9_3_an_unassigned_neighbour_that_is_reset_is_restored(error: int, option: dict[str, Any]) -> None:
    rig = Rig(one_port(guest("a", A, **option), functions=2)).inject(A, error).settle()
    assert ends(rig) == ("recovered", "unassigned-ok")
    assert rig.resets() == ["bus"]
    assert rig.same(A)
    assert rig.clean(B)
    rig.check()


def test_h20_own_second_function_without_handlers_dies_before_a_reset() -> None:
    """Function 0 wants a reset, function 1 of the same guest cannot: no reset of what somebody uses unprepared."""
    spec = guest("a", A, B, ed=3)
    spec.devices[1].driver.options = {"no_err_handler": True}
    rig = Rig(one_port(spec, functions=2)).inject(A, COMP_ABORT).settle()
    assert ends(rig) == ("killed", "killed")
    assert stopped_before(rig, "a", "flr")
    assert rig.clean(A)
    assert rig.clean(B)
    rig.check()


def stopped_before(rig: Rig, name: str, method: str) -> bool:
    """The guest died before the first reset with this method was over."""
    records = [e for e in rig.entries() if e["label"] in ("domain.died", "pci.reset")]
    first = next(e for e in records if e["label"] == "domain.died" or e["method"] == method)
    return bool(first["subject"] == name)


def test_h20_own_silent_function_is_left_alone_when_nothing_is_reset() -> None:
    spec = guest("a", A, B)
    spec.devices[1].driver.options = {"no_err_handler": True}
    rig = Rig(one_port(spec, functions=2)).inject(A, COMP_ABORT).settle()
    assert ends(rig) == ("recovered", "untouched")
    assert rig.verdicts() == ["successful"]
    assert rig.alive("a")
    rig.check()


def test_h15_one_guest_cannot_fail_another_by_any_answer() -> None:
    """The votes that would fail the whole port in the kernel's one merge (9.3, last paragraph)."""
    for answer in (1, 4, 6, 0):
        for error in (COMP_ABORT, MALF_TLP):
            rig = two_guests({"ed": answer, "ed_frozen": answer}, FINE).inject(A, error).settle()
            assert rig.outcome(B) == "recovered", answer
            assert rig.alive("b"), answer
            rig.check()


def test_9_3_slot_reset_is_for_the_functions_that_were_reset() -> None:
    """Three functions, two of one guest: the one that did not ask for the FLR hears of none."""
    spec = guest("a", A, "01:00.2", ed=3)
    spec.devices[1].driver.options = {}
    rig = Rig(one_port(spec, guest("b", B), functions=3)).inject(A, COMP_ABORT).settle()
    assert rig.callbacks("a") == ["ED(1) 3", "ED(1) 2", "SR 5", "RS", "RS"]
    assert rig.resets() == rig.resets_of(A) == ["flr"]
    assert set(rig.outcomes().values()) == {"recovered"}
    rig.check()
