"""Machines whose firmware keeps AER (linux-aer.md 3.1): dom0 hears of no error, and guests come and go as ever."""

from __future__ import annotations

import pytest

from protocol.topology import BootSpec
from tests.simulation.kit import COMP_ABORT, MALF_TLP, Rig, guest, one_port

BOOTS = (BootSpec(aer=False), BootSpec(msi=False), BootSpec(osc_aer=False), BootSpec(pcie_ports="compat"))


@pytest.mark.parametrize("boot", BOOTS, ids=("noaer", "nomsi", "osc", "compat"))
@pytest.mark.parametrize("uncor", [COMP_ABORT, MALF_TLP])
def test_3_1_nobody_hears_of_an_error(boot: BootSpec, uncor: int) -> None:
    rig = Rig(one_port(guest("a", "01:00.0"), boot=boot)).inject("01:00.0", uncor).settle()
    assert rig.records("recovery.begin") == []
    assert rig.alive("a")


@pytest.mark.parametrize("boot", BOOTS, ids=("noaer", "nomsi", "osc", "compat"))
def test_h19_a_device_without_reporting_is_well(boot: BootSpec) -> None:
    """It is compared with what it was; Device Control was never on."""
    rig = Rig(one_port(guest("a", "01:00.0"), boot=boot))
    assert rig.xl("destroy", "a")[0] == 0
    rig.settle()
    assert rig.clean("01:00.0")


@pytest.mark.parametrize("uncor", [COMP_ABORT, MALF_TLP])
def test_3_10_an_error_that_the_firmware_reports_is_recovered_from(uncor: int) -> None:
    rig = Rig(one_port(guest("a", "01:00.0"), boot=BootSpec(firmware_first=True))).inject("01:00.0", uncor).settle()
    assert rig.records("aer.irq") == []
    assert rig.verdicts() == ["successful"]
    assert rig.same("01:00.0")
    assert any("aer_uncor_severity" in text for text in rig.log())
    rig.check()
