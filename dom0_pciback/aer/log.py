"""The lines of the kernel log about an error, letter for letter (linux-aer.md 5.2, 5.3)."""

from __future__ import annotations

from dom0_pciback.aer.info import ErrorRecord
from dom0_pciback.aer.names import COR_NAMES, SEVERITY_TEXT, UNCOR_NAMES, agent_of, layer_of
from dom0_pciback.aer.tlp_log import tlp_log_text
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import ERR, INFO
from protocol.ers import Severity
from protocol.ids import Sbdf


def aer_print_source(core: PciCore, root: PciDev, record: ErrorRecord, found: bool) -> None:
    """The source line, on the root, level 6 whatever the severity (T30).

    Without a device it ends in an opening parenthesis that the kernel never closes (T32).
    """
    multiple = "Multiple " if record.multi else ""
    source = Sbdf.from_rid(record.id, root.sbdf.segment)
    details = "" if found else " (no details found"
    core.printk(
        INFO, root, f"AER: {multiple}{SEVERITY_TEXT[record.severity]} error message received from {source}{details}"
    )


def aer_print_error(core: PciCore, index: int, record: ErrorRecord) -> None:
    """Count and trace the record for its device number ``index``; print it unless the limiter refused (6.3)."""
    dev = record.devs[index]
    unmasked = record.status & ~record.mask if record.status else 0
    if dev.aer_info is not None:
        dev.aer_info.stats.count_device(record.severity, unmasked)
    header = [] if record.tlp is None else record.tlp.dwords
    core.kernel.trace("aer.error", dev.name, record.severity.name, unmasked, header)
    if not record.ratelimit_print[index]:
        return
    if record.status:
        _print_status(core, dev, record, unmasked)
    else:
        severity = SEVERITY_TEXT[record.severity]
        text = f"AER: PCIe Bus Error: severity={severity}, type=Inaccessible, (Unregistered Agent ID)"
        core.printk(ERR, dev, text)
    if record.id and len(record.devs) > 1 and record.id == dev.rid:
        core.printk(ERR, dev, "AER:   Error of this Agent is reported first")


def _print_status(core: PciCore, dev: PciDev, record: ErrorRecord, unmasked: int) -> None:
    severity, status, level = record.severity, record.status, record.level
    core.printk(
        level,
        dev,
        f"PCIe Bus Error: severity={SEVERITY_TEXT[severity]}, type={layer_of(severity, status)}, "
        f"({agent_of(severity, status)})",
    )
    core.printk(
        level,
        dev,
        f"  device [{dev.vendor:04x}:{dev.device:04x}] error status/mask={status:08x}/{record.mask:08x}",
    )
    print_bits(core, dev, level, (severity, unmasked, record.first_error))
    if record.tlp is not None:
        core.printk(level, dev, "AER:   " + tlp_log_text(record.tlp))


def print_bits(core: PciCore, dev: PciDev, level: int, found: tuple[Severity, int, int]) -> None:
    """One line per bit (``__aer_print_error``); ``found``: severity, unmasked status, First Error Pointer."""
    severity, unmasked, first_error = found
    names = COR_NAMES if severity is Severity.CORRECTABLE else UNCOR_NAMES
    for bit in set_bits(unmasked):
        first = " (First)" if bit == first_error else ""
        core.printk(level, dev, f"   [{bit:2d}] {names.get(bit, 'Unknown Error Bit'):<22}{first}")


def set_bits(word: int) -> list[int]:
    """Numbers of the set bits, lowest first."""
    bits = []
    while word:
        lowest = word & -word
        bits.append(lowest.bit_length() - 1)
        word ^= lowest
    return bits
