"""AER registers as the firmware delivers them, and how they are printed (``pci_print_aer``, linux-aer.md 5.8)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from dom0_pciback.aer.info import aer_ratelimit, tlp_header_logged
from dom0_pciback.aer.log import print_bits
from dom0_pciback.aer.names import agent_of, layer_of
from dom0_pciback.aer.tlp_log import HEADER_DWORDS, MAX_DWORDS, TlpLog, tlp_log_text
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import ERR, WARNING
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


def pci_print_aer(core: PciCore, dev: PciDev, severity: Severity, regs: AerImage) -> None:
    """Count, trace and print an error that the firmware reported; no source line, no ``device`` line."""
    correctable = severity is Severity.CORRECTABLE
    status, mask = (regs.cor_status, regs.cor_mask) if correctable else (regs.uncor_status, regs.uncor_mask)
    unmasked, level = status & ~mask, WARNING if correctable else ERR
    has_header = not correctable and tlp_header_logged(status, regs.control)
    if dev.aer_info is not None:
        dev.aer_info.stats.count_device(severity, unmasked)
    core.kernel.trace("aer.error", dev.name, severity.name, unmasked, regs.log.dwords if has_header else [])
    if not aer_ratelimit(dev, severity):
        return
    core.printk(level, dev, f"aer_status: 0x{status:08x}, aer_mask: 0x{mask:08x}")
    print_bits(core, dev, level, (severity, unmasked, regs.control & AER_CAP_FEP))
    core.printk(level, dev, f"aer_layer={layer_of(severity, status)}, aer_agent={agent_of(severity, status)}")
    if not correctable:
        core.printk(level, dev, f"aer_uncor_severity: 0x{regs.uncor_severity:08x}")
    if has_header:
        core.printk(level, dev, "AER:   " + tlp_log_text(regs.log))
