"""Switching a function on and off: ``pci_enable_device`` and its relatives in ``drivers/pci/pci.c``."""

from __future__ import annotations

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import INFO, WARNING
from protocol.layout_header import COMMAND_MASTER, COMMAND_MEMORY, HEADER


def pci_enable_device_mem(core: PciCore, dev: PciDev) -> None:
    """Count one more user; the first one switches memory decoding on, and every bridge above (errata 7.2)."""
    dev.enable_cnt += 1
    if dev.enable_cnt > 1:
        return
    if dev.bridge is not None:
        pci_enable_bridge(core, dev.bridge)
    _enable_resources(core, dev)


def pci_enable_bridge(core: PciCore, bridge: PciDev) -> None:
    """Let a bridge, and those above it, forward what comes from below (bus master)."""
    if bridge.bridge is not None:
        pci_enable_bridge(core, bridge.bridge)
    if not bridge.enable_cnt:
        bridge.enable_cnt = 1
        _enable_resources(core, bridge)
    pci_set_master(core, bridge)


def pci_disable_device(core: PciCore, dev: PciDev) -> None:
    """One user less; the last one switches bus mastering off, and nothing else."""
    if dev.enable_cnt <= 0:
        core.printk(WARNING, dev, "disabling already-disabled device")
        return
    dev.enable_cnt -= 1
    if not dev.enable_cnt:
        core.update(dev, HEADER.COMMAND, 2, COMMAND_MASTER, 0)


def pci_set_master(core: PciCore, dev: PciDev) -> None:
    """Bus master on, if it is not."""
    command = core.read(dev, HEADER.COMMAND, 2)
    if not command & COMMAND_MASTER:
        core.write(dev, HEADER.COMMAND, 2, command | COMMAND_MASTER)


def _enable_resources(core: PciCore, dev: PciDev) -> None:
    """``pci_enable_resources``; says what it changed."""
    old = core.read(dev, HEADER.COMMAND, 2)
    new = old | COMMAND_MEMORY
    if new != old:
        core.printk(INFO, dev, f"enabling device ({old:04x} -> {new:04x})")
        core.write(dev, HEADER.COMMAND, 2, new)
