"""Which devices reported? ``find_source_device`` (linux-aer.md 3.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dom0_pciback.aer.info import AER_MAX_MULTI_ERR_DEVICES, ErrorRecord, aer_ratelimit
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.rcec import pcie_walk_rcec
from kernel_stub.kernel import ERR
from protocol.ers import Severity
from protocol.layout_aer import AER
from protocol.layout_pcie import EXP, EXP_DEVCTL_AER_FLAGS

_CORRECTABLE = Severity.CORRECTABLE  # quicker than looked up in their class


def _several(record: ErrorRecord) -> bool:
    """Several devices may have reported, and the kernel looks for all of them."""
    return record.multi and record.reporting.searches_all


class SourceStep(NamedTuple):
    """A row: when ``applies`` is true, ``is_source`` is the answer and the search of the table ends."""

    label: str
    applies: Callable[[PciCore, PciDev, ErrorRecord], bool]
    is_source: bool


def _id_matches(core: PciCore, dev: PciDev, record: ErrorRecord) -> bool:
    return record.id == dev.rid and record.id >> 8 != 0


def _id_names_another(core: PciCore, dev: PciDev, record: ErrorRecord) -> bool:
    return record.id >> 8 != 0 and not _several(record)


def _not_enabled(core: PciCore, dev: PciDev, record: ErrorRecord) -> bool:
    """A bound driver counts as having enabled its device: pciback does it when the guest does."""
    return record.reporting.tests_enabled and not dev.enable_cnt and dev.driver is None


def _reporting_off(core: PciCore, dev: PciDev, record: ErrorRecord) -> bool:
    return not dev.exp or not core.read(dev, dev.exp + EXP.DEVCTL, 2) & EXP_DEVCTL_AER_FLAGS


def _no_aer(core: PciCore, dev: PciDev, record: ErrorRecord) -> bool:
    return not dev.aer


def _status_set(core: PciCore, dev: PciDev, record: ErrorRecord) -> bool:
    if record.severity is _CORRECTABLE:
        status, mask = AER.COR_STATUS, AER.COR_MASK
    else:
        status, mask = AER.UNCOR_STATUS, AER.UNCOR_MASK
    return core.read(dev, dev.aer + status, 4) & ~core.read(dev, dev.aer + mask, 4) != 0


def _otherwise(core: PciCore, dev: PciDev, record: ErrorRecord) -> bool:
    return True


# is_error_source(), first row that applies wins. An ID on bus 0 is never compared. No bus of this host
# has PCI_BUS_FLAGS_NO_AERSID, the other reason not to compare.
IS_ERROR_SOURCE = (
    SourceStep("id-match", _id_matches, True),
    SourceStep("id-names-another", _id_names_another, False),
    SourceStep("not-enabled", _not_enabled, False),  # older kernels only (14)
    SourceStep("reporting-off", _reporting_off, False),
    SourceStep("no-aer", _no_aer, False),
    SourceStep("status-set", _status_set, True),
    SourceStep("nothing-set", _otherwise, False),
)


def is_error_source(core: PciCore, dev: PciDev, record: ErrorRecord) -> SourceStep:
    """The row of ``IS_ERROR_SOURCE`` that decides about ``dev``."""
    for step in IS_ERROR_SOURCE:
        if step.applies(core, dev, record):
            return step
    raise AssertionError("the last row applies always")


def find_source_device(core: PciCore, root: PciDev, record: ErrorRecord) -> bool:
    """Collect the reporting devices in ``record.devs``: the root first, then everything below it.

    An event collector has its integrated endpoints instead, and that walk cannot be stopped: a record that
    is not *multi* may so collect several (3.9). True if any device was found.
    """
    if find_device_iter(core, root, record):
        return True
    if root.kind == "event_collector":
        for dev in pcie_walk_rcec(core, root):
            find_device_iter(core, dev, record)
    else:
        for dev in root.below:
            if find_device_iter(core, dev, record):
                break
    return bool(record.devs)


def find_device_iter(core: PciCore, dev: PciDev, record: ErrorRecord) -> bool:
    """Add ``dev`` if it is a source; True asks to stop the walk.

    A record that is not *multi* stops at the first hit. A sixth device gets a message and is neither handled
    nor cleared (T22).
    """
    if not is_error_source(core, dev, record).is_source:
        return False
    if len(record.devs) == AER_MAX_MULTI_ERR_DEVICES:
        if record.reporting.announces_limit:
            core.printk(
                ERR, dev, f"AER: Exceeded max supported ({AER_MAX_MULTI_ERR_DEVICES}) devices with errors logged"
            )
        return True
    add_error_device(dev, record)
    return not _several(record)


def add_error_device(dev: PciDev, record: ErrorRecord) -> None:
    """Add a device and ask its limiter once; a granted credit also lets the source line be printed (3.5)."""
    granted = not record.reporting.rate_limits or aer_ratelimit(dev, record.severity)
    record.devs.append(dev)
    record.ratelimit_print.append(granted)
    record.root_ratelimit_print |= granted
