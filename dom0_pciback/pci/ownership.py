"""Who owns error handling, firmware or kernel: predicates over how the machine was booted (linux-aer.md 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.topology import COLLECTORS, BootSpec

if TYPE_CHECKING:
    from dom0_pciback.pci.core import PciCore
    from dom0_pciback.pci.device import PciDev


def pci_aer_available(boot: BootSpec) -> bool:
    """Neither ``pci=noaer`` nor ``pci=nomsi``."""
    return boot.aer and boot.msi


def pcie_ports_disabled(boot: BootSpec) -> bool:
    """``pcie_ports=compat``: no port driver at all."""
    return boot.pcie_ports == "compat"


def requests_control(boot: BootSpec) -> bool:
    """Does the kernel ask ``_OSC`` for anything? It needs its port driver and MSI for that."""
    return boot.msi and not pcie_ports_disabled(boot)


def host_native_aer(boot: BootSpec) -> bool:
    """``host->native_aer``: ``_OSC`` granted AER. What is not asked for is not granted, nor what firmware keeps."""
    asked = requests_control(boot) and pci_aer_available(boot)
    return asked and boot.osc_aer and not boot.firmware_first


def owns_aer(boot: BootSpec) -> bool:
    """``host->native_aer || pcie_ports_native``; ``pcie_ports=native`` takes what firmware did not grant."""
    return boot.pcie_ports == "native" or host_native_aer(boot)


def pcie_aer_is_native(core: PciCore, dev: PciDev) -> bool:
    """The kernel owns the AER registers of ``dev``, which has some."""
    return dev.aer != 0 and core.owns_aer


def has_aer_service(core: PciCore, dev: PciDev) -> bool:
    """Is there an AER service for ``dev`` (``get_port_device_capability``)? Switch ports never get one."""
    boot = core.boot
    wanted = dev.kind in COLLECTORS and pci_aer_available(boot) and not pcie_ports_disabled(boot)
    return wanted and pcie_aer_is_native(core, dev)
