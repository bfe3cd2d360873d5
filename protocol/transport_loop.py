"""The main loop of a process: kernel, ZeroMQ sockets, other file descriptors, timers, and the real clock.

Run the kernel until nothing is ready, look at the sockets that may have something, then wait. Nothing here
ever blocks in a send. How sockets come to be is in ``transport_zmq``.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import time
from collections.abc import Callable
from typing import Protocol

import zmq

from protocol.codec import ProtocolError, encode
from protocol.ports import Driven, Message
from protocol.transport_account import Account, watch
from protocol.transport_monitor import CONNECTION_EVENTS, EVENTS, POLLIN, Connections, Refuse, descriptor

LINGER_MS = 200  # for what was sent and has not left when a socket is closed
BACKLOG_MAX = 256
PATIENCE_MS = 100  # one wait in a socket alone; afterwards the others are looked at
FLUSH_TURNS = 64
GC_THRESHOLD = (20_000, 20, 50)
SHORT_S = 0.001  # a wait that may still belong to a conversation
FOR_EVER = float("inf")
_Plain = zmq.backend.Socket
_NOBLOCK = int(zmq.NOBLOCK)  # a plain number: flags cost more
GREETING = b""  # the first message of who connects: it tells the listener which of its connections that is


class Source(Protocol):
    """What may have messages that no descriptor tells of."""

    def receive(self) -> bool:
        """Take in one message if there is one."""


def settle() -> None:
    """What has been loaded so far stays: the garbage collector need not look at it again and again."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


class RealClock:
    """``now``: nanoseconds since ``epoch`` (a value of the monotonic clock that all processes share)."""

    def __init__(self, epoch: int) -> None:
        monotonic_ns = time.monotonic_ns
        self.now: Callable[[], int] = lambda: monotonic_ns() - epoch


class Loop:
    """The main loop of a process: kernel, sockets, other file descriptors, timers."""

    def __init__(self, kernel: Driven) -> None:
        self.kernel = kernel
        self.context = zmq.Context()
        self.refuse: Refuse = lambda kind, who, text: None  # is told of everything that a peer was refused
        self.stopped = False
        self.at_close: list[Callable[[], None]] = []  # what must be closed before the context
        self._turns = 0
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._readers: dict[int, Callable[[], None]] = {}
        self.dirty: dict[Source, None] = {}  # who has been marked
        self._links: dict[ZmqLink, None] = {}
        self.first_looks: list[Callable[[], None]] = []
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.add_reader(self._wake, lambda: None)

    # -- file descriptors ----------------------------------------------------------------------
    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever ``fd`` is readable (pidfds, pipes, sockets)."""
        self._readers[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def remove_reader(self, fd: int) -> None:
        """Forget ``fd``; unknown ones are ignored."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def mark(self, link: Source) -> None:
        """``link`` may have messages that its file descriptor does not tell of: look before the next wait.

        A ZeroMQ descriptor tells of changes only, and sending or receiving can use the telling up.
        """
        self.dirty[link] = None

    def forget(self, link: ZmqLink) -> None:
        """``link`` is closed."""
        self.dirty.pop(link, None)
        self._links.pop(link, None)

    # -- running -------------------------------------------------------------------------------
    def run(self) -> None:
        """Run until ``stop``."""
        settle()
        while not self.stopped:
            self.run_once()

    def run_once(self) -> None:
        """Run what is ready, then take in messages or wait for something to happen."""
        self.kernel.run()
        self._turns += 1
        if self._turns >= FLUSH_TURNS:  # a party that never waits keeps its journal short all the same
            self._turns = 0
            self.kernel.journal.flush()
        if self.stopped or (self.dirty and self._take_in()):
            return
        self._wait()

    def stop(self) -> None:
        """``run`` returns after the current step; may be called by a signal handler."""
        self.stopped = True
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close all links and the context; what was sent has a moment to leave, an orderly "stop" for instance."""
        for link in list(self._links):
            link.close()
        for close in self.at_close:
            close()
        self._epoll.close()
        os.close(self._wake)
        self.context.destroy(linger=LINGER_MS)

    def _take_in(self) -> bool:
        """One message of each marked link that has one; False if there is nothing more to be done before a wait."""
        found = bool(self.first_looks)
        while self.first_looks:  # only now: whoever has the link has said by now what is to happen
            self.first_looks.pop()()
        dirty = list(self.dirty)
        self.dirty.clear()
        for link in dirty:
            if link.receive():
                found = True
        return found or bool(self.dirty)

    def _wait(self) -> None:
        """Wait for descriptors or the next timer. Whoever is about to be idle first makes its journal safe."""
        deadline = self.kernel.next_timer()
        left = FOR_EVER if deadline is None else (deadline - self.kernel.now()) / 1e9
        if left > SHORT_S:
            events = self._poll(SHORT_S)
            if not events:
                self.kernel.journal.flush()
                events = self._poll(-1 if left == FOR_EVER else left - SHORT_S)
        else:
            events = self._poll(left if left > 0 else 0)
        for fd, _ in events:
            reader = self._readers.get(fd)
            if reader is not None:
                reader()

    def monitor(self, link: ZmqLink) -> int:
        """Watch for the loss of the peer of ``link``; returns the descriptor that tells of it."""
        monitor = link.socket.get_monitor_socket(CONNECTION_EVENTS)
        fd = descriptor(monitor)

        def changed() -> None:
            if link.closed or not link.connections.listen(monitor):
                return
            while link.receive():
                self.kernel.run()  # what the peer said before it went still counts
            for _ in range(link.connections.strangers()):
                self.refuse("handshake", "", f"at a socket of {link.name}")
            if link.connections.lost:
                link.lost("connection lost")

        self.add_reader(fd, changed)
        self._links[link] = None
        link.look = lambda: link.connections.listen(monitor)
        self.first_looks.append(changed)  # a descriptor tells nothing before all that is there has been taken
        return fd


class ZmqLink:
    """A PAIR socket as a ``protocol.ports.Link``."""

    def __init__(
        self,
        loop: Loop,
        socket: zmq.Socket[bytes],
        decode: Callable[[bytes], Message],
        *,
        bound: bool = False,
        name: str = "",
    ) -> None:
        self.loop = loop
        self.name = name  # whom the gate lets in
        self.socket = socket
        self.decode = decode
        self.connections = Connections(bound)
        self.account: Account | None = None
        self.path = ""  # of the socket file that we are bound to
        self.on_message: Callable[[Message], None] = lambda message: None
        self.on_close: Callable[[str], None] = lambda reason: None
        self.closed = False
        self.look: Callable[[], object] = lambda: None  # take in what the monitor has to tell
        self._paused = False
        self._introduced = not bound  # it is known which connection is the peer's
        self._met = False  # the peer has been there
        self._backlog: list[bytes] = []  # what was said before it was
        socket.rcvtimeo = PATIENCE_MS  # for ``block``; everything else does not wait
        # The methods of the class below pyzmq's convenience layer, which costs as much as they do.
        self._send: Callable[[bytes, int], None] = _Plain.send.__get__(socket)
        self._recv: Callable[..., bytes] = _Plain.recv.__get__(socket)
        self._look: Callable[[int], int] = _Plain.get.__get__(socket)
        self._dirty = loop.dirty
        self._fd = descriptor(socket)
        loop.add_reader(self._fd, self._on_readable)
        self._monitor_fd = loop.monitor(self)
        if not bound:
            self._send(GREETING, _NOBLOCK)
        loop.mark(self)

    def send(self, message: Message) -> bool:
        """See ``protocol.ports.Link``; a peer that takes nothing any more is given up."""
        if self.closed:
            return False
        raw = encode(message)
        if self._backlog:
            return self._keep(raw)  # not before what was said first
        try:
            self._send(raw, _NOBLOCK)
        except zmq.Again:
            return self._keep(raw)
        self._met = True
        self._dirty[self] = None
        return True

    def _keep(self, raw: bytes) -> bool:
        """Keep a message for a peer that has not come yet; one that is there and takes nothing is lost."""
        if self._met or len(self._backlog) >= BACKLOG_MAX:
            self.look()  # it may be gone, which the loop has not seen yet
            self.lost("connection lost" if self.connections.lost else "the peer takes no messages")
            return False
        self._backlog.append(raw)
        return True

    def _send_backlog(self) -> None:
        """The peer may have come: pass on what was kept for it."""
        while self._backlog:
            try:
                self._send(self._backlog[0], _NOBLOCK)
            except zmq.Again:
                return
            del self._backlog[0]
            self._met = True
            self.loop.mark(self)

    def receive(self) -> bool:
        """Take in one message if there is one."""
        if self.closed or self._paused:
            return False
        if self._look(EVENTS) & POLLIN:
            self._take_one()
            return True
        if self._backlog:
            self._send_backlog()  # looking has used up the telling: this may have been the peer's coming
        return False

    def block(self) -> bool:
        """Wait in the socket itself for one message, at most ``PATIENCE_MS``; False if none came."""
        try:
            raw = self._recv()
        except zmq.Again:
            return False
        self._take(raw)
        return True

    def _on_readable(self) -> None:
        try:
            self._take_one()
        except zmq.Again:
            self._send_backlog()  # nothing to hear, but something has happened to the connection

    def _take_one(self) -> None:
        """Take in one message. The first one at a bound end tells which connection is the peer's. Raises Again."""
        if self._introduced:
            self._take(self._recv(_NOBLOCK))
            return
        frame = self.socket.recv(_NOBLOCK, copy=False)
        self.connections.peer = int(frame.get(zmq.SRCFD))
        self._introduced = True
        self._remove_path()
        if frame.bytes == GREETING:
            if self.account is not None:
                self.account.took(self.connections.peer, 0)
            self.loop.mark(self)
            self._send_backlog()
        else:
            self._take(frame.bytes)

    def keep_account(self, account: Account) -> None:
        """Cut off a connection that sends a message without end."""
        self.account = self.connections.account = account
        watch(self.loop, account)

    def _take(self, raw: bytes) -> None:
        self._dirty[self] = None
        if self.account is not None:
            self.account.took(self.connections.peer, len(raw))
        if self._backlog:
            self._send_backlog()
        try:
            message = self.decode(raw)
        except ProtocolError as error:
            self.loop.refuse("bad-message", self.name, str(error))
            self.lost(f"protocol violation: {error}")
            return
        self.on_message(message)

    def pause(self, ns: int) -> None:
        """See ``protocol.ports.Link``: ZeroMQ goes on until its queue is full, then the peer has to wait."""
        if not self.closed and not self._paused:
            self._paused = True
            self.loop.remove_reader(self._fd)
            self.loop.kernel.call_at(self.loop.kernel.now() + ns, self._go_on)

    def _go_on(self) -> None:
        self._paused = False
        if not self.closed:
            self.loop.add_reader(self._fd, self._on_readable)
            self.loop.mark(self)

    def lost(self, reason: str) -> None:
        """The peer is gone or broke the protocol."""
        if not self.closed:
            self.close()
            self.on_close(reason)

    def _remove_path(self) -> None:
        """Nobody else is to connect; ZeroMQ itself leaves the files of its sockets behind."""
        if self.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            self.path = ""

    def close(self) -> None:
        """See ``protocol.ports.Link``."""
        if self.closed:
            return
        self.closed = True
        if self.account is not None:
            self.account.closed = True
        self._remove_path()
        self.loop.forget(self)
        self.loop.remove_reader(self._fd)
        self.loop.remove_reader(self._monitor_fd)
        monitor = self.socket.get_monitor_socket()  # the one that there is
        # In this order: with nobody to take them, ZeroMQ's thread waits for ever with the next event, lock in hand.
        self.socket.disable_monitor()
        monitor.close(linger=0)
        self.socket.close(linger=LINGER_MS)
