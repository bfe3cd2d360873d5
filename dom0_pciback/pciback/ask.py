"""Asking a guest: ``common_process()`` (xen-pci.md 4.5), with what ``hardened`` does instead (H1 to H10).

A request is written into the ``aer_op`` slot, the flag set, the event channel rung; then the task waits until
the guest has cleared the flag, has died, gives the device back, or has used up its time. The outcome is a
``Situation`` of ``profile`` and, if the guest answered, the answer.
"""

from __future__ import annotations

from functools import lru_cache

from dom0_pciback.pciback.backend import XenPcibkDevice
from dom0_pciback.pciback.events import BackendEvents
from dom0_pciback.pciback.profile import Defect, Situation, situation_of
from dom0_pciback.pciback.stub import PcistubDevice
from dom0_pciback.pciback.vpci import GuestAddress
from kernel_stub.kernel import DEBUG, MS
from protocol.channel import Channel
from protocol.ers import ChannelState, ErsResult, Phase
from protocol.sharedinfo import PCIB_ACTIVE, PciOp

OP_OF_PHASE: dict[Phase, PciOp] = {
    Phase.ERROR_DETECTED: PciOp.AER_DETECTED,
    Phase.MMIO_ENABLED: PciOp.AER_MMIO,
    Phase.SLOT_RESET: PciOp.AER_SLOTRESET,
    Phase.RESUME: PciOp.AER_RESUME,
}

# Looking a member up in its class takes as long as a call.
_D2, _D4, _D9, _D10, _D20, _D21 = Defect.D2, Defect.D4, Defect.D9, Defect.D10, Defect.D20, Defect.D21
_TIMEOUT, _ANSWER_INVALID, _RESUME = Situation.TIMEOUT, Situation.ANSWER_INVALID, Phase.RESUME

LINES_KEPT = 256  # of the log: the same questions are put to the same functions again and again
END_KNOWN = 1_000 * MS  # by then a supervisor has told of a guest's death

Answer = tuple[Situation, int]


class Budget:
    """The time that one guest may take in one incident, over all phases (H25), in nanoseconds.

    Time in which the operator has paused the guest does not count, up to ``extra`` (errata 9.2 no. 15).
    """

    __slots__ = ("extra", "left")

    def __init__(self, ns: int, extra: int | None = None) -> None:
        self.left = ns
        self.extra = ns if extra is None else extra

    def spend(self, elapsed: int, paused: int) -> None:
        """A question took ``elapsed`` ns, in ``paused`` of which the guest could not answer."""
        credit = min(paused, self.extra)
        self.extra -= credit
        self.left -= max(elapsed - credit, 0)


async def ask(psdev: PcistubDevice, phase: Phase, state: ChannelState, budget: Budget, grace: int) -> Answer:
    """Put one phase to the guest that has ``psdev``; ``grace`` is how long a new guest may be connecting.

    One request per page: devices of one guest take turns, other guests are not waited for (H1).
    """
    pdev = psdev.pdev
    if pdev is None:
        return Situation.NOT_ASSIGNED, 0
    if psdev.young_since is not None and pdev.pciback.profile.hardened:
        await _taken_up(psdev, pdev, psdev.young_since + grace)
    if not pdev.pciback.profile.has(_D2):
        await _known_end(pdev)
    if (found := _before(psdev, pdev, grace)) is not None:
        return found, 0
    async with pdev.aer_slot:
        if (found := _before(psdev, pdev, grace)) is not None:  # it may have changed while others were asked
            return found, 0
        return await _common_process(psdev, pdev, phase, state, budget)


async def _taken_up(psdev: PcistubDevice, pdev: XenPcibkDevice, deadline: int) -> None:
    """A guest that is just looking for its devices is asked once it has found them (H13)."""
    progress, now = pdev.pciback.progress, pdev.kernel.now
    while psdev.young_since is not None and pdev.introduced and not (psdev.detaching or pdev.stopped or pdev.condemned):
        if now() >= deadline or psdev.pdev is not pdev:
            return
        await progress.wait(deadline)


async def _known_end(pdev: XenPcibkDevice) -> None:
    """A channel that is lost belongs to a guest that has died, mostly: its supervisor tells within moments.

    A guest that lives on without it has broken the protocol or closed (X33, X48), and is killed for that.
    """
    if pdev.lost and not pdev.leaving:
        deadline = pdev.kernel.now() + END_KNOWN
        await pdev.pciback.progress.wait_until(lambda: bool(pdev.stopped) or pdev.leaving, deadline)


def _before(psdev: PcistubDevice, pdev: XenPcibkDevice, grace: int) -> Situation | None:
    """What keeps pciback from asking; first row wins. None: ask."""
    if psdev.detaching:
        forgotten = pdev.vbus.guest_address(psdev.dev.sbdf) is None and pdev.pciback.profile.has(_D20)
        return Situation.NO_GUEST_ADDRESS if forgotten else Situation.DETACHED
    if pdev.stopped or pdev.condemned:
        return Situation.GUEST_DEAD
    if pdev.mute:
        return _TIMEOUT
    if psdev.young_since is not None and not pdev.introduced:
        young = pdev.kernel.now() - psdev.young_since < grace and pdev.pciback.may_connect(pdev.domid)
        if young and not pdev.pciback.profile.has(_D21):
            return Situation.NO_SHARED_PAGE_YOUNG
    if pdev.channel is None or (pdev.going and not pdev.pciback.profile.has(_D2)):
        return Situation.NO_SHARED_PAGE
    if not pdev.serves_aer():
        return Situation.NO_AER_HANDLER
    return None if pdev.vbus.guest_address(psdev.dev.sbdf) is not None else Situation.NO_GUEST_ADDRESS


async def _common_process(
    psdev: PcistubDevice, pdev: XenPcibkDevice, phase: Phase, state: ChannelState, budget: Budget
) -> Answer:
    address, channel, worker = pdev.vbus.guest_address(psdev.dev.sbdf), pdev.channel, pdev.worker
    assert address is not None
    assert channel is not None
    assert worker is not None
    kernel, page, events = pdev.kernel, channel.page, worker.events
    cmd = OP_OF_PHASE[phase]
    kernel.printk(DEBUG, _asked_line(psdev.dev.prefix, phase, address))
    kernel.trace("pciback.ask", psdev.dev.name, phase, state)
    page.write_aer(cmd, state, *address)
    events.op_pending = True
    page.set_bit(PCIB_ACTIVE)
    channel.notify()
    events.eoi()  # so that the answer can come in
    begin, paused = kernel.now(), pdev.paused_ns()
    if pdev.pciback.profile.has(_D2):
        situation = await _wait_blindly(pdev, channel, events, begin + budget.left)
    else:
        situation = await _wait(psdev, pdev, channel, events, budget)
    budget.spend(kernel.now() - begin, pdev.paused_ns() - paused)
    pdev.mute = situation is _TIMEOUT and not pdev.pciback.profile.has(_D10)
    answer = _conclude(situation, channel, events, keep_pending=pdev.pciback.profile.has(_D4))
    if answer[0] is _ANSWER_INVALID:
        pdev.share.refuse("answer", f"{answer[1]} to {phase}")
    own = phase is not _RESUME and not pdev.pciback.profile.has(_D9)  # resume has no answer of its own
    if situation is None and answer[1] == state and own:
        events.reply_equals_request += 1
    kernel.trace("pciback.answer", psdev.dev.name, phase, answer[1], answer[0])
    return answer


@lru_cache(LINES_KEPT)
def _asked_line(prefix: str, phase: Phase, address: GuestAddress) -> str:
    domain, bus, devfn = address
    return f"{prefix}xen_pciback: aer_op {OP_OF_PHASE[phase]:x} dom {domain:x} bus {bus:x} devfn {devfn:x}"


async def _wait(
    psdev: PcistubDevice, pdev: XenPcibkDevice, channel: Channel, events: BackendEvents, budget: Budget
) -> Situation | None:
    """None: the guest has cleared the flag. A dead guest and a detach are noticed at once (H2, H11)."""
    data, now = channel.page.data, pdev.kernel.now
    begin, paused = now(), pdev.paused_ns()
    while data[0] & 1 << PCIB_ACTIVE:
        if psdev.detaching:
            return Situation.DETACHED
        if pdev.lost or pdev.leaving:
            await _known_end(pdev)
            return Situation.GUEST_DEAD if pdev.stopped else Situation.CHANNEL_LOST
        if pdev.stopped:
            return Situation.GUEST_DEAD
        credit = budget.extra if pdev.paused_at is not None else min(pdev.paused_ns() - paused, budget.extra)
        deadline = begin + budget.left + credit
        if now() >= deadline:
            return _TIMEOUT
        await events.answered.wait(deadline)
    if not pdev.pciback.profile.hardened:
        return None
    if psdev.dev.disconnected:  # pulled out: what a driver says of that does not count
        return Situation.DETACHED
    return Situation.CONTAINED if pdev.pciback.superseded(psdev.dev) else None


async def _wait_blindly(
    pdev: XenPcibkDevice, channel: Channel, events: BackendEvents, deadline: int
) -> Situation | None:
    """``wait_event_timeout`` on a page that nobody holds (D2): only the flag and the time end it.

    Whoever looks at the flag after a disconnect has unmapped the page dies of it, with all locks held.
    """
    while _mapped(pdev, channel) and channel.page.data[0] & 1 << PCIB_ACTIVE:
        if pdev.kernel.now() >= deadline:
            return _TIMEOUT
        await events.answered.wait(deadline)
        if not _mapped(pdev, channel):
            await pdev.kernel.die(f"unable to handle page fault: the page of guest {pdev.domid} is not mapped")
    return None


def _mapped(pdev: XenPcibkDevice, channel: Channel) -> bool:
    return pdev.channel is channel


def _conclude(
    situation: Situation | None, channel: Channel, events: BackendEvents, *, keep_pending: bool = False
) -> Answer:
    """Leave flags and event as they must be on every exit (H4), and read the answer.

    ``keep_pending`` (D4): after a time-out the guest's late answer is taken for one that somebody waits for, so that
    its event never ends and no other comes in.
    """
    events.op_pending = keep_pending and situation is _TIMEOUT
    if not events.op_active:
        events.eoi()
    if situation is None:
        answer = channel.page.aer_err()
        return situation_of(answer), answer
    channel.page.clear_bit(PCIB_ACTIVE)
    channel.page.write_aer_err(ErsResult.NONE)
    channel.flush()
    return situation, 0
