"""Clearing error status (``pci_aer_clear_status`` and its relatives): read, then write back what was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dom0_pciback.pci.ownership import pcie_aer_is_native
from protocol.layout_aer import AER
from protocol.layout_pcie import EXP, EXP_DEVSTA_ERRORS
from protocol.topology import COLLECTORS

if TYPE_CHECKING:
    from dom0_pciback.pci.core import PciCore
    from dom0_pciback.pci.device import PciDev


def pci_aer_clear_status(core: PciCore, dev: PciDev) -> None:
    """Clear Root Error Status (of roots), Correctable and Uncorrectable Error Status; nothing if not native."""
    if not pcie_aer_is_native(core, dev):
        return
    if dev.kind in COLLECTORS:
        write_back(core, dev, dev.aer + AER.ROOT_STATUS)
    write_back(core, dev, dev.aer + AER.COR_STATUS)
    write_back(core, dev, dev.aer + AER.UNCOR_STATUS)


def pci_aer_clear_nonfatal_status(core: PciCore, dev: PciDev) -> None:
    """Clear the Uncorrectable Error Status bits of non-fatal severity; fatal ones stay (T16)."""
    if not pcie_aer_is_native(core, dev):
        return
    status = core.read(dev, dev.aer + AER.UNCOR_STATUS, 4)
    status &= ~core.read(dev, dev.aer + AER.UNCOR_SEVER, 4)
    if status:
        core.write(dev, dev.aer + AER.UNCOR_STATUS, 4, status)


def pcie_clear_device_status(core: PciCore, dev: PciDev) -> None:
    """Clear CED, NFED, FED and URD of Device Status."""
    if dev.exp:
        status = core.read(dev, dev.exp + EXP.DEVSTA, 2)
        core.write(dev, dev.exp + EXP.DEVSTA, 2, status & EXP_DEVSTA_ERRORS)


def clear_status(core: PciCore, dev: PciDev) -> None:
    """What step 8 of a recovery clears on the detecting device (4.2); nothing if the firmware owns AER."""
    if core.owns_aer:
        pcie_clear_device_status(core, dev)
        pci_aer_clear_nonfatal_status(core, dev)


def write_back(core: PciCore, dev: PciDev, offset: int) -> int:
    """Read a status dword and write it back, which clears exactly what was seen; returns it."""
    status = core.read(dev, offset, 4)
    core.write(dev, offset, 4, status)
    return status
