"""The ECRC policy by linux-aer.md 1.6 and 1.7 step 6 alone: the recorded kernel is built without it."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from dom0_pciback.pci.state import restore_state
from protocol.layout_aer import AER
from protocol.topology import BootSpec
from tests.dom0_pciback.aer.rig import Rig, endpoint, small_host

CAPABLE, ENABLED = 0x0A0, 0x140

Policy = Literal["bios", "off", "on"]


def machine(policy: Policy, *, firmware: int = CAPABLE, ecrc: bool = True, **boot: Any) -> Rig:
    """01:00.0 has ``firmware`` in its capabilities and control register when the kernel comes."""
    device = endpoint("01:00.0", "00:01.0", ecrc=ecrc, registers={"aer_cap_ctl": firmware} if ecrc else {})
    functions = [device if spec.bdf == "01:00.0" else spec for spec in small_host()]
    return Rig(functions, boot=BootSpec(ecrc=policy, **boot))


@pytest.mark.parametrize(
    ("policy", "firmware", "wanted"),
    [
        ("bios", CAPABLE, CAPABLE),
        ("bios", CAPABLE | 0x40, CAPABLE | 0x40),
        ("off", CAPABLE | ENABLED, CAPABLE),
        ("on", CAPABLE, CAPABLE | ENABLED),
        ("on", 0x20, 0x60),
        ("on", 0x80, 0x180),
    ],
)
def test_1_7_policy(policy: Policy, firmware: int, wanted: int) -> None:
    assert machine(policy, firmware=firmware).aer_reg("01:00.0", AER.CAP) == wanted


def test_1_6_a_function_without_the_capability_is_left_alone() -> None:
    rig = machine("on", ecrc=False)
    assert rig.aer_reg("01:00.0", AER.CAP) == 0
    dev = rig.dev("01:00.0")
    rig.core.write(dev, dev.aer + AER.CAP, 4, ENABLED)
    assert rig.aer_reg("01:00.0", AER.CAP) == 0


def test_1_7_the_policy_needs_ownership() -> None:
    assert machine("on", osc_aer=False).aer_reg("01:00.0", AER.CAP) == CAPABLE


def test_4_8_a_restore_brings_the_enables_back() -> None:
    rig = machine("on")
    dev = rig.dev("01:00.0")
    rig.core.write(dev, dev.aer + AER.CAP, 4, 0)
    restore_state(rig.core, dev)
    assert rig.aer_reg("01:00.0", AER.CAP) == CAPABLE | ENABLED
