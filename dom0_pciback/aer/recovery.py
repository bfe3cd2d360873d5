"""The recovery conversation as tables, one per kernel generation, and their interpreter (``pcie_do_recovery``).

A step is skipped unless the accumulated status, or the channel state, is among those it names. A broadcast
asks every device of the walk and merges the votes; a reset that fails ends the recovery. It is successful when
it reaches RESUME, which only status RECOVERED does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from dom0_pciback.aer.report import (
    pci_uevent_ers,
    report_error_detected,
    report_mmio_enabled,
    report_perm_failure,
    report_resume,
    report_slot_reset,
)
from dom0_pciback.aer.root_reset import aer_root_reset, bridge_of, devices_below
from dom0_pciback.aer.status import clear_status
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import DEBUG, INFO, WARNING
from protocol.ers import ChannelState, ErsResult, Phase, merge, result_name

ANY: frozenset[int] = frozenset(ErsResult)
NEVER: frozenset[int] = frozenset()
KEPT = None
RESET = "reset_subordinates"

_CAN_RECOVER, _NEED_RESET, _RECOVERED = ErsResult.CAN_RECOVER, ErsResult.NEED_RESET, ErsResult.RECOVERED
_FROZEN = frozenset({ChannelState.FROZEN})


class Step(NamedTuple):
    """A row: ``action`` (a phase or RESET) runs if the status is in ``status_in`` or the channel in ``channel_in``.

    ``becomes`` is what the accumulated status is set to before the votes; KEPT leaves it. The action is the
    row's label in logs and traces.
    """

    action: str
    status_in: frozenset[int]
    channel_in: frozenset[int]
    becomes: int | None


class Generation(NamedTuple):
    """How one kernel generation recovers.

    ``driverless`` is the vote of a function without ``error_detected``. A failed recovery calls every driver
    with ``perm_failure`` (``tell_drivers``) or only sends FAILED_RECOVERY for the bridge (``tell_bridge``).
    """

    name: str
    steps: tuple[Step, ...]
    driverless: int
    tell_drivers: bool
    tell_bridge: bool


# Rows of each table are tried from top to bottom, each at most once.
_STEPS_LINUX_7_2 = (
    #    action                runs if status in          or channel in  status becomes   linux-aer.md 4.2
    Step(Phase.ERROR_DETECTED, ANY, NEVER, KEPT),  # step 2
    Step(Phase.MMIO_ENABLED, frozenset({_CAN_RECOVER}), NEVER, _RECOVERED),  # step 3
    Step(RESET, frozenset({_NEED_RESET}), _FROZEN, KEPT),  # step 4, failure ends it
    Step(Phase.SLOT_RESET, frozenset({_NEED_RESET}), NEVER, _RECOVERED),  # step 5
    Step(Phase.RESUME, frozenset({_RECOVERED}), NEVER, KEPT),  # steps 6 and 7
)

# Older kernels reset before mmio_enabled, only for a frozen channel, and never for a vote (section 14).
_STEPS_LINUX_6_1 = (
    Step(Phase.ERROR_DETECTED, ANY, NEVER, KEPT),
    Step(RESET, NEVER, _FROZEN, KEPT),
    Step(Phase.MMIO_ENABLED, frozenset({_CAN_RECOVER}), NEVER, _RECOVERED),
    Step(Phase.SLOT_RESET, frozenset({_NEED_RESET}), NEVER, _RECOVERED),
    Step(Phase.RESUME, frozenset({_RECOVERED}), NEVER, KEPT),
)

_NO_AER_DRIVER, _NONE = ErsResult.NO_AER_DRIVER, ErsResult.NONE

# linux-2.6.27 is the kernel of the 2008 patches: the steps of 6.1, but a function without handler has no
# opinion, and nobody is told of a failure. UNVERIFIED: no recording of that kernel exists.
GENERATIONS = {
    generation.name: generation
    for generation in (
        #          name            steps             driverless      drivers  bridge
        Generation("linux-7.2", _STEPS_LINUX_7_2, _NO_AER_DRIVER, True, False),
        Generation("linux-6.1", _STEPS_LINUX_6_1, _NO_AER_DRIVER, False, True),
        Generation("linux-2.6.27", _STEPS_LINUX_6_1, _NONE, False, False),
    )
}

Report = Callable[[PciDev], Awaitable[int | None]]
ResetSubordinates = Callable[[PciCore, PciDev], Awaitable[int]]


async def pcie_do_recovery(
    core: PciCore,
    generation: Generation,
    dev: PciDev,
    state: ChannelState,
    reset_subordinates: ResetSubordinates = aer_root_reset,
) -> int:
    """Recover from an uncorrectable error of ``dev`` with the channel ``NORMAL`` or ``FROZEN``.

    Returns the final status, which may be RECOVERED although the recovery failed (T14). The verdict is in
    the log, on the bridge (T15), and in the ``recovery.end`` record.
    """
    bridge = bridge_of(dev)
    core.kernel.trace("recovery.begin", dev.name, state.name)
    core.hierarchy.wake(bridge.sbdf)  # pm_runtime_get_sync, step 1
    core.bus_sem.down_read()
    try:
        status, done = await _run_steps(core, generation, bridge, state, reset_subordinates)
        if done:
            clear_status(core, dev)
        else:
            await _tell_failure(core, generation, bridge)
    finally:
        core.bus_sem.up_read()
    verdict = "successful" if done else "failed"
    core.printk(INFO, bridge, f"AER: device recovery {verdict}")
    core.kernel.trace("recovery.end", dev.name, result_name(status), verdict)
    return status


async def _run_steps(
    core: PciCore, generation: Generation, bridge: PciDev, state: ChannelState, reset_subordinates: ResetSubordinates
) -> tuple[int, bool]:
    """Interpret the table: the final status, and whether the resume step ran."""
    status: int = _CAN_RECOVER
    for action, status_in, channel_in, becomes in generation.steps:
        if status not in status_in and state not in channel_in:
            continue
        status = status if becomes is KEPT else becomes
        if action is not RESET:
            status = await broadcast(core, bridge, Phase(action), status, state, generation.driverless)
        elif await reset_subordinates(core, bridge) != _RECOVERED:
            core.printk(WARNING, bridge, "AER: subordinate device reset failed")
            return status, False
        if action is Phase.RESUME:
            return status, True
    return status, False


async def broadcast(
    core: PciCore, bridge: PciDev, phase: Phase, status: int, state: ChannelState, driverless: int = _NO_AER_DRIVER
) -> int:
    """Walk the devices below ``bridge`` with one phase and merge their votes into ``status``."""
    kernel = core.kernel
    core.printk(DEBUG, bridge, f"AER: broadcast {phase} message")
    kernel.trace("recovery.phase", bridge.name, phase)
    for dev in devices_below(bridge):
        if phase is Phase.RESUME:
            await report_resume(core, dev)
            continue
        if phase is Phase.ERROR_DETECTED:
            vote: int | None = await report_error_detected(core, dev, state, driverless)
        else:
            vote = await (report_mmio_enabled if phase is Phase.MMIO_ENABLED else report_slot_reset)(core, dev)
        if vote is not None:
            status = merge(status, vote)
        if phase is Phase.ERROR_DETECTED:
            kernel.trace("recovery.detected", dev.name, state.name, result_name(status))
        kernel.trace("recovery.vote", dev.name, phase, "" if vote is None else result_name(vote), result_name(status))
    return status


async def _tell_failure(core: PciCore, generation: Generation, bridge: PciDev) -> None:
    if generation.tell_drivers:
        for dev in devices_below(bridge):
            await report_perm_failure(core, dev)
    if generation.tell_bridge:
        pci_uevent_ers(core, bridge, ErsResult.DISCONNECT)
