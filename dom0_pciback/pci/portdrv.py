"""The port driver ``pcieport`` (linux-aer.md 4.5 at the end, 12; ``pcie_portdrv_err_handler``)."""

from __future__ import annotations

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import ErrorHandlers, PciDriver
from dom0_pciback.pci.enable import pci_enable_device_mem
from dom0_pciback.pci.rcec import pcie_link_rcec
from dom0_pciback.pci.state import restore_state, save_state
from protocol.ers import ChannelState, ErsResult
from protocol.layout_header import COMMAND_INTX_DISABLE, COMMAND_MASTER, HEADER
from protocol.layout_pcie import SLOT_PORTS
from protocol.topology import COLLECTORS

PORT_DRIVER = "pcieport"

# Who matches pcieport: PCI bridges and event collectors by class, with one of these types (2.5)
PORT_KINDS = frozenset({"root_port", "upstream_port", "downstream_port", "event_collector"})


class PortDriver:
    """The callbacks of ``pcieport``: no opinion of its own, but it brings a port's bus numbers back."""

    __slots__ = ("_core",)

    def __init__(self, core: PciCore) -> None:
        self._core = core

    async def probe(self, dev: PciDev) -> int:
        """A port with services becomes bus master and uses MSI; its state is saved then (errata 4.1, C2).

        A switch port without services is only enabled; bus mastering comes later, with a driver below.
        """
        core = self._core
        pci_enable_device_mem(core, dev)
        if dev.kind == "event_collector":
            pcie_link_rcec(core, dev)
        if dev.kind in COLLECTORS or (dev.kind in SLOT_PORTS and core.boot.hotplug == "native"):
            core.update(dev, HEADER.COMMAND, 2, 0, COMMAND_MASTER | COMMAND_INTX_DISABLE * core.boot.msi)
        save_state(core, dev)
        return 0

    async def error_detected(self, dev: PciDev, state: ChannelState) -> int:
        """NEED_RESET for a frozen channel, else CAN_RECOVER."""
        return ErsResult.NEED_RESET if state is ChannelState.FROZEN else ErsResult.CAN_RECOVER

    async def mmio_enabled(self, dev: PciDev) -> int:
        """RECOVERED."""
        return ErsResult.RECOVERED

    async def slot_reset(self, dev: PciDev) -> int:
        """Restore the port's configuration, bus numbers included, so that what is below is reachable again."""
        restore_state(self._core, dev)
        return ErsResult.RECOVERED


def port_driver(core: PciCore) -> PciDriver:
    """The ``pcieport`` driver of this kernel; it has no ``resume``."""
    port = PortDriver(core)
    handlers = ErrorHandlers(
        error_detected=port.error_detected, mmio_enabled=port.mmio_enabled, slot_reset=port.slot_reset
    )
    return PciDriver(PORT_DRIVER, handlers, probe=port.probe)
