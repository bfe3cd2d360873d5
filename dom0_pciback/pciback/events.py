"""The backend's end of the event channel: late EOI, and what an event means (xen-pci.md 4.4, 8.2).

One channel carries both the guest's configuration requests and its answers to AER requests. An event stays
masked until its end is signalled (EOI); one that found nothing to do is spurious and delays the next.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel_stub.kernel import Kernel
from kernel_stub.sync import WaitQueue
from protocol.channel import Channel
from protocol.limits import SPURIOUS_EVENTS, Bucket
from protocol.sharedinfo import PCIB_ACTIVE, PCIF_ACTIVE

SPURIOUS_THRESHOLD = 1
JIFFY = 4_000_000  # ns, HZ = 250
DELAY_MAX = 1_000_000_000
SPURIOUS_LIMIT = 12  # 2**10 jiffies are more than the longest delay


class BackendEvents:
    """Flags ``op_active``, ``op_pending``, ``eoi_pending`` of ``xen_pcibk_device`` and the handler using them.

    ``queue_op`` starts the configuration worker; ``answered`` wakes who waits for an AER answer.
    """

    __slots__ = (
        "_delayed",
        "_held",
        "_idle",
        "answered",
        "channel",
        "eoi_pending",
        "events",
        "jiffies_delayed",
        "kernel",
        "on_spurious",
        "op_active",
        "op_pending",
        "queue_op",
        "reply_equals_request",
        "spurious",
        "spurious_events",
    )  # fmt: skip

    def __init__(self, kernel: Kernel, channel: Channel, queue_op: Callable[[], None], name: str) -> None:
        self.kernel = kernel
        self.channel = channel
        self.queue_op = queue_op
        self.answered = WaitQueue(kernel, f"AER answer of {name}")
        self.op_active = False  # _PDEVF_op_active: a configuration operation runs
        self.op_pending = False  # _PCIB_op_pending: an AER request waits for its answer
        self.eoi_pending = False  # _EOI_pending
        self.events = self.spurious_events = self.jiffies_delayed = 0
        self.reply_equals_request = 0  # answers that may be the request's own state, never overwritten (H9)
        self.spurious = 0
        self._held = False
        self._delayed = False
        self._idle = Bucket(*SPURIOUS_EVENTS)  # doorbells that ask for nothing, or come before the last is served
        self.on_spurious: Callable[[], None] = lambda: None
        channel.on_event = self.handle_event

    def handle_event(self) -> None:
        """``xen_pcibk_handle_event``; an event that comes before the EOI of the last one is held back."""
        if self.eoi_pending or self._delayed:
            if self._held:
                self._useless()
            self._held = True
            return
        self.events += 1
        self.eoi_pending = True
        self.test_and_schedule_op()

    def test_and_schedule_op(self) -> None:
        """Serve a configuration request, wake the waiter for an answer, both, or neither (spurious)."""
        flags = self.channel.page.data[0]
        work = False
        if flags & 1 << PCIF_ACTIVE and not self.op_active:
            self.op_active = work = True
            self.queue_op()
        if self.op_pending and not flags & 1 << PCIB_ACTIVE:
            work = True
            self.answered.wake_all()
        if not work:
            self.eoi(spurious=True)

    def eoi(self, *, spurious: bool = False) -> None:
        """``xen_irq_lateeoi``: let the next event in, later if this one was spurious once too often."""
        if not self.eoi_pending:
            return
        self.eoi_pending = False
        delay = self._account(spurious)
        if delay:
            self._delayed = True
            self.jiffies_delayed += delay // JIFFY
            self.kernel.call_at(self.kernel.now() + delay, self._unmask)
        else:
            self._unmask()

    def _account(self, spurious: bool) -> int:
        """Nanoseconds to wait before the next event (8.2)."""
        if not spurious:
            self.spurious = 0
            return 0
        self.spurious_events += 1
        self._useless()
        self.spurious = min(self.spurious + 1, SPURIOUS_LIMIT)
        if self.spurious <= SPURIOUS_THRESHOLD:
            return 0
        return min(JIFFY << self.spurious - 1 - SPURIOUS_THRESHOLD, DELAY_MAX)

    def _useless(self) -> None:
        """X13: a guest that goes on ringing is not listened to for a while."""
        self.on_spurious()
        wait = self._idle.take(self.kernel.now())
        if wait:
            self.channel.link.pause(wait)

    def _unmask(self) -> None:
        self._delayed = False
        if self._held:
            self._held = False
            self.handle_event()

    def statistics(self) -> dict[str, int]:
        """Counters as the xenbus device's sysfs shows them (8.2), and the one of H9."""
        return {
            "events": self.events,
            "spurious_events": self.spurious_events,
            "jiffies_eoi_delayed": self.jiffies_delayed,
            "aer_reply_equals_request": self.reply_equals_request,
        }
