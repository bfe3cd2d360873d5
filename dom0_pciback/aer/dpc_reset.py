"""Releasing a contained port: ``dpc_reset_link`` and surprise removal (linux-aer.md 10.3, times in 11)."""

from __future__ import annotations

from dom0_pciback.aer.raw_status import pci_aer_raw_clear_status
from dom0_pciback.aer.root_reset import aer_root_reset
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.wait import pci_bridge_wait_for_secondary_bus
from kernel_stub.kernel import INFO, MS, WARNING
from protocol.ers import ErsResult
from protocol.layout_dpc import DPC, DPC_STATUS_RP_BUSY, DPC_STATUS_TRIGGER
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP, EXP_DEVSTA_FED, EXP_LNKCAP_DLLLARC, EXP_LNKSTA_DLLLA

LINK_DOWN_WAIT = 1000  # ms
LINK_SETTLE = 100  # what pcie_wait_for_link adds if it cannot see the link
RP_BUSY_WAIT, RP_BUSY_STEP = 1000, 10
EBUSY = 16


async def dpc_reset_link(core: PciCore, port: PciDev) -> int:
    """Release the port and wait for what is below it; RECOVERED or DISCONNECT.

    The hardware has reset the link already, when it took it down. No device lock is taken, Root Error
    Command stays. A link that does not go down is told of, and otherwise ignored.
    """
    await _wait_for_link_down(core, port)
    if await _wait_rp_inactive(core, port):
        _release(core, port)
        rc = await pci_bridge_wait_for_secondary_bus(core, port, "DPC")
    else:
        rc = -EBUSY
    core.kernel.trace("pci.reset", port.name, "dpc", rc)
    return ErsResult.DISCONNECT if rc else ErsResult.RECOVERED


async def contained_reset(core: PciCore, port: PciDev) -> int:
    """The reset of a recovery that may need more than one: ``dpc_reset_link`` while contained, else of the bus."""
    contained = core.read(port, port.dpc + DPC.STATUS, 2) & DPC_STATUS_TRIGGER
    return await (dpc_reset_link if contained else aer_root_reset)(core, port)


async def dpc_handle_surprise_removal(core: PciCore, port: PciDev) -> None:
    """Errors are what a removal looks like: they are cleared and the port is released, nobody recovers."""
    if not await _wait_for_link_down(core, port) or not await _wait_rp_inactive(core, port):
        return
    pci_aer_raw_clear_status(core, port)
    if port.dpc_rp_extensions:
        core.write(port, port.dpc + DPC.RP_PIO_STATUS, 4, 0xFFFFFFFF)
    core.write(port, HEADER.STATUS, 2, 0xFFFF)
    core.write(port, port.exp + EXP.DEVSTA, 2, EXP_DEVSTA_FED)
    _release(core, port)


def _release(core: PciCore, port: PciDev) -> None:
    core.write(port, port.dpc + DPC.STATUS, 2, DPC_STATUS_TRIGGER)


async def _wait_for_link_down(core: PciCore, port: PciDev) -> bool:
    """``pcie_wait_for_link(port, false)``: poll each millisecond; blind without link-active reporting."""
    if not core.read(port, port.exp + EXP.LNKCAP, 4) & EXP_LNKCAP_DLLLARC:
        await core.kernel.sleep((LINK_DOWN_WAIT + LINK_SETTLE) * MS)
        return True
    for _ in range(LINK_DOWN_WAIT):
        if not core.read(port, port.exp + EXP.LNKSTA, 2) & EXP_LNKSTA_DLLLA:
            return True
        await core.kernel.sleep(MS)
    core.printk(INFO, port, f"DPC: Data Link Layer Link Active not cleared in {LINK_DOWN_WAIT} msec")
    return False


async def _wait_rp_inactive(core: PciCore, port: PciDev) -> bool:
    """``dpc_wait_rp_inactive``: a root port with extensions may not be released while it is busy."""
    if not port.dpc_rp_extensions:
        return True
    deadline = core.kernel.now() + RP_BUSY_WAIT * MS
    while core.read(port, port.dpc + DPC.STATUS, 2) & DPC_STATUS_RP_BUSY:
        if core.kernel.now() > deadline:
            core.printk(WARNING, port, "DPC: root port still busy")
            return False
        await core.kernel.sleep(RP_BUSY_STEP * MS)
    return True
