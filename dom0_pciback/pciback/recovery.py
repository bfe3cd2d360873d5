"""Recovery in the ``hardened`` profile: what the 2008 letter promises, by rules H14 to H25.

One incident, read from top to bottom: ``recover`` repeats rounds while new errors of the same source appear;
``_round`` sorts the functions into groups and takes the non-fatal or the frozen way; a group converses
phase by phase; whoever fails is killed, whatever is reset is restored and checked before anybody uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from dom0_pciback.aer import report
from dom0_pciback.aer.names import UNCOR_NAMES
from dom0_pciback.aer.recovery import ResetSubordinates
from dom0_pciback.aer.root_reset import aer_root_reset, bridge_of, devices_below
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pciback.ask import Budget
from dom0_pciback.pciback.containment import Containments
from dom0_pciback.pciback.groups import Group, Kind, Outcome, Owner, Round, make_groups
from dom0_pciback.pciback.handlers import Callbacks
from dom0_pciback.pciback.pciback import Pciback
from dom0_pciback.pciback.profile import Defect, Situation
from dom0_pciback.pciback.resets import Resets
from dom0_pciback.pciback.restore import check, clear_recovered_status, gone
from kernel_stub.kernel import DEBUG, INFO, WARNING
from kernel_stub.sync import NoLock
from protocol.ers import ChannelState, ErsResult, Phase, merge, result_name
from protocol.layout_aer import AER

ROUNDS_MAX = 3

# Looking a member up in its class takes as long as a call.
_NORMAL, _FROZEN = ChannelState.NORMAL, ChannelState.FROZEN
_ERROR_DETECTED, _MMIO_ENABLED, _SLOT_RESET, _RESUME = Phase
_NONE, _CAN_RECOVER, _NEED_RESET, _RECOVERED = (
    ErsResult.NONE,
    ErsResult.CAN_RECOVER,
    ErsResult.NEED_RESET,
    ErsResult.RECOVERED,
)
_NATIVE, _NOBODY, _WELL = Kind.NATIVE, Kind.NOBODY, Outcome.RECOVERED
_D23, _GUEST_DEAD = Defect.D23, Situation.GUEST_DEAD

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
        self.look_again: Callable[[tuple[PciDev, ...], PciDev, PciDev], None] = lambda reset, bridge, source: None
        self.containments = Containments(core)
        pciback.superseded = self.containments.supersede
        self._covered: set[PciDev] = set()  # the message of their last error is still queued, the error is dealt with

    async def recover(self, dev: PciDev, state: ChannelState, reset: ResetSubordinates = aer_root_reset) -> int:
        """Recover from an uncorrectable error of ``dev``; returns the status of the source's group.

        ``reset`` serves every reset of the whole bus; DPC has another one than AER.
        """
        if self._is_covered(dev):
            return _RECOVERED
        bridge = bridge_of(dev)
        async with self.resets.recovering(bridge):
            with self.containments.recovering(bridge):
                return await self._rounds(dev, bridge, state, reset)

    async def _rounds(self, dev: PciDev, bridge: PciDev, state: ChannelState, reset: ResetSubordinates) -> int:
        """At most ``ROUNDS_MAX`` passes, all of them within one budget per guest."""
        budgets = dict[Owner, Budget]()
        for number in range(1, ROUNDS_MAX + 1):
            self.callbacks.incident += 1
            groups = make_groups(self.pciback, devices_below(bridge), budgets, self.callbacks.budget_ns)
            this = Round(dev, bridge, groups, self._uncorrectable(dev), reset)
            again = await self._round(this, state, last=number == ROUNDS_MAX)
            if again is None:
                break
            state = again
            self.kernel.trace("recovery.round", dev.name, number + 1)
        return this.status()

    def _is_covered(self, dev: PciDev) -> bool:
        """A fatal error that came during a recovery was handled there at once; its message finds nothing left."""
        covered = dev in self._covered and not self._uncorrectable(dev)
        self._covered.discard(dev)
        return covered

    async def _round(self, this: Round, state: ChannelState, *, last: bool) -> ChannelState | None:
        """One pass over all groups: the state in which the next one has to start, None if there is none."""
        self.kernel.trace("recovery.begin", this.source.name, state.name)
        if state is _FROZEN:
            await self._frozen(this)
        else:
            await self._each(this.groups, lambda group: self._converse(group, this))
        again = self._again(this)
        later = self._new_errors(this) if again is None else 0  # nobody was left: for the message that is still queued
        if again is not None and last:  # no end of errors: no fourth chance (errata 9.2 no. 14)
            for group in this.concerned():
                group.reopen()
            await self._each(this.concerned(), lambda group: self._condemn(group, Outcome.KILLED))
            again = None
        if again is _FROZEN:
            self._covered.add(this.source)
        clear_recovered_status(self.core, this.source, later)
        await self._tell_survivors(this.groups)
        if again is not _FROZEN or state is _FROZEN:
            self._conclude(this)  # a non-fatal round that a fatal error has cut short has no verdict of its own
        return again

    def _new_errors(self, this: Round) -> int:
        return self._uncorrectable(this.source) & ~this.before

    def _again(self, this: Round) -> ChannelState | None:
        """New error bits of the source mean one more round, unless nobody is left whom it would help."""
        new = self._new_errors(this)
        if not new or all(group.over for group in this.concerned()):
            return None
        return _FROZEN if new & self._severity(this.source) else _NORMAL

    def _stops(self, group: Group, this: Round) -> bool:
        """Nothing more for this group in a non-fatal round: it has ended, or the source has become worse."""
        new = self._new_errors(this)
        return group.over or not group.asked() or bool(new and new & self._severity(this.source))

    # -- the non-fatal way -------------------------------------------------------------------------
    async def _converse(self, group: Group, this: Round) -> None:
        """A group's own conversation, waiting for no other group (H25)."""
        await self._phase(group, _ERROR_DETECTED, _NORMAL, this.source)
        if self._stops(group, this):
            return
        if not group.voted:
            await self._nobody_voted(group, this)
            return
        if group.status == _CAN_RECOVER:
            group.status = _RECOVERED
            await self._phase(group, _MMIO_ENABLED, _NORMAL, this.source)
            if self._stops(group, this):
                return
        if group.status == _NEED_RESET:
            if await self._reset_group(group, this):
                await self._after_reset(group, group.reset)
        else:
            await self._finish(group, [])

    async def _nobody_voted(self, group: Group, this: Round) -> None:
        """A bystander is left alone; the source is reset, restored and checked by dom0 (H13, 9.5)."""
        group.status = _RECOVERED
        if this.source in group.asked():
            async with self.resets.subtree(this.bridge):
                hit, text = await self._reset_source(group, this)
                bad = dict.fromkeys(hit, text) if text else self._restore_and_check(hit)
            this.before = 0
            await self._after_hit(hit, bad, this)
            group.outcomes.setdefault(this.source, _ok(group))
        group.end(Outcome.UNTOUCHED)

    async def _reset_source(self, group: Group, this: Round) -> tuple[list[PciDev], str]:
        """FLR; without it the bus, if nobody else is below (H21): whom it hit, and why it failed."""
        text = await self.resets.flr(this.source)
        if text and self._whole_bus(group, this):
            return list(devices_below(this.bridge)), "" if await self._bus_reset(this) else text
        return [this.source], text

    def _whole_bus(self, group: Group, this: Round) -> bool:
        """All functions below belong to the group's owner or to nobody."""
        return all(self.pciback.owned_by(dev, group.owner) for dev in devices_below(this.bridge))

    async def _reset_group(self, group: Group, this: Round) -> bool:
        """H21: the bus if nobody else is below, else FLR of the functions that asked. False: the group is over."""
        whole_bus = self._whole_bus(group, this)
        if whole_bus and group.no_service:  # a bystander without handlers dies before its function is reset (H20)
            await self._condemn(group, Outcome.KILLED)
            return False
        async with self.resets.subtree(this.bridge):
            if whole_bus:
                hit = list(devices_below(this.bridge))
                text = "" if await self._bus_reset(this) else "the bus reset failed"
            else:
                hit = [dev for dev in group.asked() if dev in group.asks_reset]
                text = await self.resets.flr_all(hit)
            bad = dict.fromkeys(hit, text) if text else self._restore_and_check(hit)
        if this.source in hit:
            this.before = 0
        await self._after_hit(hit, bad, this)
        return not group.over

    async def _after_hit(self, hit: list[PciDev], bad: dict[PciDev, str], this: Round) -> None:
        """Who was reset: a function of nobody is done with it, whoever asked; one that is not well is faulty."""
        for dev in hit:
            group = this.group_of(dev)
            group.reset.append(dev)
            if (lost := self._lost(dev)) is not None:
                group.outcomes.setdefault(dev, lost)
            elif dev in bad:
                await self._faulty(group, dev, bad[dev])
            elif group.kind is _NOBODY:
                group.outcomes[dev] = Outcome.UNASSIGNED_OK

    async def _after_reset(self, group: Group, functions: Iterable[PciDev]) -> None:
        """slot_reset, then the end; the vote must be RECOVERED (T4)."""
        group.status = _RECOVERED
        await self._phase(group, _SLOT_RESET, _NORMAL, None)
        if not group.over and group.asked():
            await self._finish(group, functions)

    async def _finish(self, group: Group, checked: Iterable[PciDev]) -> None:
        """resume if everything went well, a kill if not; what was reset is looked at again, all others must answer."""
        if group.status != _RECOVERED:
            await self._condemn(group, Outcome.KILLED)
            return
        self.resets.allow_dma(dev for dev in group.asked() if not self.pciback.departing(dev))
        await self._phase(group, _RESUME, _NORMAL, None)
        looked_at = list(checked)
        for dev in group.asked():
            if (lost := self._lost(dev)) is not None:
                group.outcomes[dev] = lost
                continue
            again = dev in looked_at
            if again and dev in group.silent and self.pciback.owned_by(dev, None):
                group.outcomes[dev] = Outcome.UNASSIGNED_OK  # given back before it was asked; it was looked at
                continue
            text = check(self.core, dev, self.resets.image(dev), again=True) if again else gone(self.core, dev)
            if text:
                await self._faulty(group, dev, text)
        for dev in group.asked():
            alone = dev in group.silent and dev not in group.reset
            group.outcomes[dev] = Outcome.UNTOUCHED if alone else _ok(group)

    # -- the frozen way ------------------------------------------------------------------------------
    async def _frozen(self, this: Round) -> None:
        """Groups meet once, at the bus reset, which waits for condemned guests to be stopped (H17, H22)."""
        below, groups = list(devices_below(this.bridge)), this.groups
        async with self.resets.subtree(this.bridge):
            self.resets.block_dma(below)
            await self._each(groups, lambda g: self._phase(g, _ERROR_DETECTED, _FROZEN, None))
            await self._await_condemned(groups)
            bad = dict.fromkeys(below, "the link is dead")
            if await self._bus_reset(this):
                self._log_status(this.source)
                bad = self._restore_and_check(below)
            if this.source in below:
                this.before = 0
        await self._after_hit(below, bad, this)
        alive = [group for group in groups if not group.over]
        await self._each(alive, lambda group: self._after_reset(group, group.functions))

    def _log_status(self, dev: PciDev) -> None:
        """Sticky bits say which fatal error it was, now that the device can be read again (errata 9.2 no. 9)."""
        status = self._uncorrectable(dev)
        names = ", ".join(str(UNCOR_NAMES.get(bit, bit)) for bit in range(32) if status >> bit & 1)
        if names:
            self.core.printk(WARNING, dev, f"AER: status after the reset {status:08x}: {names}")

    async def _await_condemned(self, groups: list[Group]) -> None:
        for group in groups:
            killed = group.owner is not None and group.over and Outcome.KILLED in group.outcomes.values()
            if killed and group.owner is not None and not self.pciback.lives_on(group.owner):
                await self.pciback.wait_stopped(group.owner, self.pciback.host.timing.kill_deadline_ms)

    async def _bus_reset(self, this: Round) -> bool:
        """``aer_root_reset`` or its like, once more if it fails (errata 9.2 no. 14)."""
        for _ in range(2):
            done = await this.reset(self.core, this.bridge) == _RECOVERED
            if this.reset is aer_root_reset:
                self.look_again(devices_below(this.bridge), this.bridge, this.source)
            if done:
                self.containments.released(this.bridge)
                return True
        self.core.printk(WARNING, this.bridge, "AER: subordinate device reset failed")
        return False

    def _restore_and_check(self, functions: Iterable[PciDev]) -> dict[PciDev, str]:
        """H18, H19: ports before what is below them; the functions that are not well, and why."""
        bad = {}
        for dev in functions:
            if self._lost(dev) is not None:
                continue
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
        self.kernel.trace("recovery.phase", group.functions[0].name, phase)
        for dev in group.asked():
            if (lost := self._lost(dev)) is not None:
                group.outcomes[dev] = lost
                continue
            if dev in group.silent or group.over or (phase is _SLOT_RESET and dev not in group.reset):
                continue
            vote = await self._vote(group, dev, phase, state, source)
            if vote is not None and vote != _NONE:
                group.voted = True
                if vote == _NEED_RESET:
                    group.asks_reset.append(dev)
                group.status = merge(group.status, vote)
            text = "" if vote is None else result_name(vote)
            self.kernel.trace("recovery.vote", dev.name, phase, text, result_name(group.status))

    def _lost(self, dev: PciDev) -> Outcome | None:
        """What has taken a function out of the recovery, through no fault of its own, and is nobody's success.

        Its slot has lost it or is about to take it away (linux-aer.md 4.10), which is like a detach (H11); or its port
        is contained.
        """
        if dev.disconnected or self.core.devices.get(dev.sbdf) is not dev:
            return Outcome.DETACHED
        return Outcome.SUPERSEDED if self.containments.supersede(dev) else None

    async def _vote(
        self, group: Group, dev: PciDev, phase: Phase, state: ChannelState, source: PciDev | None
    ) -> int | None:
        if group.kind is _NATIVE:
            return await self._native(dev, phase, state)
        bystander = source is not None and dev is not source
        table = self.callbacks.bystander_table if bystander else self.callbacks.table
        # D23: whoever seizes or resets the function holds its lock, and the whole recovery waits for that.
        stalled = dev.device_lock if self.pciback.profile.has(_D23) else NoLock()
        async with stalled, self.pciback.assignments:
            outcome = await self.callbacks.decide_phase(dev, phase, state, group.budget, table)
        given_back = outcome.situation is Situation.NOT_ASSIGNED and phase is not _ERROR_DETECTED
        if outcome.decision.kill or outcome.situation is _GUEST_DEAD:
            group.status = ErsResult.DISCONNECT
            group.end(Outcome.KILLED)
        elif (outcome.situation in _DETACHED or given_back) and not self.pciback.profile.has(Defect.D11):
            group.outcomes[dev] = Outcome.DETACHED
        elif outcome.situation is Situation.CONTAINED:
            group.outcomes[dev] = Outcome.SUPERSEDED
        elif outcome.vote == _NONE:
            group.silent.append(dev)
            if outcome.situation not in _ALIVE_WITHOUT_VOTE:
                group.no_service.append(dev)
        return outcome.vote if phase is not _RESUME else None

    async def _native(self, dev: PciDev, phase: Phase, state: ChannelState) -> int | None:
        """A function with a driver of dom0 itself: as the kernel's own walk does it."""
        if phase is _ERROR_DETECTED:
            return await report.report_error_detected(self.core, dev, state)
        if phase is _MMIO_ENABLED:
            return await report.report_mmio_enabled(self.core, dev)
        if phase is _SLOT_RESET:
            return await report.report_slot_reset(self.core, dev)
        await report.report_resume(self.core, dev)
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
        elif group.kind is _NATIVE and outcome is Outcome.KILLED:
            outcome = Outcome.FAILED
        group.status = ErsResult.DISCONNECT
        group.end(outcome)

    async def _faulty(self, group: Group, dev: PciDev, why: str) -> None:
        """A function that cannot be used any more: nobody gets it (KILL-5), and its guest is killed."""
        self.core.printk(WARNING, dev, f"xen_pciback: {why}")
        psdev = self.pciback.slots.get(dev.sbdf)
        if psdev is not None:
            await self.pciback.mark_faulty(psdev, why)
        was_over = group.over
        group.outcomes[dev] = Outcome.FAULTY
        if not was_over:
            await self._condemn(group, Outcome.KILLED)

    async def _tell_survivors(self, groups: list[Group]) -> None:
        """A guest that failed and that its policy lets live hears of it once, whatever it answers (9.2 no. 3)."""
        for group in groups:
            if group.owner is not None and group.verdict() == "failed" and self.pciback.lives_on(group.owner):
                for dev in group.functions:
                    await self.callbacks.tell_perm_failure(dev, group.budget)

    def _conclude(self, this: Round) -> None:
        """One verdict line per group; with several groups the functions are named (H14)."""
        source, groups = this.source, [group for group in this.groups if not group.only_ports()] or this.groups
        several = len(groups) > 1
        if not groups:  # all that was below has been taken out: the kernel's own walk over nothing is a success
            self.core.printk(INFO, this.bridge, "AER: device recovery successful")
            self.kernel.trace("recovery.end", source.name, result_name(_RECOVERED), "successful")
        for group in groups:
            verdict = group.verdict()
            if verdict == "abandoned":
                group.status = _NONE
            names = f": {group.names()}" if several else ""
            self.core.printk(INFO, this.bridge, f"AER: device recovery {verdict}{names}")
            for each in group.functions:
                self.kernel.trace("recovery.outcome", each.name, str(group.outcomes.get(each, _ok(group))))
            subject = source.name if source in group.functions or not several else group.functions[0].name
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
    return Outcome.UNASSIGNED_OK if group.kind is _NOBODY else _WELL
