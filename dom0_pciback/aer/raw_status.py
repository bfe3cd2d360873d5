"""Clearing AER status whoever owns it: what firmware asks of the kernel after containment (linux-aer.md 10.3, 10.4)."""

from __future__ import annotations

from dom0_pciback.aer.status import write_back
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from protocol.layout_aer import AER
from protocol.topology import COLLECTORS


def pci_aer_raw_clear_status(core: PciCore, dev: PciDev) -> None:
    """Root (of roots), Correctable and Uncorrectable Error Status; nothing without AER. Ownership is not asked."""
    if not dev.aer:
        return
    if dev.kind in COLLECTORS:
        write_back(core, dev, dev.aer + AER.ROOT_STATUS)
    write_back(core, dev, dev.aer + AER.COR_STATUS)
    write_back(core, dev, dev.aer + AER.UNCOR_STATUS)
