"""Firmware of a machine that reports errors itself (``boot.firmware_first``, linux-aer.md 3.10).

It enables reporting at boot, takes the roots' interrupts (as SMI), reads and clears the registers, and delivers
one record per function that reported. What a real firmware does besides is not modelled: resets, thresholds,
hiding of registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dom0_pciback.pcie.collector import EventCollector
from dom0_pciback.pcie.function import Function
from dom0_pciback.pcie.hierarchy import Hierarchy
from protocol.cper import PCIE_SECTION, CperSeverity, PcieSection, Section, Valid, pack_pcie, pack_status_block
from protocol.ers import Severity
from protocol.ids import Sbdf
from protocol.layout_aer import (
    AER,
    AER_ROOT_CMD_ALL,
    AER_ROOT_COR_RCV,
    AER_ROOT_FATAL_RCV,
    AER_ROOT_MULTI_COR_RCV,
    AER_ROOT_MULTI_UNCOR_RCV,
    AER_ROOT_UNCOR_RCV,
)
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP, EXP_DEVCTL_AER_FLAGS, EXP_DEVSTA_ERRORS, EXP_FLAGS_TYPE_SHIFT, ROOTS

CPER_SEVERITY = {
    Severity.CORRECTABLE: CperSeverity.CORRECTED,
    Severity.NONFATAL: CperSeverity.RECOVERABLE,
    Severity.FATAL: CperSeverity.FATAL,
}


class Firmware:
    """``notify`` gets each record as a Generic Error Status Block; set it before errors happen."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self.notify: Callable[[bytes], object] = lambda record: None
        hierarchy.interrupt = self.handle
        for function in hierarchy.functions.values():
            _enable(function)

    def handle(self, root: Function) -> None:
        """The interrupt of a root port or event collector: clear what it recorded, then report by class."""
        config, aer = root.config, root.aer
        status = config.peek(aer + AER.ROOT_STATUS, 4)
        source = config.peek(aer + AER.ROOT_ERR_SRC, 4)
        config.write(aer + AER.ROOT_STATUS, 4, status)
        if status & AER_ROOT_COR_RCV:
            self._report(root, source & 0xFFFF, Severity.CORRECTABLE, bool(status & AER_ROOT_MULTI_COR_RCV))
        if status & AER_ROOT_UNCOR_RCV:
            severity = Severity.FATAL if status & AER_ROOT_FATAL_RCV else Severity.NONFATAL
            self._report(root, source >> 16, severity, bool(status & AER_ROOT_MULTI_UNCOR_RCV))

    def _report(self, root: Function, rid: int, severity: Severity, multi: bool) -> None:
        named = Sbdf.from_rid(rid, root.sbdf.segment)
        for function in (root, *self._reporters(root)):
            found = function.sbdf == named or (multi and _unmasked(function, severity))
            if found and function.aer and function.accessible():
                section = Section(PCIE_SECTION, CPER_SEVERITY[severity], 0, pack_pcie(_section(function)))
                _clear(function, severity)
                self.notify(pack_status_block([section]))

    def _reporters(self, root: Function) -> Iterator[Function]:
        """Who may have sent a message to ``root``."""
        if isinstance(root, EventCollector):
            return (each for each in self.hierarchy.functions.values() if root.collects_from(each))
        return root.below()


def _enable(function: Function) -> None:
    config = function.config
    if function.aer:
        control = config.peek(function.exp + EXP.DEVCTL, 2)
        config.write(function.exp + EXP.DEVCTL, 2, control | EXP_DEVCTL_AER_FLAGS)
        if function.kind in ROOTS:
            config.write(function.aer + AER.ROOT_COMMAND, 4, AER_ROOT_CMD_ALL)


def _unmasked(function: Function, severity: Severity) -> int:
    """Unmasked status bits of this class."""
    if not function.aer:
        return 0
    correctable = severity is Severity.CORRECTABLE
    status, mask = (AER.COR_STATUS, AER.COR_MASK) if correctable else (AER.UNCOR_STATUS, AER.UNCOR_MASK)
    return function.config.peek(function.aer + status, 4) & ~function.config.peek(function.aer + mask, 4)


def _section(function: Function) -> PcieSection:
    """What the registers show now."""
    peek, data = function.config.peek, bytes(function.config.data)
    return PcieSection(
        valid=Valid.PORT_TYPE | Valid.COMMAND_STATUS | Valid.DEVICE_ID | Valid.CAPABILITY | Valid.AER_INFO,
        sbdf=function.sbdf,
        vendor=peek(HEADER.VENDOR_ID, 2),
        device=peek(HEADER.DEVICE_ID, 2),
        class_code=peek(HEADER.REVISION_ID, 4) >> 8,
        port_type=peek(function.exp + EXP.FLAGS, 2) >> EXP_FLAGS_TYPE_SHIFT & 0xF,
        command=peek(HEADER.COMMAND, 2),
        status=peek(HEADER.STATUS, 2),
        capability=data[function.exp : function.exp + EXP.length],
        aer_info=data[function.aer : function.aer + AER.length].ljust(96, b"\0"),
    )


def _clear(function: Function, severity: Severity) -> None:
    """Write back the status of the class, and Device Status."""
    config = function.config
    register = function.aer + (AER.COR_STATUS if severity is Severity.CORRECTABLE else AER.UNCOR_STATUS)
    config.write(register, 4, config.peek(register, 4))
    config.write(function.exp + EXP.DEVSTA, 2, EXP_DEVSTA_ERRORS)
