"""Switching AER on: per function at enumeration, per root port when the service binds (linux-aer.md 1.7, 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dom0_pciback.aer.ecrc import pcie_set_ecrc_checking
from dom0_pciback.aer.info import AerInfo
from dom0_pciback.aer.status import pci_aer_clear_status, pcie_clear_device_status, write_back
from dom0_pciback.pci.ownership import pci_aer_available, pcie_aer_is_native
from dom0_pciback.pci.rcec import pcie_walk_rcec
from dom0_pciback.pci.regs import AER_ROOT_RECEIVED
from kernel_stub.kernel import INFO
from protocol.layout_aer import AER, AER_ROOT_CMD_ALL
from protocol.layout_pcie import EXP, EXP_DEVCTL_AER_FLAGS, EXP_RTCTL_SERR

if TYPE_CHECKING:
    from dom0_pciback.pci.core import PciCore
    from dom0_pciback.pci.device import PciDev


def pci_aer_init(core: PciCore, dev: PciDev) -> None:
    """Give a function with AER its counters and limiters, clear its status, enable its reporting (1.7).

    Counters exist whoever owns AER; registers are touched only if it is the kernel (3.1).
    """
    if not dev.aer:
        return
    dev.aer_info = AerInfo(core.kernel)
    pci_aer_clear_status(core, dev)
    if pci_aer_available(core.boot) and pcie_aer_is_native(core, dev):
        core.update(dev, dev.exp + EXP.DEVCTL, 2, 0, EXP_DEVCTL_AER_FLAGS)
    pcie_set_ecrc_checking(core, dev)


def aer_probe(core: PciCore, root: PciDev, irq: int) -> None:
    """``aer_probe``: enable the root port or event collector and say so; ``irq`` is the number of its vector."""
    aer_enable_rootport(core, root)
    core.printk(INFO, root, f"AER: enabled with IRQ {irq}")


def aer_enable_rootport(core: PciCore, root: PciDev) -> None:
    """The six steps of 3.2: clear what is left from before, then let messages raise interrupts."""
    write_back_word(core, root, root.exp + EXP.DEVSTA)
    core.update(root, root.exp + EXP.RTCTL, 2, EXP_RTCTL_SERR, 0)
    if write_back(core, root, root.aer + AER.ROOT_STATUS) & AER_ROOT_RECEIVED:
        for dev in pcie_walk_rcec(core, root) if root.kind == "event_collector" else root.below:
            _clear_reporting(core, dev)
    write_back(core, root, root.aer + AER.COR_STATUS)
    write_back(core, root, root.aer + AER.UNCOR_STATUS)
    core.update(root, root.aer + AER.ROOT_COMMAND, 4, 0, AER_ROOT_CMD_ALL)


def write_back_word(core: PciCore, dev: PciDev, offset: int) -> None:
    """Clear a 16-bit status register of what it shows."""
    core.write(dev, offset, 2, core.read(dev, offset, 2))


def _clear_reporting(core: PciCore, dev: PciDev) -> None:
    if dev.exp and core.read(dev, dev.exp + EXP.DEVCTL, 2) & EXP_DEVCTL_AER_FLAGS:
        pci_aer_clear_status(core, dev)
        pcie_clear_device_status(core, dev)
