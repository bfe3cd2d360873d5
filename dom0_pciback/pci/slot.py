"""Hotplug slots: of the firmware (``acpiphp``) and of ``pciehp`` (linux-aer.md 4.8, 4.10; errata 2.1, 7.3).

The order of a surprise removal, and of what follows a card that is put in, is that of Linux 7.2:
``drivers/pci/hotplug/pciehp_ctrl.c`` and ``pciehp_pci.c``, ``acpiphp_glue.c``.
"""

from __future__ import annotations

from dom0_pciback.pci.assign import assign_resources
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev, pci_dev_set_disconnected
from dom0_pciback.pci.regs import ALL_ONES, ENOTTY
from dom0_pciback.pci.remove import pci_stop_and_remove_bus_device
from dom0_pciback.pci.rescan import pci_rescan_bus
from dom0_pciback.pci.reset import pci_bridge_secondary_bus_reset
from kernel_stub.kernel import INFO, MS
from kernel_stub.sync import Mutex
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP, EXP_SLTCAP_NUMBER_SHIFT, EXP_SLTSTA_EVENTS, SLOT_PORTS

BUTTON_DELAY_MS = 5_000  # time to press the attention button again
CARD_MS = 1_000  # pci_bus_check_dev: how long a card that was put in may take to answer
CARD_POLL_MS = 20
POWERED_ON = 0x01F1  # Slot Control: power on, power indicator on, all events enabled
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

    def pulled(self) -> None:
        """The card was pulled out: the firmware tells, the functions below do not answer any more."""
        self.core.kernel.spawn(self._trim(), "kworker/kacpi_hotplug")

    def filled(self) -> None:
        """A card was put in: the firmware's notification, which looks for functions."""
        self.core.kernel.spawn(self._configure(), "kworker/kacpi_hotplug")

    async def _trim(self) -> None:
        """``trim_stale_devices``."""
        for dev in self.port.subordinate:
            pci_dev_set_disconnected(dev)
        await self._disable()

    async def _configure(self) -> None:
        """``pciehp_check_link_status`` and ``pciehp_configure_device``: wait until the card answers, then add it."""
        core = self.core
        await core.kernel.sleep(core.timing.reset_settle_ms * MS)
        deadline = core.kernel.now() + CARD_MS * MS
        card = core.hierarchy.functions[self.port.sbdf].children
        while card and core.hierarchy.read(card[0].sbdf, HEADER.VENDOR_ID, 4) == ALL_ONES[4]:
            if core.kernel.now() >= deadline:
                return
            await core.kernel.sleep(CARD_POLL_MS * MS)
        assign_resources(core, self.port)
        await pci_rescan_bus(core)

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
        self.core.kernel.spawn(self._power_off(BUTTON_DELAY_MS), "irq/pciehp")

    def pulled(self) -> None:
        """``pciehp_handle_presence_or_link_change``: link and presence are gone, so is what was there."""
        self._say("Link Down", "Card not present")
        for dev in self.port.subordinate:
            pci_dev_set_disconnected(dev)
        self.core.kernel.spawn(self._power_off(0), "irq/pciehp")

    def filled(self) -> None:
        """``pciehp_handle_presence_or_link_change``: a card, and a link."""
        self._say("Card present", "Link Up")
        self.core.write(self.port, self.port.exp + EXP.SLTCTL, 2, POWERED_ON)
        self.core.kernel.spawn(self._configure(), "irq/pciehp")

    def _say(self, *texts: str) -> None:
        for text in texts:
            self.core.printk(INFO, self.port, f"pciehp: Slot({self.name}): {text}")

    async def _power_off(self, delay_ms: int) -> None:
        core, port = self.core, self.port
        await core.kernel.sleep(delay_ms * MS)
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
