"""dom0_pciback.sysfs against the recorded machine: the same files, the same reset methods, the same services."""

from __future__ import annotations

from typing import Any

import pytest

from dom0_pciback.sysfs.sysfs import Sysfs
from dom0_pciback.sysfs.tree import Link
from protocol.topology import BootSpec
from tests.dom0_pciback.sysfs.recorded import machine, recorded_sysfs

ROOT_PORT = "0000:00:04.0"
BOOTS = {
    "main": BootSpec(),
    "pciehp": BootSpec(hotplug="native"),
    "noaer": BootSpec(aer=False),
    "nomsi": BootSpec(msi=False),
}


@pytest.fixture(scope="module")
def sysfs() -> Sysfs:
    return recorded_sysfs()


def rows() -> Any:
    return machine()["devices"].items()


def names(sysfs: Sysfs, bdf: str) -> set[str]:
    """Files and links of a function, from its directory on."""
    path = next(path for path in sysfs.section(bdf) if path.endswith("/vendor")).removesuffix("vendor")
    return {each.removeprefix(path) for each in sysfs.section(bdf)}


def test_every_function_has_the_aer_files_that_it_really_had(sysfs: Sysfs) -> None:
    for bdf, row in rows():
        assert sorted(name for name in names(sysfs, bdf) if name.startswith("aer")) == sorted(row["aer_files"]), bdf


def test_every_function_has_the_reset_methods_that_it_really_had(sysfs: Sysfs) -> None:
    for bdf, row in rows():
        there = {"reset", "reset_method"} & names(sysfs, bdf)
        assert there == ({"reset", "reset_method"} if row["reset_method"] else set()), bdf
        if there:
            assert sysfs.read(f"bus/pci/devices/{bdf}/reset_method").decode() == f"{row['reset_method']}\n", bdf


def test_configuration_space_is_256_bytes_without_pci_express(sysfs: Sysfs) -> None:
    for bdf, row in rows():
        data = sysfs.read(f"bus/pci/devices/{bdf}/config")
        express = "max_link_speed" in names(sysfs, bdf)
        assert len(data) == (4096 if express else 256), bdf
        assert data[:4].hex() == row["config"][:8]
    assert len(sysfs.read("bus/pci/devices/0000:0f:01.0/config")) == 256


def test_drivers_lead_to_their_devices_and_back(sysfs: Sysfs) -> None:
    nodes = sysfs.nodes()
    for bdf, row in rows():
        link = next((node for path, node in sysfs.section(bdf).items() if path.endswith(f"{bdf}/driver")), None)
        assert isinstance(link, Link) == bool(row["driver"])
        if isinstance(link, Link):
            assert link.target.endswith(f"../bus/pci/drivers/{row['driver']}")
            assert f"bus/pci/drivers/{row['driver']}/{bdf}" in nodes


@pytest.mark.parametrize("name", BOOTS)
def test_service_devices_are_those_of_the_machine(name: str) -> None:
    nodes = recorded_sysfs(BOOTS[name]).nodes()
    begin = "bus/pci_express/devices/"
    found = sorted(path.removeprefix(begin) for path in nodes if path.startswith(begin))
    assert found == machine()["service_devices"][name]


def test_a_service_device_belongs_to_its_driver(sysfs: Sysfs) -> None:
    nodes = sysfs.nodes()
    home = f"devices/pci0000:00/{ROOT_PORT}/{ROOT_PORT}:pcie002"
    assert nodes[f"{home}/driver"] == Link("../../../../bus/pci_express/drivers/aer")
    assert nodes[f"{home}/subsystem"] == Link("../../../../bus/pci_express")
    assert sysfs.read(f"{home}/uevent") == b"DRIVER=aer\n"
    assert nodes[f"bus/pci_express/drivers/aer/{ROOT_PORT}:pcie002"] == Link(f"../../../../{home}")


def test_windows_of_a_port_as_lspci_shows_them(sysfs: Sysfs) -> None:
    lines = sysfs.read(f"bus/pci/devices/{ROOT_PORT}/resource").decode().splitlines()
    assert len(lines) == 17
    assert lines[13:] == [
        "0x0000000000006000 0x0000000000006fff 0x0000000000000100",
        "0x00000000fce00000 0x00000000fcffffff 0x0000000000000200",
        "0x00000000fe800000 0x00000000fe9fffff 0x0000000000102201",
        "0x0000000000000000 0x0000000000000000 0x0000000000000000",
    ]


def test_uevent_of_a_recorded_function(sysfs: Sysfs) -> None:
    """Errata 2.1: PCI_CLASS of e1000e; 4.7: names and order."""
    assert sysfs.read("bus/pci/devices/0000:07:00.0/uevent").decode().splitlines() == [
        "DRIVER=e1000e",
        "PCI_CLASS=20000",
        "PCI_ID=8086:10D3",
        "PCI_SUBSYS_ID=8086:0000",
        "PCI_SLOT_NAME=0000:07:00.0",
        "MODALIAS=pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00",
    ]


def test_a_bridge_has_its_subsystem_in_a_capability(sysfs: Sysfs) -> None:
    assert sysfs.read(f"bus/pci/devices/{ROOT_PORT}/subsystem_vendor") == b"0x1b36\n"
    assert sysfs.read(f"bus/pci/devices/{ROOT_PORT}/subsystem_device") == b"0x0000\n"


def test_speeds_of_a_port_that_can_do_more_than_its_link(sysfs: Sysfs) -> None:
    at = f"bus/pci/devices/{ROOT_PORT}"
    assert sysfs.read(f"{at}/max_link_speed") == b"5.0 GT/s PCIe\n"
    assert sysfs.read(f"{at}/current_link_speed") == b"2.5 GT/s PCIe\n"
    assert sysfs.read(f"{at}/max_link_width") == sysfs.read(f"{at}/current_link_width") == b"1\n"
