"""Resets as the PCI core does them: by function (FLR, PM, bus) and of a secondary bus (linux-aer.md 4.8, 11)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import handlers_of
from dom0_pciback.pci.regs import ENOTTY
from dom0_pciback.pci.state import restore_state, save_state
from dom0_pciback.pci.wait import (
    pci_bridge_wait_for_secondary_bus,
    pci_dev_wait,
    pci_wait_for_pending_transaction,
)
from kernel_stub.kernel import DEBUG, ERR, MS
from protocol.layout_header import BRIDGE_CTL_BUS_RESET, COMMAND_INTX_DISABLE, HEADER, TYPE1
from protocol.layout_pcie import EXP, EXP_DEVCAP_FLR, EXP_DEVCTL_FLR
from protocol.layout_pm import PM, PM_CTRL_NO_SOFT_RESET, PM_CTRL_STATE_MASK

SECONDARY_RESET_MS = 2  # twice the minimum Trst
D3HOT_WAIT_MS = 10
D3HOT = 3


async def pcie_flr(core: PciCore, dev: PciDev) -> int:
    """Function Level Reset, whether or not the function says that it can; 0 or -25 (never ready again)."""
    if not await pci_wait_for_pending_transaction(core, dev):
        core.printk(ERR, dev, "timed out waiting for pending transaction; performing function level reset anyway")
    core.update(dev, dev.exp + EXP.DEVCTL, 2, 0, EXP_DEVCTL_FLR)
    if dev.imm_ready:
        return 0
    await core.kernel.sleep(core.timing.reset_settle_ms * MS)
    return await pci_dev_wait(core, dev, "FLR", core.timing.reset_ready_ms)


def _has_flr(core: PciCore, dev: PciDev) -> bool:
    """From what was read when the function was found, so that a dead one does not seem capable of anything."""
    return bool(dev.devcap & EXP_DEVCAP_FLR)


async def pcie_reset_flr(core: PciCore, dev: PciDev) -> int:
    """``pcie_flr`` if the function is capable of it, else -25."""
    rc = await pcie_flr(core, dev) if _has_flr(core, dev) else -ENOTTY
    core.kernel.trace("pci.reset", dev.name, "flr", rc)
    return rc


def _has_pm_reset(core: PciCore, dev: PciDev) -> bool:
    return bool(dev.pm and not core.read(dev, dev.pm + PM.CTRL, 2) & PM_CTRL_NO_SOFT_RESET)


async def pci_pm_reset(core: PciCore, dev: PciDev) -> int:
    """To D3hot and back to D0, which resets a function without No_Soft_Reset; 0 or -25."""
    control = core.read(dev, dev.pm + PM.CTRL, 2) & ~PM_CTRL_STATE_MASK
    for state in (D3HOT, 0):
        core.write(dev, dev.pm + PM.CTRL, 2, control | state)
        await core.kernel.sleep(D3HOT_WAIT_MS * MS)
    return await pci_dev_wait(core, dev, "PM D3hot->D0", core.timing.reset_ready_ms)


def _is_alone_on_bus(core: PciCore, dev: PciDev) -> bool:
    bridge = dev.bridge
    return bridge is not None and not dev.is_bridge and len(bridge.subordinate) == 1 and not dev.no_bus_reset


async def pci_parent_bus_reset(core: PciCore, dev: PciDev) -> int:
    """Secondary bus reset of the port above; only for a function that is alone on its bus."""
    assert dev.bridge is not None
    return await pci_bridge_secondary_bus_reset(core, dev.bridge)


async def pci_bridge_secondary_bus_reset(core: PciCore, bridge: PciDev) -> int:
    """Hold Bridge Control bit 6 for 2 ms, then wait for the bus below; 0 or -25. Takes no locks."""
    core.update(bridge, TYPE1.BRIDGE_CONTROL, 2, 0, BRIDGE_CTL_BUS_RESET)
    await core.kernel.sleep(SECONDARY_RESET_MS * MS)
    core.update(bridge, TYPE1.BRIDGE_CONTROL, 2, BRIDGE_CTL_BUS_RESET, 0)
    return await pci_bridge_wait_for_secondary_bus(core, bridge, "bus reset")


async def bus_error_reset(core: PciCore, bridge: PciDev) -> int:
    """``pci_bus_error_reset``: reset everything below ``bridge`` with it and all of them locked (4.8).

    Returns 0, or -25 if a device or the bridge must not be bus-reset or the bus does not come back.
    Configuration space is neither saved nor restored; no driver is told.
    """
    locked = (bridge, *bridge.below)
    if any(dev.no_bus_reset for dev in locked):
        core.kernel.trace("pci.reset", bridge.name, "bus", -ENOTTY)
        return -ENOTTY
    for dev in locked:
        await dev.device_lock.acquire()
    try:
        if bridge.slot is not None and not await bridge.slot.reset(probe=True):
            rc = await bridge.slot.reset(probe=False)
        else:
            rc = await pci_bridge_secondary_bus_reset(core, bridge)
    finally:
        for dev in reversed(locked):
            dev.device_lock.release()
    await bridge.device_lock.yield_to_waiter()
    core.kernel.trace("pci.reset", bridge.name, "bus", rc)
    return rc


class ResetMethod(NamedTuple):
    """A way to reset one function: its sysfs name, whether this function offers it, how it is done."""

    label: str
    offered: Callable[[PciCore, PciDev], bool]
    run: Callable[[PciCore, PciDev], Awaitable[int]]


# pci_reset_fn_methods in the kernel's order; the first that is offered and not refused wins. Device specific,
# ACPI, AF and CXL methods need capabilities that no function of this hardware has.
RESET_METHODS = (
    ResetMethod("flr", _has_flr, pcie_flr),
    ResetMethod("pm", _has_pm_reset, pci_pm_reset),
    ResetMethod("bus", _is_alone_on_bus, pci_parent_bus_reset),
)


def _methods_of(dev: PciDev) -> tuple[ResetMethod, ...]:
    """The kernel's order, or the one that was written to ``reset_method`` in sysfs."""
    if dev.reset_methods is None:
        return RESET_METHODS
    return tuple(method for label in dev.reset_methods for method in RESET_METHODS if method.label == label)


def has_reset_method(core: PciCore, dev: PciDev) -> bool:
    """sysfs shows a ``reset`` file for the function (``pci_reset_supported``)."""
    return any(method.offered(core, dev) for method in _methods_of(dev))


async def reset_function_locked(core: PciCore, dev: PciDev) -> tuple[int, str]:
    """``__pci_reset_function_locked``: (0 or negative errno, method); (-25, "") if no method is offered.

    The caller holds the device lock; configuration space is neither saved nor restored.
    """
    for method in _methods_of(dev):
        if not method.offered(core, dev):
            continue
        core.printk(DEBUG, dev, f"reset via {method.label}")
        rc = await method.run(core, dev)
        core.kernel.trace("pci.reset", dev.name, method.label, rc)
        if rc != -ENOTTY:
            return rc, method.label
    return -ENOTTY, ""


async def reset_function(core: PciCore, dev: PciDev) -> tuple[int, str]:
    """``pci_reset_function`` (sysfs ``reset``): lock, prepare, save, reset, restore; (errno, method).

    Takes the device locks of the port above and of the function, in this order.
    """
    async with core.reset_guard(dev):
        return await _reset_between_locks(core, dev)


async def _reset_between_locks(core: PciCore, dev: PciDev) -> tuple[int, str]:
    locks = [each.device_lock for each in (dev.bridge, dev) if each is not None]
    for lock in locks:
        await lock.acquire()
    try:
        await _save_and_disable(core, dev)
        rc, method = await reset_function_locked(core, dev)
        await _restore(core, dev)
        return rc, method
    finally:
        for lock in reversed(locks):
            lock.release()


async def _save_and_disable(core: PciCore, dev: PciDev) -> None:
    core.printk(DEBUG, dev, "resetting")
    await _tell(core, dev, "reset_prepare")
    save_state(core, dev)
    core.write(dev, HEADER.COMMAND, 2, COMMAND_INTX_DISABLE)


async def _restore(core: PciCore, dev: PciDev) -> None:
    restore_state(core, dev)
    await _tell(core, dev, "reset_done")
    core.printk(DEBUG, dev, "reset done")


async def _tell(core: PciCore, dev: PciDev, name: str) -> None:
    """Call ``reset_prepare`` or ``reset_done`` of the driver, if it has it."""
    callback = getattr(handlers_of(dev), name)
    if callback is not None:
        await callback(dev)
        assert dev.driver is not None
        core.kernel.trace("pci.callback", dev.name, dev.driver.name, name, "", "")
