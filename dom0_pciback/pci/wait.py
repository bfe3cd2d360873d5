"""Waiting for a device after a reset: ``pci_dev_wait`` and its relatives (linux-aer.md 11). Times are ms."""

from __future__ import annotations

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.regs import (
    ALL_ONES,
    ENOTTY,
    EXP_LNKCAP_SPEED,
    EXP_LNKCAP_SPEED_5_0GT,
    PCI_VENDOR_ID_RRS,
)
from kernel_stub.kernel import DEBUG, ERR, INFO, MS
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP, EXP_DEVSTA_TRPND, EXP_LNKCAP_DLLLARC, EXP_LNKSTA_DLLLA

PCI_RESET_WAIT = 1000
PCIE_LINK_WAIT = 1000  # most that pcie_wait_for_link_status polls
LINK_SETTLE = 20  # before the first look at the link


async def pci_dev_wait(core: PciCore, dev: PciDev, reset_type: str, timeout: int) -> int:
    """Poll ``dev`` until it answers, sleeping 1, 2, 4, ... ms; 0 or -25 (not ready, or disconnected)."""
    delay = 1
    while not _ready(core, dev):
        if dev.disconnected:
            return -ENOTTY
        if delay > timeout:
            core.printk(ERR, dev, f"not ready {delay - 1}ms after {reset_type}; giving up")
            return -ENOTTY
        if delay > PCI_RESET_WAIT:
            core.printk(INFO, dev, f"not ready {delay - 1}ms after {reset_type}; waiting")
        await core.kernel.sleep(delay * MS)
        delay *= 2
    level = INFO if delay > PCI_RESET_WAIT else DEBUG
    core.printk(level, dev, f"ready {delay - 1}ms after {reset_type}")
    return 0


def _ready(core: PciCore, dev: PciDev) -> bool:
    """Vendor ID other than the RRS value if the root port shows that, else Command not all ones."""
    if dev.root.rrs_visible:
        return core.read(dev, HEADER.VENDOR_ID, 2) not in (PCI_VENDOR_ID_RRS, ALL_ONES[2])
    return core.read(dev, HEADER.COMMAND, 2) != ALL_ONES[2]


async def pci_wait_for_pending_transaction(core: PciCore, dev: PciDev) -> bool:
    """Look at 0, 100, 300 and 700 ms whether transactions are pending; False if they still are."""
    for delay in (0, 100, 200, 400):
        if delay:
            await core.kernel.sleep(delay * MS)
        if not core.read(dev, dev.exp + EXP.DEVSTA, 2) & EXP_DEVSTA_TRPND:
            return True
    return False


async def pci_bridge_wait_for_secondary_bus(core: PciCore, bridge: PciDev, reset_type: str) -> int:
    """Wait until what is below a port may be accessed after its reset; 0 or -25.

    No wait and no check if there is nothing below, the port faces upwards, or no function on the bus has a
    PM capability (T49). The first function of the bus is the one that is polled.
    """
    delay = pci_bus_max_d3cold_delay(core, bridge)
    if bridge.disconnected or not bridge.subordinate or bridge.kind == "upstream_port" or not delay:
        return 0
    child = bridge.subordinate[0]
    if 1 <= core.read(bridge, bridge.exp + EXP.LNKCAP, 4) & EXP_LNKCAP_SPEED <= EXP_LNKCAP_SPEED_5_0GT:
        return await _wait_slow_port(core, bridge, child, reset_type, delay)
    core.printk(DEBUG, bridge, f"waiting {delay} ms for downstream link, after activation")
    if not await pcie_wait_for_link_delay(core, bridge, delay):
        core.printk(INFO, bridge, f"Data Link Layer Link Active not set in {delay} msec")
        return -ENOTTY
    return await pci_dev_wait(core, child, reset_type, core.timing.reset_ready_ms - delay)


def pci_bus_max_d3cold_delay(core: PciCore, bridge: PciDev) -> int:
    """Delay before the first access below ``bridge`` in ms: the settle time for functions with PM, else 0."""
    settle = core.timing.reset_settle_ms
    return settle if any(dev.pm for dev in bridge.subordinate) else 0


async def _wait_slow_port(core: PciCore, bridge: PciDev, child: PciDev, reset_type: str, delay: int) -> int:
    """A port of at most 5 GT/s: up to one second, then on only if the link is known to be active."""
    core.printk(DEBUG, bridge, f"waiting {delay} ms for downstream link")
    await core.kernel.sleep(delay * MS)
    first = min(PCI_RESET_WAIT, core.timing.reset_ready_ms)
    rest = core.timing.reset_ready_ms - first
    if not await pci_dev_wait(core, child, reset_type, first - delay):
        return 0
    if not rest or not _reports_link(core, bridge) or not _link_active(core, bridge):
        return -ENOTTY
    return await pci_dev_wait(core, child, reset_type, rest)


async def pcie_wait_for_link_delay(core: PciCore, bridge: PciDev, delay: int) -> bool:
    """Wait until the link below ``bridge`` is active, then ``delay`` ms more; False if it stays down."""
    sleep = core.kernel.sleep
    if not _reports_link(core, bridge):
        await sleep((PCIE_LINK_WAIT + delay) * MS)
        return True
    await sleep(LINK_SETTLE * MS)
    for _ in range(PCIE_LINK_WAIT):
        if _link_active(core, bridge):
            await sleep(delay * MS)
            return True
        await sleep(MS)
    return False


def _reports_link(core: PciCore, bridge: PciDev) -> bool:
    return bool(core.read(bridge, bridge.exp + EXP.LNKCAP, 4) & EXP_LNKCAP_DLLLARC)


def _link_active(core: PciCore, bridge: PciDev) -> bool:
    return bool(core.read(bridge, bridge.exp + EXP.LNKSTA, 2) & EXP_LNKSTA_DLLLA)
