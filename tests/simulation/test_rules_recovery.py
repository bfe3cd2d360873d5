"""Rules of xen-pci.md that only a whole recovery shows: BE-12, BE-14."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.kit import COMP_ABORT, MALF_TLP, Rig, guest, one_port

A = "01:00.0"
BOTH = pytest.mark.parametrize("profile", ["linux", "hardened"])


def system(profile: str, **options: Any) -> Rig:
    """A guest with one device that survives ``aerfail``."""
    fields = options.pop("fields", {})
    return Rig(one_port(guest("g1", A, spec={"policy": "ignore"}, **options), profile=profile, fields=fields))


def states(rig: Rig) -> list[int]:
    """The channel states that the guest was told."""
    asked = [e for e in rig.records("pciback.ask", "dom0") if e["phase"] == "error_detected"]
    return [int(e["state"]) for e in asked]


@BOTH
def test_be_12_after_a_reset_the_guest_restores_in_linux_and_dom0_in_hardened(profile: str) -> None:
    """pciback itself neither resets nor restores in slot_reset: what the guest may not write stays lost."""
    rig = system(profile).inject(A, MALF_TLP).settle()
    assert rig.callbacks() == ["ED(2) 3", "SR 5", "RS"]
    assert rig.resets() == ["bus"]
    now, before = rig.registers(A), rig.live["0000:01:00.0"]
    lost = {name for name in before if now[name] != before[name]}
    assert bool(lost & {"BAR0", "BAR1", "BAR4", "Command"}) == (profile == "linux")
    assert bool(rig.records("recovery.restore")) == (profile == "hardened")


@BOTH
def test_be_14_the_state_says_how_bad_it_is(profile: str) -> None:
    """Non-fatal: normal; fatal: frozen; when recovery is hopeless: perm_failure after the first state."""
    assert states(system(profile).inject(A, COMP_ABORT).settle()) == [1]
    assert states(system(profile).inject(A, MALF_TLP).settle()) == [2]
    hopeless = system(profile, fields={"link_dead_after_reset": True}).inject(A, MALF_TLP).settle(200_000)
    assert states(hopeless) == [2, 3]
