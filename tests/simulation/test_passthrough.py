"""``passthrough: true``: guests see their devices at the machine's own addresses (xen-pci.md 4.3), from end to end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.kit import COMP_ABORT, MALF_TLP, Rig, endpoint, guest, host, root_port

A, A1, B, C = "01:00.0", "01:00.1", "02:03.5", "03:00.0"
BOTH = pytest.mark.parametrize("profile", ["linux", "hardened"])
NIC: dict[str, Any] = {"model": "nic", "vendor": 0x1AF4, "device": 0x1041}


def system(*devices: str, profile: str = "hardened", driver: str = "xnic") -> Rig:
    """Three root ports; functions on the first two buses go to one guest, what is below the third stays free."""
    functions = [root_port(f"00:0{n}.0", n) for n in (1, 2, 3)]
    functions += [endpoint("02:00.0", "00:02.0")]
    functions += [endpoint(bdf, f"00:0{int(bdf[:2])}.0", **NIC) for bdf in (A, A1, B, C)]
    return Rig(
        host(functions, [guest("g1", *(devices or (A, A1, B)), driver=driver)], passthrough=True, profile=profile)
    )


def guest_devices(rig: Rig) -> list[str]:
    return sorted(rig.system.ctl("g1", "status", []))


@BOTH
def test_the_guest_finds_each_device_at_its_machine_address(profile: str) -> None:
    rig = system(profile=profile)
    assert guest_devices(rig) == ["0000:01:00.0", "0000:01:00.1", "0000:02:03.5"]
    listing = rig.system.ctl("hypervisor", "xenstore-ls", ["/local/domain/0/backend/pci"])
    for node in ('root_num = "2"', 'root-0 = "0000:01"', 'root-1 = "0000:02"', 'vdev-2 = "0000:02:03.05"'):
        assert node in listing
    log = rig.log("g1")
    buses = [line for line in log if line.startswith("pcifront pci-0: Creating PCI Frontend Bus ")]
    assert [line[-7:] for line in buses] == ["0000:01", "0000:02"]
    assert "pcifront pci-0: New device on 0000:02:03.5 found." in log
    assert "xen_pciback: backend is passthrough" in rig.log()


@BOTH
def test_registers_interrupts_and_memory_work_there(profile: str) -> None:
    rig = system(profile=profile)
    assert rig.workload("g1") == {"0000:01:00.0": 4, "0000:01:00.1": 4, "0000:02:03.5": 4}


@BOTH
@pytest.mark.parametrize(("error", "reset"), [(COMP_ABORT, []), (MALF_TLP, ["bus"])])
def test_a_recovery_asks_by_the_machine_address(profile: str, error: int, reset: list[str]) -> None:
    rig = system(profile=profile, driver="scripted").inject(B, error).settle()
    assert rig.verdict_lines()[-1].startswith("successful")
    assert rig.resets() == reset
    asked = [line.rpartition("xen_pciback: ")[2] for line in rig.log() if " aer_op " in line]
    assert asked
    assert {line[9:] for line in asked} == {"dom 0 bus 2 devfn 1d"}
    served = [line for line in rig.log("g1") if "service aer" in line]
    assert set(served) == {"pcifront pci-0: pcifront service aer bus 2 devfn 1d"}
    assert {str(e["subject"]) for e in rig.records("driver.callback", "g1")} == {"0000:02:03.5"}


def test_a_driver_that_cannot_recover_costs_its_guest_the_life() -> None:
    rig = system(driver="silent").inject(A1, COMP_ABORT).settle()
    assert rig.aerfail
    assert not rig.alive("g1")
    assert all(rig.clean(bdf) for bdf in (A, A1, B))
    rig.check()


@BOTH
def test_devices_come_and_go_and_roots_stay(profile: str) -> None:
    rig = system(A, profile=profile)
    assert rig.xl("pci-attach", "g1", C)[0] == 0
    rig.settle(500)
    assert guest_devices(rig) == ["0000:01:00.0", "0000:03:00.0"]
    assert rig.workload("g1", 2)["0000:03:00.0"] == 2
    assert rig.xl("pci-detach", "g1", A)[0] == 0
    rig.settle(500)
    assert guest_devices(rig) == ["0000:03:00.0"]
    listing = rig.system.ctl("hypervisor", "xenstore-ls", ["/local/domain/0/backend/pci"])
    assert 'root_num = "2"' in listing, "BUS-15: a root without a device is not taken back"
    rig.check()
