"""Firmware first: errors that the firmware reports (``aer_recover_queue``, linux-aer.md 3.10).

Linux reads no AER register here: the image comes with the record. The machine check that a fatal record can be
(``GHES_SEV_PANIC``) is not modelled; a fatal section is recovered from as 3.10 says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from dom0_pciback.aer.generation import LINUX_7_2, Reporting
from dom0_pciback.aer.handle import RECOVER_AS
from dom0_pciback.aer.image import AerImage, aer_image, pci_print_aer
from dom0_pciback.aer.ratelimit import RateLimit
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import ERR, WARNING
from kernel_stub.sync import Work
from protocol.cper import PCIE_SECTION, SECTION_RESET, CperSeverity, Section, Valid, parse_pcie, sections
from protocol.ers import ChannelState, Severity
from protocol.ids import Sbdf

AER_RECOVER_RING_SIZE = 16

# cper_severity_to_aer(); every other severity is correctable.
AER_SEVERITY: dict[int, Severity] = {CperSeverity.RECOVERABLE: Severity.NONFATAL, CperSeverity.FATAL: Severity.FATAL}


class Entry(NamedTuple):
    """``struct aer_recover_entry``."""

    sbdf: Sbdf
    severity: Severity
    regs: AerImage


class Ghes:
    """The ring of reported errors and the work item that prints them and recovers."""

    def __init__(
        self,
        core: PciCore,
        recover: Callable[[PciDev, ChannelState], Awaitable[int]],
        reporting: Reporting = LINUX_7_2,
    ) -> None:
        self.core = core
        self.recover = recover
        self.reporting = reporting
        self.ring: deque[Entry] = deque()
        self._work = Work(core.kernel, "aer_recover_work", self._aer_recover_work)
        self._unknown = RateLimit(self._report_suppressed)

    def notify(self, data: bytes, severity: int = CperSeverity.RECOVERABLE) -> int:
        """The firmware delivers a record (``protocol.cper.sections``); returns how many errors it holds for AER.

        Raises ValueError for bytes that are no record.
        """
        return sum(self._handle_aer(section) for section in sections(data, severity))

    def _handle_aer(self, section: Section) -> bool:
        """``ghes_handle_aer``: only a PCI Express section that names a device and has its AER registers."""
        if section.kind != PCIE_SECTION:
            return False
        pcie, wanted = parse_pcie(section.payload), Valid.DEVICE_ID | Valid.AER_INFO
        if pcie.valid & wanted != wanted:
            return False
        self.aer_recover_queue(pcie.sbdf, aer_severity(section), aer_image(pcie.aer_info))
        return True

    def aer_recover_queue(self, sbdf: Sbdf, severity: Severity, regs: AerImage) -> None:
        """Hand an error to the work item; with 16 waiting, it is lost with a message."""
        if len(self.ring) >= AER_RECOVER_RING_SIZE:
            self.core.kernel.printk(ERR, f"AER: buffer overflow in recovery for {sbdf}")
            return
        self.ring.append(Entry(sbdf, severity, regs))
        self._work.queue()

    async def _aer_recover_work(self) -> None:
        while self.ring:
            entry = self.ring.popleft()
            dev = self.core.devices.get(entry.sbdf)
            if dev is None:
                self._report_unknown(entry.sbdf)
                continue
            pci_print_aer(self.core, dev, entry.severity, entry.regs, self.reporting)
            if entry.severity in RECOVER_AS:
                await self.recover(dev, RECOVER_AS[entry.severity])

    def _report_unknown(self, sbdf: Sbdf) -> None:
        if not self.reporting.rate_limits or self._unknown.allow(self.core.kernel.now()):
            self.core.kernel.printk(ERR, self.reporting.unknown_device.format(source=sbdf))

    def _report_suppressed(self, missed: int) -> None:
        self.core.kernel.printk(WARNING, f"aer_recover_work_func: {missed} callbacks suppressed")


def aer_severity(section: Section) -> Severity:
    """``cper_severity_to_aer``; a component that the firmware has reset must be set up again, so that is fatal."""
    if section.flags & SECTION_RESET:
        return Severity.FATAL
    return AER_SEVERITY.get(section.severity, Severity.CORRECTABLE)
