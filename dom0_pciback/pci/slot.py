"""Hotplug slots: of the firmware (``acpiphp``) and of ``pciehp`` (linux-aer.md 4.8, 4.10; errata 2.1, 7.3)."""

from __future__ import annotations

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.regs import ENOTTY
from dom0_pciback.pci.remove import pci_stop_and_remove_bus_device
from dom0_pciback.pci.reset import pci_bridge_secondary_bus_reset
from kernel_stub.kernel import INFO, MS
from kernel_stub.sync import Mutex
from protocol.layout_pcie import EXP, EXP_SLTCAP_NUMBER_SHIFT, EXP_SLTSTA_EVENTS, SLOT_PORTS

BUTTON_DELAY_MS = 5_000  # time to press the attention button again
POWERED_OFF = 0x07F1  # Slot Control: power off, both indicators off, all events enabled (errata 7.3)


class AcpiSlot:
    """A slot that the firmware serves: ``acpiphp`` has no slot reset."""

    __slots__ = ("core", "port")

    def __init__(self, core: PciCore, port: PciDev) -> None:
        self.core = core
        self.port = port

    async def reset(self, *, probe: bool) -> int:
        """``pci_slot_reset``: 0, or -25 as there is no such thing."""
        self.core.kernel.trace("pci.slot_reset", self.port.name, int(probe), -ENOTTY)
        return -ENOTTY

    def eject(self) -> None:
        """The firmware's notification: remove what is in the slot, in a task of its own."""
        self.core.kernel.spawn(self._disable(), "kworker/kacpi_hotplug")

    async def _disable(self) -> None:
        async with self.core.rescan_remove_lock:
            for dev in reversed(list(self.port.subordinate)):
                await pci_stop_and_remove_bus_device(self.core, dev)
                self.core.hierarchy.unplug(dev.sbdf)


class PciehpSlot(AcpiSlot):
    """A slot that ``pciehp`` serves: it resets the bus itself, and power is switched off after a while."""

    __slots__ = ("name", "reset_lock")

    def __init__(self, core: PciCore, port: PciDev, number: int) -> None:
        super().__init__(core, port)
        self.name = str(number)
        self.reset_lock = Mutex(core.kernel, f"reset_lock of slot {self.name}")

    async def reset(self, *, probe: bool) -> int:
        """``pciehp_reset_slot`` (4.10): a secondary bus reset during which link events do not count."""
        trace, name = self.core.kernel.trace, self.port.name
        rc = 0
        if not probe:
            async with self.reset_lock:
                rc = await pci_bridge_secondary_bus_reset(self.core, self.port)
            trace("pciehp.bus_reset", name, rc)
        trace("pciehp.reset_slot", name, int(probe), rc)
        trace("pci.slot_reset", name, int(probe), rc)
        return rc

    def eject(self) -> None:
        """The attention button was pressed: power goes off after five seconds."""
        text = f"pciehp: Slot({self.name}): Button press: will power off in 5 sec"
        self.core.printk(INFO, self.port, text)
        self.core.kernel.spawn(self._power_off(), "irq/pciehp")

    async def _power_off(self) -> None:
        core, port = self.core, self.port
        await core.kernel.sleep(BUTTON_DELAY_MS * MS)
        async with core.rescan_remove_lock:
            for dev in reversed(list(port.subordinate)):
                await pci_stop_and_remove_bus_device(core, dev)
        core.write(port, port.exp + EXP.SLTCTL, 2, POWERED_OFF)
        for function in list(core.hierarchy.functions[port.sbdf].children):
            core.hierarchy.unplug(function.sbdf)
        core.write(port, port.exp + EXP.SLTSTA, 2, EXP_SLTSTA_EVENTS)


Slot = AcpiSlot | PciehpSlot


def create_slots(core: PciCore) -> None:
    """Give ports their slots as the boot options say (2.5, 3.1).

    The firmware describes the slots behind which no bridge was found at boot, empty ones included.
    """
    for port in core.devices.values():
        if port.kind not in SLOT_PORTS:
            continue
        if core.boot.hotplug == "native":
            number = core.read(port, port.exp + EXP.SLTCAP, 4) >> EXP_SLTCAP_NUMBER_SHIFT
            port.slot = PciehpSlot(core, port, number)
        elif core.boot.hotplug == "acpi" and not (port.subordinate and port.subordinate[0].is_bridge):
            port.slot = AcpiSlot(core, port)
