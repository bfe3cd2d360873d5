"""A card that is pulled out, or ejected, while a guest has it: hardened detaches it, linux leaves it there."""

from __future__ import annotations

import pytest

from protocol.topology import BootSpec
from tests.simulation.kit import MALF_TLP, Rig, guest, one_port

A, B = "0000:01:00.0", "0000:01:00.1"


def rig(profile: str = "hardened") -> Rig:
    """A card with two functions in a slot that dom0 serves itself; g1 has both."""
    owner = guest("g1", A, B)
    return Rig(one_port(owner, functions=2, profile=profile, boot=BootSpec(hotplug="native")))


def devices_of_the_guest(rig: Rig) -> list[str]:
    return rig.xl("pci-list", "g1")[1].splitlines()[1:]


def remove(rig: Rig, how: str) -> None:
    verb, word = ("gone", "removed") if how == "pulled" else ("hotplug", "eject")
    rig.system.ctl("dom0", verb, [A, word])


@pytest.mark.parametrize("how", ["pulled", "ejected"])
def test_a_guest_is_rid_of_what_its_slot_has_lost(how: str) -> None:
    each = rig()
    remove(each, how)
    each.settle(20_000)
    assert each.alive("g1")
    assert devices_of_the_guest(each) == []
    for bdf in (A, B):
        steps = [str(e["step"]) for e in each.records("pci.step") if e["subject"] == bdf]
        assert steps == ["unplug", "deassign", "remove_entry"]
    assert not each.records("pci.faulty")


def test_linux_leaves_the_guest_with_a_device_that_is_not_there() -> None:
    each = rig("linux")
    remove(each, "pulled")
    each.settle(20_000)
    assert len(devices_of_the_guest(each)) == 2


@pytest.mark.parametrize("phase", ["error_detected", "slot_reset", "resume"])
def test_in_mid_recovery_nobody_dies_of_it(phase: str) -> None:
    each = rig()
    each.inject(A, MALF_TLP)
    for _ in range(10_000):
        if any(e["phase"] == phase for e in each.records("pciback.ask")):
            break
        each.settle(0.01)
    remove(each, "pulled")
    each.settle(20_000)
    assert each.verdicts()[-1] == "abandoned"
    assert set(each.outcomes().values()) == {"detached"}
    assert each.alive("g1")
    assert devices_of_the_guest(each) == []


def test_what_was_pulled_out_can_be_put_in_and_given_away_again() -> None:
    each = rig()
    remove(each, "pulled")
    each.settle(20_000)
    each.system.ctl("dom0", "back", [A])
    each.settle(20_000)
    assert each.assignable(A)
    assert each.xl("pci-attach", "g1", A)[0] == 0
    each.settle(20_000)
    assert len(devices_of_the_guest(each)) == 1
    each.check()


def test_an_error_of_a_port_below_which_nothing_is_left_has_an_end() -> None:
    each = rig()
    remove(each, "pulled")
    each.settle(20_000).inject("0000:00:04.0", MALF_TLP).settle()
    assert each.verdicts() == ["successful"]
    assert each.verdict_lines() == ["successful"]
