"""Recovery in the ``hardened`` profile: what the 2008 letter promises, by rules H14 to H25.

One incident, read from top to bottom: ``recover`` repeats rounds while new errors of the same source appear;
``_round`` sorts the functions into groups and takes the non-fatal or the frozen way; a group converses
phase by phase; whoever fails is killed, whatever is reset is restored and checked before anybody uses it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any

from dom0_pciback.aer.report import (
    report_error_detected,
    report_mmio_enabled,
    report_resume,
    report_slot_reset,
)
from dom0_pciback.aer.root_reset import aer_root_reset, bridge_of, devices_below
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pciback.groups import Group, Kind, Outcome, make_groups
from dom0_pciback.pciback.handlers import Callbacks
from dom0_pciback.pciback.pciback import Pciback
from dom0_pciback.pciback.profile import PCIBACK_BYSTANDER, PCIBACK_HARDENED, Situation
from dom0_pciback.pciback.resets import Resets
from dom0_pciback.pciback.restore import check, clear_all_status
from kernel_stub.kernel import DEBUG, INFO, WARNING
from protocol.ers import ChannelState, ErsResult, Phase, merge, result_name
from protocol.layout_aer import AER

ROUNDS_MAX = 3
_ALIVE_WITHOUT_VOTE = frozenset({Situation.NO_SHARED_PAGE_YOUNG, Situation.NOT_ASSIGNED})
_DETACHED = frozenset({Situation.DETACHED, Situation.NO_GUEST_ADDRESS})


class HardenedRecovery:
    """``recover`` takes the place of ``pcie_do_recovery`` in the AER core."""

    def __init__(self, core: PciCore, pciback: Pciback, callbacks: Callbacks, resets: Resets) -> None:
        self.core = core
        self.kernel = core.kernel
        self.pciback = pciback
        self.callbacks = callbacks
        self.resets = resets

    async def recover(self, dev: PciDev, state: ChannelState) -> int:
        """Recover from an uncorrectable error of ``dev``; returns the status of the source's group."""
        for number in range(1, ROUNDS_MAX + 1):
            self.callbacks.incident += 1
            before = self._uncorrectable(dev)
            status, new = await self._round(dev, state, before, last=number == ROUNDS_MAX)
            if not new:
                return status
            self.kernel.trace("recovery.round", dev.name, number + 1)
            state = ChannelState.FROZEN if new & self._severity(dev) else ChannelState.NORMAL
        return status

    async def _round(self, dev: PciDev, state: ChannelState, before: int, *, last: bool) -> tuple[int, int]:
        """One pass over all groups: (status of the source's group, error bits that are new since its start)."""
        bridge = bridge_of(dev)
        groups = make_groups(self.pciback, devices_below(bridge), self.callbacks.budget_ns)
        self.kernel.trace("recovery.begin", dev.name, state.name)
        if state is ChannelState.FROZEN:
            await self._frozen(bridge, groups)
        else:
            await self._each(groups, lambda group: self._converse(group, dev, bridge))
        new = self._uncorrectable(dev) & ~before
        if new and last:  # no end of errors: the guest does not get a fourth chance (errata 9.2 no. 14)
            await self._each(groups, lambda group: self._condemn(group, Outcome.KILLED))
        clear_all_status(self.core, dev)
        self._conclude(dev, bridge, groups)
        source = next((group for group in groups if dev in group.functions), groups[0] if groups else None)
        return source.status if source is not None else int(ErsResult.RECOVERED), 0 if last else new

    # -- the non-fatal way -------------------------------------------------------------------------
    async def _converse(self, group: Group, source: PciDev, bridge: PciDev) -> None:
        """A group's own conversation, waiting for no other group (H25)."""
        await self._phase(group, Phase.ERROR_DETECTED, ChannelState.NORMAL, source)
        if group.over or not group.asked():
            return
        if not group.voted:
            await self._nobody_voted(group, source)
            return
        if group.status == ErsResult.CAN_RECOVER:
            group.status = ErsResult.RECOVERED
            await self._phase(group, Phase.MMIO_ENABLED, ChannelState.NORMAL, source)
        if not group.over and group.status == ErsResult.NEED_RESET:
            if not await self._reset_group(group, source, bridge):
                return
            await self._after_reset(group, group.reset)
        elif not group.over:
            await self._finish(group, [source] if source in group.functions else [])

    async def _nobody_voted(self, group: Group, source: PciDev) -> None:
        """A bystander is left alone; the source is reset, restored and checked by dom0 (H13, 9.5)."""
        if source in group.asked():
            async with self.resets.lock(source):
                text = await self.resets.flr(source) or self._restore_and_check([source]).get(source, "")
            if text:
                await self._faulty(group, source, text)
            else:
                group.outcomes[source] = _ok(group)
                group.status = ErsResult.RECOVERED
        group.end(Outcome.UNTOUCHED)

    async def _reset_group(self, group: Group, source: PciDev, bridge: PciDev) -> bool:
        """H21: the bus if nobody else is below, else FLR of the functions that asked. False: the group is over."""
        whole_bus = all(self.pciback.owned_by(dev, group.owner) for dev in devices_below(bridge))
        if whole_bus and group.no_service:  # a bystander without handlers dies before its function is reset (H20)
            await self._condemn(group, Outcome.KILLED)
            return False
        async with self.resets.lock(source):
            if whole_bus:
                group.reset = list(devices_below(bridge))
                text = "" if await self._bus_reset(bridge) else "the bus reset failed"
            else:
                group.reset = group.asked()
                text = await self.resets.flr_all(group.reset)
            bad = {dev: text for dev in group.reset} if text else self._restore_and_check(group.reset)
        for dev, why in bad.items():
            await self._faulty(group, dev, why)
        return not group.over

    async def _after_reset(self, group: Group, functions: Iterable[PciDev]) -> None:
        """slot_reset, then the end; the vote must be RECOVERED (T4)."""
        group.status = ErsResult.RECOVERED
        await self._phase(group, Phase.SLOT_RESET, ChannelState.NORMAL, None)
        if not group.over:
            await self._finish(group, functions)

    async def _finish(self, group: Group, checked: Iterable[PciDev]) -> None:
        """resume if everything went well, a kill if not; what had an error or a reset is looked at again."""
        if group.status != ErsResult.RECOVERED:
            await self._condemn(group, Outcome.KILLED)
            return
        self.resets.allow_dma(group.asked())
        await self._phase(group, Phase.RESUME, ChannelState.NORMAL, None)
        for dev in checked if not group.over else ():
            if dev in group.reset and (text := check(self.core, dev, self.resets.image(dev))):
                await self._faulty(group, dev, text)
        for dev in group.asked():
            group.outcomes[dev] = _ok(group)

    # -- the frozen way ------------------------------------------------------------------------------
    async def _frozen(self, bridge: PciDev, groups: list[Group]) -> None:
        """Groups meet once, at the bus reset, which waits for condemned guests to be stopped (H17, H22)."""
        below = devices_below(bridge)
        async with self.resets.lock_of_port(bridge):
            self.resets.block_dma(below)
            await self._each(groups, lambda g: self._phase(g, Phase.ERROR_DETECTED, ChannelState.FROZEN, None))
            await self._await_condemned(groups)
            bad = {dev: "the link is dead" for dev in below}
            if await self._bus_reset(bridge):
                bad = self._restore_and_check(below)
        for group in groups:
            group.reset = list(group.functions)
            for dev in group.functions:
                if dev in bad:
                    await self._faulty(group, dev, bad[dev])
        alive = [group for group in groups if not group.over]
        await self._each(alive, lambda group: self._after_reset(group, group.functions))

    async def _await_condemned(self, groups: list[Group]) -> None:
        for group in groups:
            if group.owner is not None and group.over and Outcome.KILLED in group.outcomes.values():
                await self.pciback.wait_stopped(group.owner, self.pciback.host.timing.kill_deadline_ms)

    async def _bus_reset(self, bridge: PciDev) -> bool:
        """``aer_root_reset``, once more if it fails (errata 9.2 no. 14)."""
        for _ in range(2):
            if await aer_root_reset(self.core, bridge) == ErsResult.RECOVERED:
                return True
        self.core.printk(WARNING, bridge, "AER: subordinate device reset failed")
        return False

    def _restore_and_check(self, functions: Iterable[PciDev]) -> dict[PciDev, str]:
        """H18, H19: ports before what is below them; the functions that are not well, and why."""
        bad = {}
        for dev in functions:
            self.resets.restore(dev)
            if text := check(self.core, dev, self.resets.image(dev)):
                bad[dev] = text
        return bad

    # -- one phase ---------------------------------------------------------------------------------
    async def _phase(self, group: Group, phase: Phase, state: ChannelState, source: PciDev | None) -> None:
        """Ask every function of the group, one after the other, and merge what they say.

        ``source`` is given on the non-fatal way: every other function is a bystander there (H20).
        """
        self.core.printk(DEBUG, bridge_of(group.functions[0]), f"AER: broadcast {phase} message")
        self.kernel.trace("recovery.phase", group.functions[0].name, phase.value)
        for dev in group.asked():
            if dev in group.silent or group.over:
                continue
            vote = await self._vote(group, dev, phase, state, source)
            if vote is not None and vote != ErsResult.NONE:
                group.voted = True
                group.status = merge(group.status, vote)
            text = "" if vote is None else result_name(vote)
            self.kernel.trace("recovery.vote", dev.name, phase.value, text, result_name(group.status))

    async def _vote(
        self, group: Group, dev: PciDev, phase: Phase, state: ChannelState, source: PciDev | None
    ) -> int | None:
        if group.kind is Kind.NATIVE:
            return await self._native(dev, phase, state)
        bystander = source is not None and dev is not source
        table = PCIBACK_BYSTANDER if bystander else PCIBACK_HARDENED
        outcome = await self.callbacks.decide_phase(dev, phase, state, group.budget, table)
        if outcome.situation in _DETACHED:
            group.outcomes[dev] = Outcome.DETACHED
        elif outcome.decision.kill or outcome.situation is Situation.GUEST_DEAD:
            group.status = ErsResult.DISCONNECT
            group.end(Outcome.KILLED)
        elif outcome.vote == ErsResult.NONE:
            group.silent.append(dev)
            if outcome.situation not in _ALIVE_WITHOUT_VOTE:
                group.no_service.append(dev)
        return outcome.vote if phase is not Phase.RESUME else None

    async def _native(self, dev: PciDev, phase: Phase, state: ChannelState) -> int | None:
        """A function with a driver of dom0 itself: as the kernel's own walk does it."""
        if phase is Phase.ERROR_DETECTED:
            return await report_error_detected(self.core, dev, state)
        if phase is Phase.MMIO_ENABLED:
            return await report_mmio_enabled(self.core, dev)
        if phase is Phase.SLOT_RESET:
            return await report_slot_reset(self.core, dev)
        await report_resume(self.core, dev)
        return None

    # -- ends --------------------------------------------------------------------------------------
    async def _condemn(self, group: Group, outcome: Outcome) -> None:
        """The group has failed: its guest is reported for killing, once (H23)."""
        if group.over and Outcome.KILLED in group.outcomes.values():
            return
        if group.kind is Kind.GUEST:
            psdev = self.pciback.slots.get(group.functions[0].sbdf)
            if psdev is not None:
                await self.pciback.kill_domain_by_device(psdev, self.callbacks.incident)
        elif group.kind is Kind.NATIVE and outcome is Outcome.KILLED:
            outcome = Outcome.FAILED
        group.status = ErsResult.DISCONNECT
        group.end(outcome)

    async def _faulty(self, group: Group, dev: PciDev, why: str) -> None:
        """A function that cannot be used any more: nobody gets it (KILL-5), and its guest is killed."""
        self.core.printk(WARNING, dev, f"xen_pciback: {why}")
        psdev = self.pciback.slots.get(dev.sbdf)
        if psdev is not None:
            psdev.faulty = why
        was_over = group.over
        group.outcomes[dev] = Outcome.FAULTY
        if not was_over:
            await self._condemn(group, Outcome.KILLED)

    def _conclude(self, dev: PciDev, bridge: PciDev, groups: list[Group]) -> None:
        """One verdict line per group; with several groups the functions are named (H14)."""
        several = len(groups) > 1
        for group in groups:
            verdict = group.verdict()
            self.core.printk(INFO, bridge, f"AER: device recovery {verdict}{': ' + group.names() if several else ''}")
            for each in group.functions:
                self.kernel.trace("recovery.outcome", each.name, str(group.outcomes.get(each, _ok(group))))
            subject = dev.name if dev in group.functions else group.functions[0].name
            self.kernel.trace("recovery.end", subject, result_name(group.status), verdict)

    async def _each(self, groups: list[Group], body: Any) -> None:
        """Run ``body(group)`` for all groups at the same time and wait for the last (H25)."""
        if len(groups) == 1:
            await body(groups[0])
            return
        tasks = [self.kernel.spawn(_call(body, group), f"recovery of {group.functions[0].name}") for group in groups]
        for task in tasks:
            await self.kernel.join(task)

    def _uncorrectable(self, dev: PciDev) -> int:
        """Unmasked uncorrectable status; 0 for a function that does not answer."""
        if not dev.aer:
            return 0
        status = self.core.read(dev, dev.aer + AER.UNCOR_STATUS, 4)
        return 0 if status == 0xFFFFFFFF else status & ~self.core.read(dev, dev.aer + AER.UNCOR_MASK, 4)

    def _severity(self, dev: PciDev) -> int:
        return self.core.read(dev, dev.aer + AER.UNCOR_SEVER, 4) if dev.aer else 0


async def _call(body: Any, group: Group) -> None:
    call: Coroutine[Any, Any, None] = body(group)
    await call


def _ok(group: Group) -> Outcome:
    return Outcome.UNASSIGNED_OK if group.kind is Kind.NOBODY else Outcome.RECOVERED
