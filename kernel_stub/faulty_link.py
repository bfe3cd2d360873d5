"""A link that loses, delays, doubles, swaps or tears messages: put around a healthy one, in either world.

Each fault strikes one message and is used up. What was not struck keeps its place: a message that waits makes all
that follow it wait. A transport of today is one connection per incarnation of a guest, so that a message that was
dropped is never sent again; who counts messages notices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, get_args

from kernel_stub.kernel import Kernel
from protocol.ports import Link, Message
from protocol.renumber import Renumber

Does = Literal["delay", "drop", "duplicate", "reorder", "torn"]
Direction = Literal["in", "out", "both"]
Note = Callable[[str, str], None]  # what was done, in which direction
Tear = Callable[[Message], tuple[Message, Message] | None]


class _Way:
    """One direction of a link. ``forward`` hands a message on."""

    def __init__(self, kernel: Kernel, forward: Callable[[Message], object], note: Callable[[str], None]) -> None:
        self.kernel = kernel
        self.forward = forward
        self.note = note
        self.armed: deque[tuple[Does, int]] = deque()  # with its time in ns
        self.tear: Tear = lambda message: None
        self._late: deque[tuple[int, Message]] = deque()  # messages that wait, with when they go on (ns)
        self._overtaken: Message | None = None

    def take(self, message: Message, *, counts: bool) -> None:
        """A message comes along; ``counts``: it may be struck."""
        if not (self.armed and counts):
            self._pass(message, 0)
            return
        does, ns = self.armed.popleft()
        halves = self.tear(message) if does == "torn" else None
        if (does == "torn" and halves is None) or (does == "reorder" and self._overtaken is not None):
            self.armed.appendleft((does, ns))  # too short to be torn, or overtaking already: the next one
            self._pass(message, 0)
            return
        self.note(does)
        if does == "delay":
            self._pass(message, ns)
        elif does == "duplicate":
            self._pass(message, 0)
            self._pass(message, ns)
        elif does == "reorder":
            self._overtaken = message
            self.kernel.call_at(self.kernel.now() + ns, self._last)
        elif halves is not None:
            self._pass(halves[0], 0)
            self._pass(halves[1], ns)

    def _pass(self, message: Message, ns: int) -> None:
        """Hand on, behind what waits."""
        if ns or self._late:
            due = self.kernel.now() + ns
            due = max(due, self._late[-1][0]) if self._late else due
            self._late.append((due, message))
            self.kernel.call_at(due, self._due)
        else:
            self.forward(message)
        self._last()

    def _due(self) -> None:
        while self._late and self._late[0][0] <= self.kernel.now():
            self.forward(self._late.popleft()[1])

    def _last(self) -> None:
        """The message that was overtaken comes after all: one has passed, or none has come."""
        message, self._overtaken = self._overtaken, None
        if message is not None:
            self._pass(message, 0)


class FaultyLink:
    """``protocol.ports.Link`` around ``link``, whose receivers it takes over. ``arm`` says what is to happen.

    ``stream``: the messages are those of ``protocol.channel``, numbered operations on a page; only they can be torn.
    """

    def __init__(self, kernel: Kernel, link: Link, note: Note, *, stream: bool) -> None:
        self.link = link
        self.stream = stream
        self.on_message: Callable[[Message], None] = link.on_message
        self.on_close: Callable[[str], None] = link.on_close
        self._closed = False
        self._inward = Renumber()  # of the peer's messages
        self._outward = Renumber()  # of our own
        self._in = _Way(kernel, self._deliver, lambda does: note(does, "in"))
        self._out = _Way(kernel, link.send, lambda does: note(does, "out"))
        self._in.tear, self._out.tear = self._inward.tear, self._outward.tear
        link.on_message = self._arrived
        link.on_close = self._lost

    def arm(self, does: Does, direction: Direction, ns: int, count: int) -> None:
        """The next ``count`` messages are struck, of each direction if it is both."""
        for name, way in (("in", self._in), ("out", self._out)):
            if direction in (name, "both"):
                way.armed.extend([(does, ns)] * count)

    def send(self, message: Message) -> bool:
        """See ``protocol.ports.Link``."""
        if self.stream:
            message = self._outward.sent(message, self._inward)
        self._out.take(message, counts=self._counts(message))
        return True

    def pause(self, ns: int) -> None:
        """See ``protocol.ports.Link``."""
        self.link.pause(ns)

    def close(self) -> None:
        """See ``protocol.ports.Link``; what still waits is lost."""
        self._closed = True
        self.link.close()

    def _lost(self, reason: str) -> None:
        self._closed = True
        self.on_close(reason)

    def _arrived(self, message: Message) -> None:
        if self.stream:
            message = self._inward.sent(message, self._outward)
        self._in.take(message, counts=self._counts(message))

    def _deliver(self, message: Message) -> None:
        if not self._closed:
            self.on_message(message)

    def _counts(self, message: Message) -> bool:
        """An acknowledgement alone is no message of the stream."""
        return not self.stream or message[0] != 0


DOES: tuple[str, ...] = get_args(Does)
DIRECTIONS: tuple[str, ...] = get_args(Direction)
