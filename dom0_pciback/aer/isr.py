"""The interrupt thread of a root port: ``aer_isr`` and what it calls (linux-aer.md 3.4, 3.6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dom0_pciback.aer.handle import pci_aer_handle_error
from dom0_pciback.aer.info import ErrorRecord, aer_get_device_error_info, aer_ratelimit
from dom0_pciback.aer.irq import AerRpc
from dom0_pciback.aer.log import aer_print_error, aer_print_not_found, aer_print_source
from dom0_pciback.aer.source import find_source_device
from dom0_pciback.aer.unheard import next_unheard
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from protocol.ers import ChannelState, Severity
from protocol.layout_aer import (
    AER_ROOT_COR_RCV,
    AER_ROOT_FATAL_RCV,
    AER_ROOT_MULTI_COR_RCV,
    AER_ROOT_MULTI_UNCOR_RCV,
    AER_ROOT_UNCOR_RCV,
)

Recover = Callable[[PciDev, ChannelState], Awaitable[int]]
_CORRECTABLE, _FATAL, _NONFATAL = (
    Severity.CORRECTABLE,
    Severity.FATAL,
    Severity.NONFATAL,
)  # quicker than looked up in their class


async def aer_isr(rpc: AerRpc, recover: Recover) -> None:
    """Serve the root port's FIFO for ever: its errors strictly one after the other (T29)."""
    while True:
        while rpc.fifo:
            status, source = rpc.fifo.popleft()
            await aer_isr_one_error(rpc, status, source, recover)
        if record := next_unheard(rpc):
            await aer_isr_one_error_type(rpc, record, recover)
        else:
            await rpc.queue.wait()


async def aer_isr_one_error(rpc: AerRpc, status: int, source: int, recover: Recover) -> None:
    """One FIFO entry: count it, then the correctable record, then the uncorrectable one.

    Severity is fatal if any ERR_FATAL arrived (T18); bits 4 and 5 are not looked at.
    """
    info = rpc.root.aer_info
    if info is not None:
        info.stats.count_root(status)
    if status & AER_ROOT_COR_RCV:
        multi = bool(status & AER_ROOT_MULTI_COR_RCV)
        record = ErrorRecord(source & 0xFFFF, _CORRECTABLE, multi, rpc.reporting)
        await aer_isr_one_error_type(rpc, record, recover)
    if status & AER_ROOT_UNCOR_RCV:
        severity = _FATAL if status & AER_ROOT_FATAL_RCV else _NONFATAL
        multi = bool(status & AER_ROOT_MULTI_UNCOR_RCV)
        record = ErrorRecord(source >> 16, severity, multi, rpc.reporting)
        await aer_isr_one_error_type(rpc, record, recover)


async def aer_isr_one_error_type(rpc: AerRpc, record: ErrorRecord, recover: Recover) -> None:
    """Find the devices, print the source line unless limited, then print and handle every device (3.6)."""
    core, root, reporting = rpc.core, rpc.root, rpc.reporting
    if reporting.source_first:
        if reporting.source_line:
            aer_print_source(core, root, record, True)
        if not find_source_device(core, root, record):
            aer_print_not_found(core, root, record)
            return
        await aer_process_err_devices(core, record, recover)
        return
    found = find_source_device(core, root, record)
    if record.root_ratelimit_print or (not found and aer_ratelimit(root, record.severity)):
        aer_print_source(core, root, record, found)
    if found:
        await aer_process_err_devices(core, record, recover)


async def aer_process_err_devices(core: PciCore, record: ErrorRecord, recover: Recover) -> None:
    """All logging comes before any handling; registers are read again for the second loop (errata 2.5)."""
    for index, dev in enumerate(record.devs):
        if aer_get_device_error_info(core, dev, record):
            aer_print_error(core, index, record)
    for dev in record.devs:
        if aer_get_device_error_info(core, dev, record):
            await pci_aer_handle_error(core, dev, record, recover)
