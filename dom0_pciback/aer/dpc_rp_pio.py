"""Programmed I/O errors of a root port, as DPC prints and clears them (``dpc_process_rp_pio_error``, 10.3)."""

from __future__ import annotations

from dom0_pciback.aer.dpc_init import PCIE_STD_NUM_TLP_HEADERLOG
from dom0_pciback.aer.log import set_bits
from dom0_pciback.aer.tlp_log import MAX_PREFIXES, TlpLog, tlp_log_text
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import ERR
from protocol.layout_dpc import DPC, DPC_STATUS_RP_PIO_FEP, DPC_STATUS_RP_PIO_FEP_SHIFT, RP_PIO_ERRORS


def dpc_process_rp_pio_error(core: PciCore, dev: PciDev) -> None:
    """The block of lines about RP PIO registers; the status that was read is cleared at its end.

    How much of the log is printed follows from its size: from 4 dwords on the header, from 5 on the ImpSpec log.
    """
    status = _read(core, dev, DPC.RP_PIO_STATUS)
    mask = _read(core, dev, DPC.RP_PIO_MASK)
    core.printk(ERR, dev, f"DPC: rp_pio_status: {status:#010x}, rp_pio_mask: {mask:#010x}")
    severity = _read(core, dev, DPC.RP_PIO_SEVERITY)
    syserror, exception = _read(core, dev, DPC.RP_PIO_SYSERROR), _read(core, dev, DPC.RP_PIO_EXCEPTION)
    core.printk(
        ERR, dev, f"DPC: RP PIO severity={severity:#010x}, syserror={syserror:#010x}, exception={exception:#010x}"
    )
    pointer = core.read(dev, dev.dpc + DPC.STATUS, 2) & DPC_STATUS_RP_PIO_FEP
    for bit in set_bits(status & ~mask):
        first = " (First)" if bit == pointer >> DPC_STATUS_RP_PIO_FEP_SHIFT else ""
        core.printk(ERR, dev, f"DPC: [{bit:2d}] {RP_PIO_ERRORS[bit]}{first}")
    _print_log(core, dev)
    core.write(dev, dev.dpc + DPC.RP_PIO_STATUS, 4, status)


def _print_log(core: PciCore, dev: PciDev) -> None:
    size = dev.dpc_rp_log_size
    if size < PCIE_STD_NUM_TLP_HEADERLOG:
        return
    core.printk(ERR, dev, f"DPC: {tlp_log_text(TlpLog(_tlp_dwords(core, dev), flit=False))}")
    if size > PCIE_STD_NUM_TLP_HEADERLOG:
        core.printk(ERR, dev, f"DPC: RP PIO ImpSpec Log {_read(core, dev, DPC.RP_PIO_IMPSPEC_LOG):#010x}")


def _tlp_dwords(core: PciCore, dev: PciDev) -> list[int]:
    """``dpc_tlp_log_len``: the ImpSpec log is one dword of the size, what is left are header and prefixes."""
    prefixes = min(max(dev.dpc_rp_log_size - PCIE_STD_NUM_TLP_HEADERLOG - 1, 0), MAX_PREFIXES)
    header = [_read(core, dev, DPC.RP_PIO_HEADER_LOG + 4 * i) for i in range(PCIE_STD_NUM_TLP_HEADERLOG)]
    return header + [_read(core, dev, DPC.RP_PIO_TLPPREFIX_LOG + 4 * i) for i in range(prefixes)]


def _read(core: PciCore, dev: PciDev, register: int) -> int:
    return core.read(dev, dev.dpc + register, 4)
