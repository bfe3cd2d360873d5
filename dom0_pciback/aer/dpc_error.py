"""What the kernel says about a containment event (``dpc_process_error``, linux-aer.md 10.3)."""

from __future__ import annotations

from dom0_pciback.aer.dpc_rp_pio import dpc_process_rp_pio_error
from dom0_pciback.aer.info import ErrorRecord, aer_get_device_error_info
from dom0_pciback.aer.log import aer_print_error
from dom0_pciback.aer.status import pci_aer_clear_nonfatal_status
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import WARNING
from protocol.ers import Severity
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_dpc import (
    DPC,
    DPC_REASON_EXT,
    DPC_REASON_FATAL,
    DPC_REASON_NONFATAL,
    DPC_REASON_RP_PIO,
    DPC_REASON_SW_TRIGGER,
    DPC_REASON_UNCOR,
    DPC_STATUS_REASON,
    DPC_STATUS_REASON_EXT,
)

MESSAGE = {DPC_REASON_NONFATAL: "ERR_NONFATAL", DPC_REASON_FATAL: "ERR_FATAL"}
EXTENSION = {DPC_REASON_RP_PIO: "RP PIO error", DPC_REASON_SW_TRIGGER: "software trigger"}


def dpc_process_error(core: PciCore, dev: PciDev) -> None:
    """One line by reason; then the AER details of the port (reason 0) or the RP PIO block."""
    status = core.read(dev, dev.dpc + DPC.STATUS, 2)
    reason = status & DPC_STATUS_REASON
    event = f"DPC: containment event, status:{status:#06x}"
    if reason == DPC_REASON_UNCOR:
        core.printk(WARNING, dev, f"{event}: unmasked uncorrectable error detected")
        _process_port_error(core, dev)
    elif reason == DPC_REASON_EXT:
        extension = reason | status & DPC_STATUS_REASON_EXT
        core.printk(WARNING, dev, f"{event}: {EXTENSION.get(extension, 'reserved error')} detected")
        if extension == DPC_REASON_RP_PIO and dev.dpc_rp_extensions:
            dpc_process_rp_pio_error(core, dev)
    else:
        source = Sbdf.from_rid(core.read(dev, dev.dpc + DPC.SOURCE_ID, 2), dev.sbdf.segment)
        core.printk(WARNING, dev, f"{event}, {MESSAGE[reason]} received from {source}")


def _process_port_error(core: PciCore, dev: PciDev) -> None:
    """The port's own AER record: printed without any limit, counted, traced, then cleared of both severities."""
    severity = dpc_get_aer_uncorrect_severity(core, dev)
    if severity is None:
        return
    record = ErrorRecord(0, severity, False)
    record.devs.append(dev)
    record.ratelimit_print.append(True)
    if aer_get_device_error_info(core, dev, record):
        aer_print_error(core, 0, record)
        pci_aer_clear_nonfatal_status(core, dev)
        pci_aer_clear_fatal_status(core, dev)


def dpc_get_aer_uncorrect_severity(core: PciCore, dev: PciDev) -> Severity | None:
    """Fatal if any unmasked status bit of the port is; None without such a bit."""
    status = core.read(dev, dev.aer + AER.UNCOR_STATUS, 4) & ~core.read(dev, dev.aer + AER.UNCOR_MASK, 4)
    if not status:
        return None
    fatal = status & core.read(dev, dev.aer + AER.UNCOR_SEVER, 4)
    return Severity.FATAL if fatal else Severity.NONFATAL


def pci_aer_clear_fatal_status(core: PciCore, dev: PciDev) -> None:
    """Clear the Uncorrectable Error Status bits of fatal severity; only DPC does that."""
    status = core.read(dev, dev.aer + AER.UNCOR_STATUS, 4) & core.read(dev, dev.aer + AER.UNCOR_SEVER, 4)
    if status:
        core.write(dev, dev.aer + AER.UNCOR_STATUS, 4, status)
