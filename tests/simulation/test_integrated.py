"""An integrated endpoint of a guest, by the rules of linux-aer.md 3.9: its collector reports, FLR resets it alone."""

from __future__ import annotations

import pytest

from protocol.layout_aer import AER
from protocol.topology import FunctionSpec
from tests.simulation.kit import COMP_ABORT, MALF_TLP, Rig, guest, host

COLLECTOR, MINE, OTHER = "0000:00:07.0", "0000:00:08.0", "0000:00:09.0"


def machine(profile: str = "hardened") -> Rig:
    functions = [
        FunctionSpec(COLLECTOR, "event_collector", rciep_devices=0x300, dom0_driver="pcieport"),
        FunctionSpec(MINE, "rciep"),
        FunctionSpec(OTHER, "rciep"),
    ]
    return Rig(host(functions, [guest("a", MINE), guest("b", OTHER)], profile=profile))


@pytest.mark.parametrize("profile", ["hardened", "linux"])
@pytest.mark.parametrize("uncor", [COMP_ABORT, MALF_TLP])
def test_3_9_only_the_guest_of_the_endpoint_takes_part(profile: str, uncor: int) -> None:
    rig = machine(profile).inject(MINE, uncor).settle()
    assert {str(e["subject"]) for e in rig.records("pciback.ask")} == {MINE}
    assert set(rig.resets()) <= {"flr"}
    assert rig.resets_of(OTHER) == []
    assert enabled(rig)
    rig.check()


def test_h18_a_collector_that_was_reset_still_interrupts() -> None:
    rig = machine().inject(COLLECTOR, MALF_TLP).settle()
    assert rig.resets_of(COLLECTOR) == ["flr"]
    assert enabled(rig)
    assert rig.records("pciback.ask") == []
    rig.inject(MINE, COMP_ABORT).settle()
    assert rig.outcome(MINE) == "recovered"
    rig.check()


def enabled(rig: Rig) -> bool:
    """The collector's interrupts are on, and nothing is left in its status."""
    registers = rig.function(COLLECTOR)
    command = registers.config.peek(registers.aer + AER.ROOT_COMMAND, 4)
    return (command, registers.config.peek(registers.aer + AER.ROOT_STATUS, 4)) == (7, 0)
