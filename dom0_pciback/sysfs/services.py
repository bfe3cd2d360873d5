"""Service devices: the children that the port driver makes on bus ``pci_express`` (linux-aer.md 2.5).

Which services a port has follows ``get_port_device_capability`` of Linux 7.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dom0_pciback.pci.ownership import pci_aer_available, requests_control
from dom0_pciback.pci.portdrv import PORT_DRIVER
from dom0_pciback.pci.regs import EXP_SLTCAP_HPC
from dom0_pciback.sysfs.show import supported_speeds
from dom0_pciback.sysfs.subject import Subject
from protocol.layout_pcie import EXP_TYPE, ROOTS, SLOT_PORTS

LNKCAP_BANDWIDTH_NOTIFICATION = 0x200000


class Service(NamedTuple):
    """A bit of the service number, the driver that serves it, and when a port has it."""

    number: int
    driver: str
    present: Callable[[Subject], bool]


def _native(subject: Subject) -> bool:
    return subject.core.boot.pcie_ports == "native"


def _pme(subject: Subject) -> bool:
    """``_OSC`` always grants PME to a kernel that asks."""
    return subject.dev.kind in ROOTS and (_native(subject) or requests_control(subject.core.boot))


def _aer(subject: Subject) -> bool:
    return subject.dev.sbdf in subject.aer.roots


def _hotplug(subject: Subject) -> bool:
    return bool(subject.identity.sltcap & EXP_SLTCAP_HPC) and (
        _native(subject) or subject.core.boot.hotplug == "native"
    )


def _dpc(subject: Subject) -> bool:
    boot = subject.core.boot
    wanted = bool(subject.dev.dpc) and pci_aer_available(boot)
    return wanted and (boot.pcie_ports == "dpc-native" or _aer(subject))


def _bandwidth(subject: Subject) -> bool:
    notifies = subject.identity.lnkcap & LNKCAP_BANDWIDTH_NOTIFICATION
    return subject.dev.kind in SLOT_PORTS and bool(notifies) and len(supported_speeds(subject)) > 1


SERVICES = (
    Service(0x01, "pcie_pme", _pme),
    Service(0x02, "aer", _aer),
    Service(0x04, "pciehp", _hotplug),
    Service(0x08, "dpc", _dpc),
    Service(0x10, "pcie_bwctrl", _bandwidth),
)


def services_of(subject: Subject) -> dict[str, str]:
    """Name of each service device of a port, and its driver; none unless the port driver is bound."""
    dev = subject.dev
    if dev.driver is None or dev.driver.name != PORT_DRIVER:
        return {}
    kind = EXP_TYPE[dev.kind] - EXP_TYPE["root_port"] << 8
    return {
        f"{dev.name}:pcie{kind | service.number:03x}": service.driver
        for service in SERVICES
        if service.present(subject)
    }
