"""Error Disconnect Recover: the firmware owns DPC and tells the kernel of containment by ACPI (linux-aer.md 10.4).

Needs ``CONFIG_PCIE_EDR``. The firmware here enables DPC on the ports whose containment the kernel does not serve
itself, and notifies the ACPI node of the port that is contained.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from dom0_pciback.aer.dpc import RecoverPort, dpc_enable, share_interrupt
from dom0_pciback.aer.dpc_error import dpc_process_error
from dom0_pciback.aer.raw_status import pci_aer_raw_clear_status
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import ERR, INFO
from protocol.ers import ErsResult
from protocol.ids import Sbdf
from protocol.layout_dpc import DPC, DPC_STATUS_INTERRUPT, DPC_STATUS_TRIGGER
from protocol.topology import HostSpec

ACPI_NOTIFY_DISCONNECT_RECOVER = 0x0F
EDR_OST_SUCCESS, EDR_OST_FAILED = 0x80, 0x81
LOCATE_FAILED = 1 << 31

Locate = Callable[[PciDev], int | None]  # _DSM function 0x0d of a port's node; None: it has no such function


def no_dsm(dev: PciDev) -> int | None:
    """A node without the function: the notified port is the contained one."""
    return None


class Edr:
    """Firmware and notify handlers of a host; ``served`` are the ports whose DPC service the kernel has."""

    def __init__(
        self, core: PciCore, host: HostSpec, served: Container[Sbdf], recover: RecoverPort, locate: Locate = no_dsm
    ) -> None:
        self.core = core
        self.recover = recover
        self.locate = locate
        firmware_owns = host.boot.edr and not host.boot.osc_dpc
        ports = (dev for dev in core.devices.values() if dev.dpc and dev.sbdf not in served)
        self.ports: dict[Sbdf, PciDev] = {dev.sbdf: dev for dev in ports} if firmware_owns else {}
        for dev in self.ports.values():
            dpc_enable(core, dev)
        if self.ports:
            share_interrupt(core.hierarchy, self.interrupt)

    def interrupt(self, function: Any) -> None:
        """The firmware's handler: it clears the interrupt and notifies the port's node."""
        dev = self.ports.get(function.sbdf)
        if dev is None or not self.core.read(dev, dev.dpc + DPC.STATUS, 2) & DPC_STATUS_INTERRUPT:
            return
        self.core.write(dev, dev.dpc + DPC.STATUS, 2, DPC_STATUS_INTERRUPT)
        self.notify(dev)

    def notify(self, dev: PciDev) -> None:
        """``Notify(node, 0x0f)``: the kernel handles it in a work item."""
        self.core.kernel.spawn(edr_handle_event(self.core, dev, self.recover, self.locate), f"kacpi_notify {dev.name}")


async def edr_handle_event(core: PciCore, dev: PciDev, recover: RecoverPort, locate: Locate = no_dsm) -> None:
    """The notify handler of port ``dev``: find the contained port, recover below it, tell the firmware the end.

    The channel is frozen whatever the trigger was, since the link is down. AER status is cleared whoever owns it.
    """
    core.printk(INFO, dev, "EDR: EDR event received")
    port = _locate_port(core, dev, locate)
    if port is None:
        # Texts of an absent port or capability: UNVERIFIED, linux-aer.md does not have them.
        core.printk(ERR, dev, "EDR: Firmware failed to locate DPC port")
        return
    result: int = ErsResult.DISCONNECT
    if not port.dpc:
        core.printk(ERR, port, "EDR: [Firmware Bug]: This device doesn't support DPC")
    elif _is_triggered(core, port):
        dpc_process_error(core, port)
        pci_aer_raw_clear_status(core, port)
        result = await recover(port)
    _send_ost(core, dev, port, result)


def _locate_port(core: PciCore, dev: PciDev, locate: Locate) -> PciDev | None:
    found = locate(dev)
    if found is None:
        return dev
    if found & LOCATE_FAILED:
        core.printk(ERR, dev, "EDR: Locate Port _DSM failed")
        return None
    return core.devices.get(Sbdf.from_rid(found & 0xFFFF, dev.sbdf.segment))


def _is_triggered(core: PciCore, port: PciDev) -> bool:
    status = core.read(port, port.dpc + DPC.STATUS, 2)
    if not status & DPC_STATUS_TRIGGER:
        core.printk(ERR, port, f"EDR: Invalid DPC trigger {status:#010x}")
    return bool(status & DPC_STATUS_TRIGGER)


def _send_ost(core: PciCore, dev: PciDev, port: PciDev, result: int) -> None:
    """``_OST(0xf, BDF << 16 | outcome)``; the return value of the recovery decides, not its verdict (T14)."""
    outcome = EDR_OST_SUCCESS if result == ErsResult.RECOVERED else EDR_OST_FAILED
    core.kernel.trace("edr.ost", dev.name, ACPI_NOTIFY_DISCONNECT_RECOVER, port.rid << 16 | outcome)
