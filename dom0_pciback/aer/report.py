"""The reports to one device: ``report_error_detected`` and its relatives (linux-aer.md 4.3), and uevents (4.7).

Each takes the device lock around callback, uevent and state change. The callers merge the votes.
"""

from __future__ import annotations

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev, pci_dev_set_io_state
from dom0_pciback.pci.driver import handlers_of
from kernel_stub.kernel import INFO
from protocol.ers import ChannelState, ErsResult, result_name

_BEGIN, _SUCCESS, _FAILED = ("BEGIN_RECOVERY", 0), ("SUCCESSFUL_RECOVERY", 1), ("FAILED_RECOVERY", 0)

# pci_uevent_ers(): vote -> ERROR_EVENT, DEVICE_ONLINE (4.7). Votes without a row send nothing.
UEVENTS: dict[int, tuple[str, int]] = {
    ErsResult.NONE: _BEGIN,
    ErsResult.CAN_RECOVER: _BEGIN,
    ErsResult.NEED_RESET: _BEGIN,
    ErsResult.RECOVERED: _SUCCESS,
    ErsResult.DISCONNECT: _FAILED,
}

_STATE_WORD = {
    ChannelState.NORMAL: "io_normal",
    ChannelState.FROZEN: "io_frozen",
    ChannelState.PERM_FAILURE: "io_perm_failure",
}


def pci_uevent_ers(core: PciCore, dev: PciDev, vote: int) -> None:
    """Send the uevent that belongs to a vote, if any."""
    core.kernel.trace("recovery.uevent", dev.name, result_name(vote))
    event = UEVENTS.get(vote)
    if event is not None:
        core.uevent(dev, "change", *event)


async def report_error_detected(
    core: PciCore, dev: PciDev, state: ChannelState, driverless: int = ErsResult.NO_AER_DRIVER
) -> int:
    """Set the channel state, ask the driver, send the uevent; returns the vote (4.3, first match wins).

    ``driverless`` is the vote of a function without ``error_detected``; a bridge without it has no opinion (T9).
    """
    async with dev.device_lock:
        vote = await _error_detected_vote(core, dev, state, driverless)
        pci_uevent_ers(core, dev, vote)
        return vote


async def _error_detected_vote(core: PciCore, dev: PciDev, state: ChannelState, driverless: int) -> int:
    if dev.disconnected:
        return ErsResult.DISCONNECT
    pci_dev_set_io_state(dev, state)  # cannot refuse: the test above has caught the only such state (T39)
    if handlers_of(dev).error_detected is not None:
        return await call_error_detected(core, dev, state)
    if dev.is_bridge:
        return ErsResult.NONE
    core.printk(INFO, dev, "AER: can't recover (no error_detected callback)")
    return driverless


async def call_error_detected(core: PciCore, dev: PciDev, state: ChannelState) -> int:
    """The driver's ``error_detected``, which must exist, with its trace record."""
    callback = handlers_of(dev).error_detected
    assert callback is not None
    answer = await callback(dev, state)
    _trace_callback(core, dev, "error_detected", _STATE_WORD[state], result_name(answer))
    return answer


async def report_mmio_enabled(core: PciCore, dev: PciDev) -> int | None:
    """Ask the driver's ``mmio_enabled``; None (no vote at all) if it has none. No state test, no uevent."""
    async with dev.device_lock:
        callback = handlers_of(dev).mmio_enabled
        if callback is None:
            return None
        answer = await callback(dev)
        _trace_callback(core, dev, "mmio_enabled", "", result_name(answer))
        return answer


async def report_slot_reset(core: PciCore, dev: PciDev) -> int | None:
    """Set the state to normal, ask ``slot_reset``; None if that is refused or there is no callback."""
    async with dev.device_lock:
        allowed = pci_dev_set_io_state(dev, ChannelState.NORMAL)
        callback = handlers_of(dev).slot_reset
        if not allowed or callback is None:
            return None
        answer = await callback(dev)
        _trace_callback(core, dev, "slot_reset", "", result_name(answer))
        return answer


async def report_resume(core: PciCore, dev: PciDev) -> None:
    """Set the state to normal, call ``resume`` if there is one; every device gets the uevent, bridges too."""
    async with dev.device_lock:
        core.kernel.trace("recovery.report", dev.name, "resume")
        allowed = pci_dev_set_io_state(dev, ChannelState.NORMAL)
        callback = handlers_of(dev).resume
        if allowed and callback is not None:
            await callback(dev)
            _trace_callback(core, dev, "resume", "", "")
        pci_uevent_ers(core, dev, ErsResult.RECOVERED)


async def report_perm_failure(core: PciCore, dev: PciDev) -> None:
    """Tell the driver that recovery failed; the answer is ignored and ``error_state`` stays (T13)."""
    async with dev.device_lock:
        core.kernel.trace("recovery.report", dev.name, "perm_failure")
        if handlers_of(dev).error_detected is not None:
            await call_error_detected(core, dev, ChannelState.PERM_FAILURE)
        pci_uevent_ers(core, dev, ErsResult.DISCONNECT)


def _trace_callback(core: PciCore, dev: PciDev, callback: str, state: str, answer: str) -> None:
    driver = dev.driver
    core.kernel.trace("pci.callback", dev.name, driver.name if driver else "", callback, state, answer)
