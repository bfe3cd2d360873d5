"""AER registers as the firmware delivers them, and how they are printed (``pci_print_aer``, linux-aer.md 5.8)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from dom0_pciback.aer.generation import LINUX_7_2, Reporting
from dom0_pciback.aer.info import ErrorRecord, aer_ratelimit, tlp_header_logged
from dom0_pciback.aer.log import print_bits, trace_error
from dom0_pciback.aer.tlp_log import HEADER_DWORDS, MAX_DWORDS, TlpLog
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import ERR
from protocol.ers import Severity
from protocol.layout_aer import AER, AER_CAP_FEP

# The kernel's structure has room for a Flit mode TLP, the record for a header, so root registers follow (5.8).
_IMAGE = struct.Struct(f"<{AER.UNCOR_STATUS}x6I{MAX_DWORDS}IB?")


class AerImage(NamedTuple):
    """``struct aer_capability_regs``, laid over the bytes of the record."""

    uncor_status: int
    uncor_mask: int
    uncor_severity: int
    cor_status: int
    cor_mask: int
    control: int
    log: TlpLog


def aer_image(data: bytes) -> AerImage:
    """The image in the 96 bytes of a record's AER information."""
    *registers, length, flit = _IMAGE.unpack_from(data)
    status, mask, severity, cor_status, cor_mask, control, *dwords = registers
    log = TlpLog(dwords[: max(HEADER_DWORDS, length)] if flit else dwords, flit)
    return AerImage(status, mask, severity, cor_status, cor_mask, control, log)


def pci_print_aer(
    core: PciCore, dev: PciDev, severity: Severity, regs: AerImage, reporting: Reporting = LINUX_7_2
) -> None:
    """Count, trace and print an error that the firmware reported; no source line, no ``device`` line."""
    record = ErrorRecord(dev.rid, severity, False, reporting)
    correctable = severity is Severity.CORRECTABLE
    record.status, record.mask = (
        (regs.cor_status, regs.cor_mask) if correctable else (regs.uncor_status, regs.uncor_mask)
    )
    record.first_error = regs.control & AER_CAP_FEP
    if not correctable and tlp_header_logged(record.status, regs.control, reporting):
        record.tlp = regs.log
    unmasked = record.status & ~record.mask
    if dev.aer_info is not None:
        dev.aer_info.stats.count_device(severity, unmasked & reporting.counted)
    if reporting.trace_first:
        trace_error(core, dev, record, unmasked)
    if not reporting.rate_limits or aer_ratelimit(dev, severity):
        _print(core, dev, record, unmasked, regs.uncor_severity)
    if not reporting.trace_first:
        trace_error(core, dev, record, unmasked)


def _print(core: PciCore, dev: PciDev, record: ErrorRecord, unmasked: int, uncor_severity: int) -> None:
    reporting, words, severity = record.reporting, record.reporting.words, record.severity
    level, prefix = record.level if reporting.image_levels else ERR, reporting.image_prefix
    layer, agent = words.layer(severity, record.status), words.agent(severity, record.status)
    core.printk(level, dev, f"{prefix}aer_status: 0x{record.status:08x}, aer_mask: 0x{record.mask:08x}")
    print_bits(core, dev, record, unmasked)
    core.printk(level, dev, f"{prefix}aer_layer={layer}, aer_agent={agent}")
    if severity is not Severity.CORRECTABLE:
        core.printk(level, dev, f"{prefix}aer_uncor_severity: 0x{uncor_severity:08x}")
    if record.tlp is not None:
        core.printk(level, dev, "AER:   " + reporting.tlp_text(record.tlp))
