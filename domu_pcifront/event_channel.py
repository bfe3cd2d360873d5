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
    """``handler`` runs for events that no poll takes. ``while_polling`` tells the shell (may be None)."""

    __slots__ = ("kernel", "channel", "handler", "pending", "while_polling", "_polling", "_queue")

    def __init__(self, kernel: Kernel, channel: Channel, handler: Callable[[], None]) -> None:
        self.kernel = kernel
        self.channel = channel
        self.handler = handler
        self.pending = False
        self.while_polling: Callable[[Channel | None], None] | None = None
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
            if self.while_polling is not None:
                self.while_polling(self.channel)
            await self._queue.wait(deadline)
            self._polling -= 1
            if self.while_polling is not None:
                self.while_polling(None)
        self.pending = False

    def wake(self) -> None:
        """The channel is gone: a poll must not wait for it."""
        self._queue.wake_all()
