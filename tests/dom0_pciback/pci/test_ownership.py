"""Who owns AER, by the predicates of linux-aer.md 3.1 and V32; few of these machines are recorded."""

from __future__ import annotations

from typing import Any

import pytest

from dom0_pciback.pci.osc import osc_lines
from dom0_pciback.pci.ownership import host_native_aer, owns_aer, pci_aer_available
from dom0_pciback.pci.state import restore_state
from protocol.ers import ChannelState, ErsResult
from protocol.layout_aer import AER
from protocol.layout_header import BRIDGE_CTL_SERR, COMMAND_INTX_DISABLE, HEADER, TYPE1
from protocol.layout_pcie import EXP
from protocol.topology import BootSpec
from tests.dom0_pciback.aer.rig import Rig, bind_lab

FOREIGN: dict[str, dict[str, Any]] = {
    "noaer": {"aer": False},
    "nomsi": {"msi": False},
    "compat": {"pcie_ports": "compat"},
    "osc": {"osc_aer": False},
    "firmware-first": {"firmware_first": True},
    "dpc-native": {"osc_aer": False, "pcie_ports": "dpc-native"},
}
#                boot                                            available  granted  owned
PREDICATES = [
    ({}, True, True, True),
    ({"aer": False}, False, False, False),
    ({"msi": False}, False, False, False),
    ({"osc_aer": False}, True, False, False),
    ({"firmware_first": True}, True, False, False),
    ({"pcie_ports": "compat"}, True, False, False),
    ({"pcie_ports": "native", "osc_aer": False}, True, False, True),
    ({"pcie_ports": "native", "aer": False}, False, False, True),
    ({"pcie_ports": "dpc-native", "osc_aer": False}, True, False, False),
]


@pytest.mark.parametrize(("boot", "available", "granted", "owned"), PREDICATES)
def test_3_1_predicates(boot: dict[str, Any], available: bool, granted: bool, owned: bool) -> None:
    spec = BootSpec(**boot)
    assert (pci_aer_available(spec), host_native_aer(spec), owns_aer(spec)) == (available, granted, owned)


@pytest.fixture(params=FOREIGN, ids=str)
def foreign(request: pytest.FixtureRequest) -> Rig:
    """A machine whose kernel does not own AER."""
    return Rig(boot=BootSpec(**FOREIGN[request.param]))


def devctl(rig: Rig, bdf: str) -> int:
    dev = rig.dev(bdf)
    return rig.core.read(dev, dev.exp + EXP.DEVCTL, 2)


def test_v32_nothing_is_enabled_but_the_statistics_exist(foreign: Rig) -> None:
    assert not [line for line in foreign.boot_log if "AER: enabled" in line]
    assert foreign.aer.roots == {}
    for dev in foreign.core.devices.values():
        assert devctl(foreign, dev.name) == 0
        assert foreign.aer.stats_text(dev, "aer_dev_fatal").endswith("TOTAL_ERR_FATAL 0\n")
    assert foreign.aer_reg("00:01.0", AER.ROOT_COMMAND) == 0
    assert foreign.core.read(foreign.dev("00:01.0"), TYPE1.BRIDGE_CONTROL, 2) & BRIDGE_CTL_SERR


def test_3_1_nothing_is_handled(foreign: Rig) -> None:
    foreign.inject("01:00.0", cor=1, uncor=0x8000)
    assert foreign.log(7) == []
    assert foreign.uncor_status("01:00.0") == 0x8000


def test_4_2_step_8_clears_nothing_that_the_firmware_owns(foreign: Rig) -> None:
    bind_lab(foreign, "01:00.0", det_normal=ErsResult.RECOVERED)
    foreign.inject("01:00.0", uncor=0x8000)
    dev = foreign.dev("01:00.0")
    assert foreign.call(foreign.aer.do_recovery(dev, ChannelState.NORMAL)) == ErsResult.RECOVERED
    assert foreign.uncor_status("01:00.0") == 0x8000
    assert foreign.core.read(dev, dev.exp + EXP.DEVSTA, 2) & 0xF


def test_4_8_a_reset_leaves_the_root_of_the_firmware_alone(foreign: Rig) -> None:
    root = foreign.dev("00:01.0")
    foreign.core.write(root, root.aer + AER.ROOT_COMMAND, 4, 5)
    bind_lab(foreign, "01:00.0", det_frozen=ErsResult.NEED_RESET, slot=ErsResult.RECOVERED)
    foreign.call(foreign.aer.do_recovery(foreign.dev("01:00.0"), ChannelState.FROZEN))
    assert foreign.aer_reg("00:01.0", AER.ROOT_COMMAND) == 5


def test_4_8_a_restore_clears_no_status_of_the_firmware(foreign: Rig) -> None:
    foreign.inject("01:00.0", cor=1)
    restore_state(foreign.core, foreign.dev("01:00.0"))
    assert foreign.aer_reg("01:00.0", AER.COR_STATUS) == 1


def test_3_1_ports_native_takes_what_osc_did_not_grant() -> None:
    rig = Rig(boot=BootSpec(osc_aer=False, pcie_ports="native"))
    rig.inject("01:00.0", cor=1)
    assert rig.aer_reg("01:00.0", AER.COR_STATUS) == 0
    assert devctl(rig, "01:00.0") == 0xF


def test_1_7_ports_native_without_aer_clears_status_at_enumeration_only() -> None:
    rig = Rig(boot=BootSpec(aer=False, pcie_ports="native"))
    assert devctl(rig, "01:00.0") == 0
    assert rig.aer.roots == {}


def test_4_1_without_msi_a_root_port_keeps_its_intx() -> None:
    command = {boot.msi: Rig(boot=boot).core for boot in (BootSpec(), BootSpec(msi=False))}
    for msi, core in command.items():
        root = next(iter(core.devices.values()))
        assert bool(core.read(root, HEADER.COMMAND, 2) & COMMAND_INTX_DISABLE) is msi


def test_3_1_osc_lines_of_the_reference_machine() -> None:
    assert osc_lines(BootSpec()) == [
        "acpi PNP0A08:00: _OSC: OS supports [ExtendedConfig ASPM ClockPM Segments MSI HPX-Type3]",
        "acpi PNP0A08:00: _OSC: platform does not support [PCIeHotplug LTR]",
        "acpi PNP0A08:00: _OSC: OS now controls [SHPCHotplug PME AER PCIeCapability]",
    ]
    assert osc_lines(BootSpec(hotplug="native"))[1:] == [
        "acpi PNP0A08:00: _OSC: platform does not support [LTR]",
        "acpi PNP0A08:00: _OSC: OS now controls [PCIeHotplug SHPCHotplug PME AER PCIeCapability]",
    ]


@pytest.mark.parametrize(
    ("boot", "last"),
    [
        ({"osc_aer": False}, "_OSC: OS now controls [SHPCHotplug PME PCIeCapability]"),
        ({"aer": False}, "_OSC: OS now controls [SHPCHotplug PME PCIeCapability]"),
        ({"edr": True, "osc_dpc": True}, "_OSC: OS now controls [SHPCHotplug PME AER PCIeCapability DPC]"),
        ({"msi": False}, "_OSC: not requesting OS control; OS requires [ExtendedConfig ASPM ClockPM MSI]"),
        ({"pcie_ports": "compat"}, "PCIe port services disabled; not requesting _OSC control"),
    ],
)
def test_3_1_osc_lines_of_other_machines(boot: dict[str, Any], last: str) -> None:
    assert osc_lines(BootSpec(**boot))[-1] == f"acpi PNP0A08:00: {last}"
