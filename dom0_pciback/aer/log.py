"""The lines of the kernel log about an error, letter for letter (linux-aer.md 5.2, 5.3; other kernels: 14)."""

from __future__ import annotations

from dom0_pciback.aer.info import ErrorRecord
from dom0_pciback.aer.log_2008 import print_box
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import ERR, INFO
from protocol.ids import Sbdf


def aer_print_source(core: PciCore, root: PciDev, record: ErrorRecord, found: bool) -> None:
    """The source line, on the root, level 6 whatever the severity (T30)."""
    reporting = record.reporting
    text = reporting.source_line.format(
        multiple="Multiple " if record.multi else "",
        severity=reporting.words.severities[record.severity],
        source=Sbdf.from_rid(record.id, root.sbdf.segment),
    )
    core.printk(INFO, root, text if found else text + reporting.not_found_suffix)


def aer_print_not_found(core: PciCore, root: PciDev, record: ErrorRecord) -> None:
    """What older kernels say if nobody admits to an error."""
    reporting = record.reporting
    text = reporting.not_found_line.format(id=record.id)
    if reporting.boxed:
        core.kernel.printk(reporting.not_found_level, text)
    else:
        core.printk(reporting.not_found_level, root, text)


def aer_print_error(core: PciCore, index: int, record: ErrorRecord) -> None:
    """Count and trace the record for its device number ``index``; print it unless the limiter refused (6.3)."""
    dev, reporting = record.devs[index], record.reporting
    unmasked = record.status & ~record.mask if record.status else 0
    if dev.aer_info is not None and (record.status or reporting.counts_inaccessible):
        dev.aer_info.stats.count_device(record.severity, unmasked & reporting.counted)
    if reporting.trace_first:
        trace_error(core, dev, record, unmasked)
    if record.ratelimit_print[index]:
        _print(core, dev, record, unmasked)
    if not reporting.trace_first:
        trace_error(core, dev, record, unmasked)


def trace_error(core: PciCore, dev: PciDev, record: ErrorRecord, unmasked: int) -> None:
    """What the trace event ``aer_event`` carries (8)."""
    header = [] if record.tlp is None else record.tlp.dwords[: record.reporting.trace_dwords]
    core.kernel.trace("aer.error", dev.name, record.severity.name, unmasked, header)


def _print(core: PciCore, dev: PciDev, record: ErrorRecord, unmasked: int) -> None:
    if record.reporting.boxed:
        print_box(core, dev, record)
        return
    if record.status:
        _print_status(core, dev, record, unmasked)
    else:
        severity = record.reporting.words.severities[record.severity]
        text = f"AER: PCIe Bus Error: severity={severity}, type=Inaccessible, (Unregistered Agent ID)"
        core.printk(ERR, dev, text)
    if record.id and len(record.devs) > 1 and record.id == dev.rid:
        core.printk(ERR, dev, "AER:   Error of this Agent is reported first")


def _print_status(core: PciCore, dev: PciDev, record: ErrorRecord, unmasked: int) -> None:
    severity, status, level, words = record.severity, record.status, record.level, record.reporting.words
    core.printk(
        level,
        dev,
        f"PCIe Bus Error: severity={words.severities[severity]}, type={words.layer(severity, status)}, "
        f"({words.agent(severity, status)})",
    )
    core.printk(
        level,
        dev,
        f"  device [{dev.vendor:04x}:{dev.device:04x}] error status/mask={status:08x}/{record.mask:08x}",
    )
    print_bits(core, dev, record, unmasked)
    if record.tlp is not None:
        core.printk(level, dev, "AER:   " + record.reporting.tlp_text(record.tlp))


def print_bits(core: PciCore, dev: PciDev, record: ErrorRecord, unmasked: int) -> None:
    """One line per bit (``__aer_print_error``)."""
    names = record.reporting.words.bit_names(record.severity)
    for bit in set_bits(unmasked):
        first = " (First)" if bit == record.first_error else ""
        core.printk(record.level, dev, f"   [{bit:2d}] {names.get(bit, 'Unknown Error Bit'):<22}{first}")


def set_bits(word: int) -> list[int]:
    """Numbers of the set bits, lowest first."""
    bits = []
    while word:
        lowest = word & -word
        bits.append(lowest.bit_length() - 1)
        word ^= lowest
    return bits
