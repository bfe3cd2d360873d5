"""The split-driver channel: the shared page and its event channel over one link.

One message is everything that was done to the page since the last one, closed by a doorbell (or not, for
operations that real code does without notifying): ``(sequence, acknowledged, doorbell, operations)``.
Both ends may have ``CREDIT`` messages unacknowledged; without credit operations collect and doorbells
coalesce, as event channels do, so that nothing grows without bound.

On a page in common memory, clearing a flag answers the request that stands there now. Here the answer to a
request that was given up may be under way while the next one is written: ``crossing`` lets it answer that one
(what D6 and D10 make of it); without it such an answer is dropped (H6, X18).
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.ports import Link, Message
from protocol.sharedinfo import CLEAR, PageOp, SharedPage

CREDIT = 64
PENDING_MAX = 4096  # operations that wait for credit; a peer that takes none of them is gone


class Channel:
    """One end. ``on_event`` is called once for every doorbell that arrives, after its operations."""

    __slots__ = (
        "_acked", "_bell", "_raised", "_received", "_sent", "_told", "closed", "crossing", "link", "on_close",
        "on_event", "page",
    )  # fmt: skip

    def __init__(self, link: Link, page: SharedPage, *, crossing: bool = False) -> None:
        self.page = page
        self.link = link
        self.on_event: Callable[[], None] = lambda: None
        self.on_close: Callable[[str], None] = lambda reason: None
        self.closed = False
        self._sent = 0  # messages sent; acknowledged by the peer
        self._acked = 0
        self._received = 0  # messages received; told the peer so
        self._told = 0
        self._bell = False
        self.crossing = crossing
        self._raised: dict[int, int] = {}  # flag bit -> number of the message in which this end set it last
        link.on_message = self._receive
        link.on_close = self._lost

    def notify(self) -> None:
        """``notify_remote_via_evtchn``: pass on what was done to the page and ring the doorbell."""
        self._bell = True
        self.flush()

    def flush(self) -> None:
        """Pass on what was done to the page; waits in ``pending`` while there is no credit."""
        page = self.page
        if self.closed:
            page.pending.clear()
            page.raised.clear()
            return
        if self._sent - self._acked >= CREDIT:
            if len(page.pending) > PENDING_MAX:
                self._violation("the peer takes nothing any more")
            return
        ops, page.pending = page.pending, []
        bell, self._bell = self._bell, False
        self._sent += 1
        if page.raised:
            for bit in page.raised:
                self._raised[bit] = self._sent
            page.raised.clear()
        self._told = self._received
        self.link.send((self._sent, self._received, bell, tuple(ops)))

    def close(self) -> None:
        """Give up this end."""
        if not self.closed:
            self.closed = True
            self.link.close()

    def _receive(self, message: Message) -> None:
        sequence, acknowledged, bell, ops = message
        if not self._acked <= acknowledged <= self._sent:
            self._violation(f"message {acknowledged} is acknowledged, {self._sent} were sent")
            return
        self._acked = acknowledged
        if sequence:
            self._received += 1
            if sequence != self._received or sequence - self._told > CREDIT:
                self._violation(f"message {sequence} instead of {self._received}, or without credit")
                return
            try:
                seen_all = acknowledged == self._sent and not self.page.pending
                self.page.apply(ops if seen_all or self.crossing else self._without_stale_answers(ops))
            except ValueError as error:
                self._violation(str(error))
                return
            if bell:
                self.on_event()
        if self.closed:
            return  # the event did it
        if self._bell or self.page.pending:
            self.flush()
        if self._received - self._told >= CREDIT // 2:
            self._told = self._received
            self.link.send((0, self._received, False, ()))  # an acknowledgement alone costs no credit

    def _without_stale_answers(self, ops: tuple[PageOp, ...]) -> tuple[PageOp, ...]:
        """``ops`` without the clearing of flags that this end has set since, as far as the peer has seen."""
        waiting = set(self.page.raised)
        waiting |= {bit for bit, number in self._raised.items() if number > self._acked}
        return tuple(op for op in ops if op[0] != CLEAR or op[1] not in waiting)

    def _violation(self, text: str) -> None:
        self.close()
        self.on_close(text)

    def _lost(self, reason: str) -> None:
        if not self.closed:
            self.closed = True
            self.on_close(reason)
