"""Drivers of the real kernel as a recovery meets them: e1000e, igb, nvme, virtio-pci, shpchp (linux-aer.md 12).

What they do to their hardware is left out; what they answer, log, enable and restore is theirs (errata 2.3).
"""

from __future__ import annotations

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import ErrorHandlers, PciDriver
from dom0_pciback.pci.enable import pci_disable_device, pci_enable_device_mem, pci_set_master
from dom0_pciback.pci.state import restore_state, save_state
from kernel_stub.kernel import INFO, WARNING
from protocol.ers import ChannelState, ErsResult
from protocol.layout_header import COMMAND_INTX_DISABLE, HEADER


class Driver:
    """What all of them do when they bind: enable, bus master, message signalled interrupts, save the state."""

    def __init__(self, core: PciCore) -> None:
        self.core = core

    async def probe(self, dev: PciDev) -> int:
        """Bind; 0."""
        pci_enable_device_mem(self.core, dev)
        pci_set_master(self.core, dev)
        self.core.update(dev, HEADER.COMMAND, 2, 0, COMMAND_INTX_DISABLE * self.core.boot.msi)
        save_state(self.core, dev)
        return 0

    async def remove(self, dev: PciDev) -> None:
        """Unbind."""
        pci_disable_device(self.core, dev)


class E1000e(Driver):
    """Every error asks for a reset; the device is disabled until ``slot_reset`` enables it again."""

    async def error_detected(self, dev: PciDev, state: ChannelState) -> int:
        """NEED_RESET, or DISCONNECT when all is lost."""
        if state is ChannelState.PERM_FAILURE:
            return ErsResult.DISCONNECT
        pci_disable_device(self.core, dev)
        return ErsResult.NEED_RESET

    async def slot_reset(self, dev: PciDev) -> int:
        """Enable, restore, bus master; RECOVERED."""
        pci_enable_device_mem(self.core, dev)
        restore_state(self.core, dev)
        pci_set_master(self.core, dev)
        return ErsResult.RECOVERED

    async def resume(self, dev: PciDev) -> None:
        """The interface goes up again."""


class Igb(E1000e):
    """A non-fatal error is only remarked."""

    async def error_detected(self, dev: PciDev, state: ChannelState) -> int:
        """CAN_RECOVER, NEED_RESET, DISCONNECT for the three channel states."""
        if state is ChannelState.NORMAL:
            self.core.printk(WARNING, dev, "Non-correctable non-fatal error reported.")
            return ErsResult.CAN_RECOVER
        return await super().error_detected(dev, state)


class Nvme(Driver):
    """The controller is reset by a work item that ``resume`` waits for (T46)."""

    def __init__(self, core: PciCore) -> None:
        super().__init__(core)
        self._numbers: dict[PciDev, int] = {}
        self._resetting: set[PciDev] = set()

    def _say(self, level: int, dev: PciDev, text: str) -> None:
        self.core.kernel.printk(level, f"nvme {self._controller(dev)}: {text}")

    def _controller(self, dev: PciDev) -> str:
        return f"nvme{self._numbers.setdefault(dev, len(self._numbers))}"

    async def error_detected(self, dev: PciDev, state: ChannelState) -> int:
        """CAN_RECOVER, NEED_RESET, DISCONNECT for the three channel states."""
        if state is ChannelState.NORMAL:
            return ErsResult.CAN_RECOVER
        if state is ChannelState.PERM_FAILURE:
            self._say(WARNING, dev, "failure state error detected, request disconnect")
            return ErsResult.DISCONNECT
        self._say(WARNING, dev, "frozen state error detected, reset controller")
        return ErsResult.NEED_RESET

    async def slot_reset(self, dev: PciDev) -> int:
        """Restore the state, have the controller reset; RECOVERED before that is done."""
        self._say(INFO, dev, "restart after slot reset")
        restore_state(self.core, dev)
        self._resetting.add(dev)
        return ErsResult.RECOVERED

    async def resume(self, dev: PciDev) -> None:
        """Wait for the controller's reset, if there was one."""
        if dev in self._resetting:
            self._resetting.discard(dev)
            pci_set_master(self.core, dev)
            self._say(INFO, dev, "1/0/0 default/read/poll queues")
            path = f"{dev.devpath}/nvme/{self._controller(dev)}"
            self.core.kernel.trace("uevent.nvme", dev.name, "change", path)


def real_drivers(core: PciCore) -> list[PciDriver]:
    """All drivers of this file. virtio-pci has an ``err_handler`` without ``error_detected`` (T10)."""
    e1000e, igb, nvme, virtio = E1000e(core), Igb(core), Nvme(core), Driver(core)
    return [
        PciDriver("e1000e", _handlers(e1000e), e1000e.probe, e1000e.remove),
        PciDriver("igb", _handlers(igb), igb.probe, igb.remove),
        PciDriver("nvme", _handlers(nvme), nvme.probe, nvme.remove),
        PciDriver("virtio-pci", ErrorHandlers(), virtio.probe, virtio.remove),
        PciDriver("shpchp", None, virtio.probe, virtio.remove),
    ]


def _handlers(driver: E1000e | Nvme) -> ErrorHandlers:
    return ErrorHandlers(error_detected=driver.error_detected, slot_reset=driver.slot_reset, resume=driver.resume)
