"""What is done about one device of an error record (``pci_aer_handle_error``, linux-aer.md 3.8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dom0_pciback.aer.info import ErrorRecord
from dom0_pciback.aer.status import pcie_clear_device_status
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import handlers_of
from dom0_pciback.pci.ownership import pcie_aer_is_native
from protocol.ers import ChannelState, Severity
from protocol.layout_aer import AER

RECOVER_AS = {Severity.NONFATAL: ChannelState.NORMAL, Severity.FATAL: ChannelState.FROZEN}
_CORRECTABLE = Severity.CORRECTABLE  # quicker than looked up in their class


async def pci_aer_handle_error(
    core: PciCore, dev: PciDev, record: ErrorRecord, recover: Callable[[PciDev, ChannelState], Awaitable[int]]
) -> None:
    """Correctable: clear it and tell the driver. Otherwise: recover, frozen if the record is fatal."""
    if record.severity is _CORRECTABLE:
        await _handle_correctable(core, dev, record)
    else:
        await recover(dev, RECOVER_AS[record.severity])


async def _handle_correctable(core: PciCore, dev: PciDev, record: ErrorRecord) -> None:
    """Every set bit is written back, masked ones too (T24); the callback runs without the device lock."""
    core.write(dev, dev.aer + AER.COR_STATUS, 4, record.status)
    if not pcie_aer_is_native(core, dev):
        return
    callback = handlers_of(dev).cor_error_detected
    if callback is not None:
        await callback(dev)
        assert dev.driver is not None
        core.kernel.trace("pci.callback", dev.name, dev.driver.name, "cor_error_detected", "", "")
    pcie_clear_device_status(core, dev)
