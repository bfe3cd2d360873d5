"""The TLP that belongs to an error: reading it and its text (``tlp.c``, linux-aer.md 3.7 and 5.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dom0_pciback.pci.regs import AER_CAP_TLP_LOG_FLIT, AER_CAP_TLP_LOG_SIZE, AER_CAP_TLP_LOG_SIZE_SHIFT
from protocol.layout_aer import AER, AER_CAP_PREFIX_LOG_PRESENT

if TYPE_CHECKING:
    from dom0_pciback.pci.core import PciCore
    from dom0_pciback.pci.device import PciDev

HEADER_DWORDS = 4
MAX_PREFIXES = 4  # End-End TLP prefixes in the prefix log
MAX_DWORDS = 14  # of a TLP in Flit mode; struct pcie_tlp_log has no more


class TlpLog:
    """A logged TLP: its dwords (four of header, then prefixes), and whether it is a Flit mode one."""

    __slots__ = ("dwords", "flit")

    def __init__(self, dwords: list[int], flit: bool) -> None:
        self.dwords = dwords
        self.flit = flit


def aer_tlp_log_len(dev: PciDev, control: int) -> int:
    """Dwords of the log, from the capabilities and control register: what Flit mode says, or header and prefixes."""
    if control & AER_CAP_TLP_LOG_FLIT:
        return (control & AER_CAP_TLP_LOG_SIZE) >> AER_CAP_TLP_LOG_SIZE_SHIFT
    return HEADER_DWORDS + (dev.eetlp_prefix_max if control & AER_CAP_PREFIX_LOG_PRESENT else 0)


def pcie_read_tlp_log(core: PciCore, dev: PciDev, control: int) -> TlpLog:
    """Header dwords, then those of the prefix log; dwords that were not logged are 0."""
    length = min(aer_tlp_log_len(dev, control), MAX_DWORDS)
    read, header = core.read, dev.aer + AER.HEADER_LOG
    dwords = [read(dev, header + 4 * index, 4) for index in range(HEADER_DWORDS)]
    if length > HEADER_DWORDS:
        more = dev.aer + AER.PREFIX_LOG
        dwords += [read(dev, more + 4 * index, 4) for index in range(length - HEADER_DWORDS)]
    dwords[length:HEADER_DWORDS] = [0] * (HEADER_DWORDS - length)
    return TlpLog(dwords, bool(control & AER_CAP_TLP_LOG_FLIT))


def tlp_log_text(log: TlpLog) -> str:
    """``pcie_print_tlp_log`` without its prefix: header, then prefixes up to the first zero dword (5.4)."""
    if log.flit:
        return "TLP Header (Flit): " + _dwords(log.dwords)
    prefixes = log.dwords[HEADER_DWORDS : HEADER_DWORDS + MAX_PREFIXES]
    used = prefixes[: prefixes.index(0)] if 0 in prefixes else prefixes
    tail = " E-E Prefixes: " + _dwords(used) if used else ""
    return f"TLP Header: {_dwords(log.dwords[:HEADER_DWORDS])}{tail}"


def tlp_header_text(log: TlpLog) -> str:
    """The header as kernels before 6.15 or so print it (14)."""
    return "TLP Header: " + " ".join(f"{dword:08x}" for dword in log.dwords[:HEADER_DWORDS])


def _dwords(dwords: list[int]) -> str:
    return " ".join([f"{dword:#010x}" for dword in dwords])
