"""Error counters of a function and of a root port, and the text of their sysfs files (linux-aer.md 7)."""

from __future__ import annotations

from dom0_pciback.aer.names import COR_NAMES, UNCOR_NAMES, WORDS, Words
from protocol.ers import Severity
from protocol.layout_aer import AER_ROOT_COR_RCV, AER_ROOT_FATAL_RCV, AER_ROOT_UNCOR_RCV

_CORRECTABLE, _FATAL, _NONFATAL = (
    Severity.CORRECTABLE,
    Severity.FATAL,
    Severity.NONFATAL,
)  # quicker than looked up in their class


class AerStats:
    """``struct aer_stats``: per-bit counters and totals by severity of the *message* (T18), never reset."""

    __slots__ = ("bits", "root", "totals")

    def __init__(self) -> None:
        self.bits = {Severity.CORRECTABLE: [0] * 16, Severity.NONFATAL: [0] * 32, Severity.FATAL: [0] * 32}
        self.totals = dict.fromkeys(Severity, 0)
        self.root = dict.fromkeys(Severity, 0)  # aer_rootport_total_err_*

    def count_device(self, severity: Severity, unmasked: int) -> None:
        """``pci_dev_aer_stats_incr``: one device record with these unmasked status bits."""
        self.totals[severity] += 1
        counters = self.bits[severity]
        while unmasked:
            lowest = unmasked & -unmasked
            if lowest < 1 << len(counters):
                counters[lowest.bit_length() - 1] += 1
            unmasked ^= lowest

    def count_root(self, root_status: int) -> None:
        """``pci_rootport_aer_stats_incr``: one FIFO entry, whatever number of messages it stands for (T38)."""
        if root_status & AER_ROOT_COR_RCV:
            self.root[_CORRECTABLE] += 1
        if root_status & AER_ROOT_UNCOR_RCV:
            fatal = root_status & AER_ROOT_FATAL_RCV
            self.root[_FATAL if fatal else _NONFATAL] += 1


# sysfs file -> severity, names of the bits, name of the counter array, name of the last line (7.2)
DEVICE_FILES = {
    "aer_dev_correctable": (Severity.CORRECTABLE, COR_NAMES, "dev_cor_errs", "TOTAL_ERR_COR"),
    "aer_dev_nonfatal": (Severity.NONFATAL, UNCOR_NAMES, "dev_nonfatal_errs", "TOTAL_ERR_NONFATAL"),
    "aer_dev_fatal": (Severity.FATAL, UNCOR_NAMES, "dev_fatal_errs", "TOTAL_ERR_FATAL"),
}
ROOT_FILES = {  # 7.3
    "aer_rootport_total_err_cor": Severity.CORRECTABLE,
    "aer_rootport_total_err_nonfatal": Severity.NONFATAL,
    "aer_rootport_total_err_fatal": Severity.FATAL,
}


def device_file(stats: AerStats, file: str, words: Words = WORDS) -> str:
    """Text of one of ``DEVICE_FILES``: bits that ``words`` has a name for always, others only once counted."""
    severity, _, array, total = DEVICE_FILES[file]
    names = words.bit_names(severity)
    lines = []
    for bit, count in enumerate(stats.bits[severity]):
        if bit in names:
            lines.append(f"{names[bit]} {count}\n")
        elif count:
            lines.append(f"{array}_bit[{bit}] {count}\n")
    return "".join(lines) + f"{total} {stats.totals[severity]}\n"


def root_file(stats: AerStats, file: str) -> str:
    """Text of one of ``ROOT_FILES``."""
    return f"{stats.root[ROOT_FILES[file]]}\n"
