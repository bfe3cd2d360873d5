"""The frontend's end of the event channel: a pending bit, an interrupt handler, and the poll.

``poll`` is the hypervisor poll of ``do_pci_op`` (xen-pci.md 3.2): it takes the event before the interrupt
handler can, which is why ``do_pci_op`` must look for AER requests itself afterwards (I1).
"""

from __future__ import annotations

from collections.abc import Callable

from kernel_stub.kernel import Kernel
from kernel_stub.sync import WaitQueue
from protocol.channel import Channel


class EventChannel:
    """``handler`` runs for events that no poll takes.

    ``block`` (set by a process, None in the simulation) waits for this channel alone, with nothing else of the
    guest running, as a poll with interrupts off does (FE-5); it returns False after a moment without a message.
    """

    __slots__ = ("_polling", "_queue", "block", "channel", "handler", "kernel", "pending")

    def __init__(self, kernel: Kernel, channel: Channel, handler: Callable[[], None]) -> None:
        self.kernel = kernel
        self.channel = channel
        self.handler = handler
        self.pending = False
        self.block: Callable[[], bool] | None = None
        self._polling = 0
        self._queue = WaitQueue(kernel, "event channel")
        channel.on_event = self._event

    def _event(self) -> None:
        if self._polling:
            self.pending = True
            self._queue.wake_all()
        else:
            self.handler()

    async def poll(self, deadline: int) -> None:
        """Wait until an event is pending or ``deadline`` (ns); the pending bit is cleared."""
        if not self.pending and not self.channel.closed:
            self._polling += 1
            if self.block is None:
                await self._queue.wait(deadline)
            elif not self.block():
                await self.kernel.sleep(1)  # now and then the rest of the guest: the peer may be gone
            self._polling -= 1
        self.pending = False

    def wake(self) -> None:
        """The channel is gone: a poll must not wait for it."""
        self._queue.wake_all()
