"""What enumeration finds out about Downstream Port Containment (``pci_dpc_init``, linux-aer.md 10.1, 10.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dom0_pciback.pci.regs import EXP_FLAGS_FLIT
from kernel_stub.kernel import ERR
from protocol.layout_dpc import (
    DPC,
    DPC_CAP_RP_EXT,
    DPC_CAP_RP_PIO_LOG_SIZE,
    DPC_CAP_RP_PIO_LOG_SIZE4,
    DPC_CAP_RP_PIO_LOG_SIZE_SHIFT,
)
from protocol.layout_pcie import EXP

if TYPE_CHECKING:
    from dom0_pciback.pci.core import PciCore
    from dom0_pciback.pci.device import PciDev

PCIE_STD_NUM_TLP_HEADERLOG = 4
RP_PIO_LOG_MAX = 15  # UNVERIFIED: 14 dwords of TLP log (the trace event's array) and the ImpSpec log


def pci_dpc_init(core: PciCore, dev: PciDev) -> None:
    """Root port extensions and the size of their log; an impossible size counts as no log."""
    if not dev.dpc:
        return
    cap = core.read(dev, dev.dpc + DPC.CAP, 2)
    if not cap & DPC_CAP_RP_EXT:
        return
    dev.dpc_rp_extensions = True
    size = (cap & DPC_CAP_RP_PIO_LOG_SIZE) >> DPC_CAP_RP_PIO_LOG_SIZE_SHIFT
    if core.read(dev, dev.exp + EXP.FLAGS, 2) & EXP_FLAGS_FLIT and cap & DPC_CAP_RP_PIO_LOG_SIZE4:
        size += 16
    if PCIE_STD_NUM_TLP_HEADERLOG <= size <= RP_PIO_LOG_MAX:
        dev.dpc_rp_log_size = size
    else:
        core.printk(ERR, dev, f"DPC: RP PIO log size {size} is invalid")
