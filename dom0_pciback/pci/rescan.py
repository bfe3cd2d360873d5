"""Finding functions again: ``pci_rescan_bus``, what a write to sysfs ``rescan`` does."""

from __future__ import annotations

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.enumerate import prepare_device, walk_order
from dom0_pciback.pci.hardware import FunctionLike
from dom0_pciback.pci.regs import ALL_ONES
from protocol.layout_header import HEADER


async def pci_rescan_bus(core: PciCore) -> list[PciDev]:
    """Add every function that answers and is not known, bridges first; each gets the driver meant for it."""
    async with core.rescan_remove_lock:
        await core.bus_sem.down_write()
        found = [dev for function in list(core.hierarchy.functions.values()) for dev in _add(core, function)]
        if found:
            walk_order(core)
    for dev in found:
        core.uevent(dev, "add")
        driver = core.drivers.get(core.wanted.get(dev.sbdf, ""))
        if driver is not None:
            await core.bind(dev, driver)
    return found


def _add(core: PciCore, function: FunctionLike) -> list[PciDev]:
    """``pci_scan_single_device``: nothing if it is known, does not answer, or its bridge is not known."""
    above = function.parent
    bridge = core.devices.get(above.sbdf) if above is not None else None
    lost = function.sbdf not in core.devices and (above is None or bridge is not None)
    if not lost or core.hierarchy.read(function.sbdf, HEADER.VENDOR_ID, 4) == ALL_ONES[4]:
        return []
    dev = core.devices[function.sbdf] = PciDev(core.kernel, function, bridge)
    if bridge is not None:
        bridge.subordinate.append(dev)
        bridge.subordinate.sort(key=lambda each: each.sbdf)
    prepare_device(core, dev)
    return [dev]
