"""What AER keeps per function (``struct aer_info``) and per error record (``struct aer_err_info``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dom0_pciback.aer.generation import LINUX_7_2, Reporting
from dom0_pciback.aer.ratelimit import RateLimit
from dom0_pciback.aer.stats import AerStats
from dom0_pciback.aer.tlp_log import TlpLog, pcie_read_tlp_log
from kernel_stub.kernel import ERR, WARNING, Kernel
from protocol.ers import Severity
from protocol.layout_aer import AER, AER_CAP_COMP_TIME_LOG, AER_CAP_FEP

if TYPE_CHECKING:
    from dom0_pciback.pci.core import PciCore
    from dom0_pciback.pci.device import PciDev

AER_MAX_MULTI_ERR_DEVICES = 5
PORT_KINDS = frozenset({"root_port", "event_collector", "downstream_port"})  # read even after a fatal error (3.7)
_CORRECTABLE, _FATAL, _NONFATAL = (
    Severity.CORRECTABLE,
    Severity.FATAL,
    Severity.NONFATAL,
)  # quicker than looked up in their class


class AerInfo:
    """Counters and the two limiters of one function; fatal errors have no limiter (6.1)."""

    __slots__ = ("correctable_ratelimit", "nonfatal_ratelimit", "stats")

    def __init__(self, kernel: Kernel) -> None:
        def report(missed: int) -> None:
            kernel.printk(WARNING, f"aer_ratelimit: {missed} callbacks suppressed")

        self.stats = AerStats()
        self.correctable_ratelimit = RateLimit(report)
        self.nonfatal_ratelimit = RateLimit(report)


def aer_ratelimit(dev: PciDev, severity: Severity) -> bool:
    """Ask the function's limiter for this severity; always granted for fatal and without AER (6.1)."""
    info = dev.aer_info
    if info is None or severity is _FATAL:
        return True
    limiter = info.nonfatal_ratelimit if severity is _NONFATAL else info.correctable_ratelimit
    return limiter.allow(dev.kernel.now())


class ErrorRecord:
    """One message class of one interrupt: what the root port told, and what the devices show.

    ``id`` is the Requester ID of the first message, ``multi`` whether there were several; ``status`` to
    ``tlp`` belong to the device read last (3.7); ``ratelimit_print`` is parallel to ``devs``; ``reporting`` is
    the kernel generation that handles it.
    """

    __slots__ = (
        "devs",
        "first_error",
        "id",
        "level",
        "mask",
        "multi",
        "ratelimit_print",
        "reporting",
        "root_ratelimit_print",
        "severity",
        "status",
        "tlp",
    )

    def __init__(self, rid: int, severity: Severity, multi: bool, reporting: Reporting = LINUX_7_2) -> None:
        self.id = rid
        self.severity = severity
        self.level = WARNING if severity is _CORRECTABLE else ERR
        self.multi = multi
        self.reporting = reporting
        self.devs: list[PciDev] = []
        self.ratelimit_print: list[bool] = []
        self.root_ratelimit_print = False
        self.status = 0
        self.mask = 0
        self.first_error = 0
        self.tlp: TlpLog | None = None  # None: tlp_header_valid is 0


def aer_get_device_error_info(core: PciCore, dev: PciDev, record: ErrorRecord) -> bool:
    """Read the device's registers into ``record``; False: nothing to print, count or handle (3.7).

    After a fatal error the link to anything but a root or a downstream port is distrusted: no register is
    read, ``status`` stays 0, and the answer is True (T19).
    """
    record.status, record.tlp = 0, None
    base = dev.aer
    if not base:
        return False
    if record.severity is _CORRECTABLE:
        record.status = core.read(dev, base + AER.COR_STATUS, 4)
        record.mask = core.read(dev, base + AER.COR_MASK, 4)
        return record.status & ~record.mask != 0
    if record.severity is _NONFATAL or dev.kind in PORT_KINDS:
        return _read_uncorrectable(core, dev, record)
    return True


def _read_uncorrectable(core: PciCore, dev: PciDev, record: ErrorRecord) -> bool:
    base = dev.aer
    record.status = core.read(dev, base + AER.UNCOR_STATUS, 4)
    record.mask = core.read(dev, base + AER.UNCOR_MASK, 4)
    unmasked = record.status & ~record.mask
    if not unmasked:
        return False
    control = core.read(dev, base + AER.CAP, 4)
    record.first_error = control & AER_CAP_FEP
    if tlp_header_logged(record.status if record.reporting.header_raw else unmasked, control, record.reporting):
        record.tlp = pcie_read_tlp_log(core, dev, control)
    return True


def tlp_header_logged(status: int, control: int, reporting: Reporting = LINUX_7_2) -> bool:
    """Is the header log valid for these status bits (1.3, column H)?"""
    logged = reporting.header_logged
    if control & AER_CAP_COMP_TIME_LOG:
        logged |= reporting.header_if_capable
    return bool(status & logged)
