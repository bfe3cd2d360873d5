"""Real links: ZeroMQ sockets, one epoll loop per process, and a clock.

Every party is a process with one ``Loop``: run the kernel until nothing is ready, look at the sockets that
may have something, then wait. A party connects to the hypervisor stub's front door (ROUTER) and is given a
PAIR of its own, whose loss is noticed by a socket monitor; links between a guest and dom0 are PAIRs on an
endpoint made for one guest incarnation. Nothing here ever blocks in a send.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Any

import zmq

from protocol.codec import ProtocolError, encode
from protocol.ports import Driven, Link, Message

PATH_MAX = 107  # sun_path
_PATIENCE_MS = 100
_DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
_EVENTS, _POLLIN, _NOBLOCK = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.NOBLOCK)  # plain numbers: flags cost more


class TransportError(Exception):
    """An address cannot be used; the text says why and what is allowed."""


class RealClock:
    """Nanoseconds since ``epoch`` (a value of the monotonic clock that all processes share)."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def now(self) -> int:
        """See ``protocol.ports.Clock``."""
        return time.monotonic_ns() - self._epoch


class Loop:
    """The main loop of a process: kernel, sockets, other file descriptors, timers."""

    def __init__(self, kernel: Driven) -> None:
        self.kernel = kernel
        self.context = zmq.Context()
        self.stopped = False
        self.exclusive: ZmqLink | None = None  # a guest that polls with interrupts off: this link only
        self.exclusive_deadline: int | None = None
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._dirty: dict[ZmqLink, None] = {}

    # -- file descriptors ----------------------------------------------------------------------
    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever ``fd`` is readable (pidfds, pipes, sockets)."""
        self._readers[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def remove_reader(self, fd: int) -> None:
        """Forget ``fd``; unknown ones are ignored."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def mark(self, link: ZmqLink) -> None:
        """``link`` may have messages that its file descriptor does not tell of (after a send)."""
        self._dirty[link] = None

    def unmark(self, link: ZmqLink) -> None:
        """``link`` is closed."""
        self._dirty.pop(link, None)

    # -- running -------------------------------------------------------------------------------
    def run(self) -> None:
        """Run until ``stop``."""
        while not self.stopped:
            self.run_once()

    def run_once(self) -> None:
        """Run what is ready, then take in messages or wait for something to happen."""
        self.kernel.run()
        if self.stopped:
            return
        if self.exclusive is not None:
            self._wait_exclusive()
        elif not self._drain():
            self._wait(self._timeout())

    def stop(self) -> None:
        """``run`` returns after the current step."""
        self.stopped = True

    def close(self) -> None:
        """Close the context; open links are closed without waiting."""
        self._epoll.close()
        self.context.destroy(linger=0)

    def _drain(self) -> bool:
        """Take one message of each link that has one; False if none had."""
        dirty, self._dirty = self._dirty, {}
        found = False
        for link in dirty:
            if link.receive():
                found = True
        return found

    def _timeout(self) -> float:
        """Seconds until the next timer; -1 for none."""
        deadline = self.kernel.next_timer()
        return -1 if deadline is None else max(0.0, (deadline - self.kernel.now()) / 1e9)

    def _wait(self, timeout: float) -> None:
        if timeout < 0 or timeout > 0.001:  # about to be idle: first a short wait, then make the journal safe
            events = self._epoll.poll(0.001)
            if not events:
                self.kernel.journal.flush()
                events = self._epoll.poll(-1 if timeout < 0 else max(0.0, timeout - 0.001))
        else:
            events = self._epoll.poll(timeout)
        for fd, _ in events:
            reader = self._readers.get(fd)
            if reader is not None:
                reader()

    def _wait_exclusive(self) -> None:
        """Block on one link alone (xen-pci.md 3.2: a hypervisor poll with interrupts off, FE-5)."""
        link = self.exclusive
        assert link is not None
        timeout = self._timeout()
        patience = _PATIENCE_MS if timeout < 0 else min(int(timeout * 1000) + 1, _PATIENCE_MS)
        if not link.receive_blocking(patience):
            self._wait(0)  # now and then the other sockets too: the peer may be gone
            self._drain()

    # -- endpoints (protocol.ports.Endpoints is bound to a transport by NetEndpoints) -----------
    def monitor(self, link: ZmqLink) -> None:
        """Watch for the loss of the peer of ``link``."""
        monitor = link.socket.get_monitor_socket(_DISCONNECTED | int(zmq.EVENT_CLOSED))
        fd = _fd(monitor)

        def lost() -> None:
            while _readable(monitor):
                event = int.from_bytes(monitor.recv_multipart()[0][:2], "little")
                if event == _DISCONNECTED:
                    while link.receive():
                        pass
                    link.lost("connection lost")
                    return

        link.monitor_fd = fd
        self.add_reader(fd, lost)


class ZmqLink:
    """A PAIR socket as a ``protocol.ports.Link``."""

    def __init__(self, loop: Loop, socket: zmq.Socket[bytes], decode: Callable[[bytes], Message]) -> None:
        self.loop = loop
        self.socket = socket
        self.decode = decode
        self.on_message: Callable[[Message], None] = lambda message: None
        self.on_close: Callable[[str], None] = lambda reason: None
        self.monitor_fd: int | None = None
        self.closed = False
        self.fd = _fd(socket)
        loop.add_reader(self.fd, lambda: loop.mark(self))
        loop.monitor(self)
        loop.mark(self)

    def send(self, message: Message) -> bool:
        """See ``protocol.ports.Link``."""
        if self.closed:
            return False
        try:
            self.socket.send(encode(message), _NOBLOCK)
        except zmq.Again:
            return False
        self.loop.mark(self)
        return True

    def receive(self) -> bool:
        """Take in one message if there is one."""
        if self.closed or not _readable(self.socket):
            return False
        self._take(self.socket.recv(_NOBLOCK))
        return True

    def receive_blocking(self, timeout_ms: int) -> bool:
        """Wait in the socket itself for one message, ``timeout_ms`` (-1: for ever)."""
        socket = self.socket
        socket.rcvtimeo = timeout_ms
        try:
            raw = socket.recv()
        except zmq.Again:
            return False
        self._take(raw)
        return True

    def _take(self, raw: bytes) -> None:
        self.loop.mark(self)
        try:
            message = self.decode(raw)
        except ProtocolError as error:
            self.lost(f"protocol violation: {error}")
            return
        self.on_message(message)

    def lost(self, reason: str) -> None:
        """The peer is gone or broke the protocol."""
        if not self.closed:
            self.close()
            self.on_close(reason)

    def close(self) -> None:
        """See ``protocol.ports.Link``."""
        if self.closed:
            return
        self.closed = True
        self.loop.unmark(self)
        self.loop.remove_reader(self.fd)
        if self.monitor_fd is not None:
            self.loop.remove_reader(self.monitor_fd)
            self.socket.disable_monitor()
        self.socket.close(linger=200)


class NetEndpoints:
    """Opens links on ``ipc`` (a directory of short-lived sockets) or ``tcp`` (a host name that peers know)."""

    def __init__(self, loop: Loop, base: str, decoders: dict[str, Callable[[bytes], Message]]) -> None:
        self.loop = loop
        self.base = base  # "ipc://DIR" or "tcp://HOST"
        self.decoders = decoders
        self._serial = 0

    def listen(self, kind: str, name: str) -> tuple[str, ZmqLink]:
        """See ``protocol.ports.Endpoints``. Raises TransportError."""
        socket = pair_socket(self.loop.context)
        self._serial += 1
        if self.base.startswith("ipc://"):
            address = f"{self.base}/{kind}-{name}-{os.getpid()}-{self._serial}"
            check_address(address)
            socket.bind(address)
        else:
            port = socket.bind_to_random_port("tcp://*")
            address = f"{self.base}:{port}"
        return address, ZmqLink(self.loop, socket, self.decoders[kind])

    def connect(self, kind: str, address: str) -> ZmqLink:
        """See ``protocol.ports.Endpoints``. Raises TransportError."""
        return connect_pair(self.loop, address, self.decoders[kind])


def _fd(socket: zmq.Socket[bytes]) -> int:
    """File descriptor that becomes readable when something happens to the socket."""
    return int(socket.getsockopt(zmq.FD))  # type: ignore[arg-type]


def _readable(socket: zmq.Socket[bytes]) -> bool:
    """A message is there. Reading this also makes the file descriptor tell of the next one."""
    return bool(socket.getsockopt(_EVENTS) & _POLLIN)  # type: ignore[operator]


def pair_socket(context: zmq.Context[Any]) -> zmq.Socket[bytes]:
    """A PAIR that never lingers, never reconnects, and is bounded."""
    socket: zmq.Socket[bytes] = context.socket(zmq.PAIR)
    socket.linger = 0
    socket.reconnect_ivl = -1
    socket.sndhwm = socket.rcvhwm = 10_000
    return socket


def connect_pair(loop: Loop, address: str, decode: Callable[[bytes], Message]) -> ZmqLink:
    """Connect a PAIR to ``address``."""
    check_address(address)
    socket = pair_socket(loop.context)
    socket.connect(address)
    return ZmqLink(loop, socket, decode)


def check_address(address: str) -> None:
    """Raises TransportError if ``address`` is neither a usable ipc path nor a tcp address."""
    if address.startswith("ipc://"):
        path = address[len("ipc://") :]
        if len(path.encode()) > PATH_MAX:
            raise TransportError(f"socket path {path} is {len(path.encode())} bytes long; {PATH_MAX} are allowed")
    elif not address.startswith("tcp://"):
        raise TransportError(f"address {address!r} must begin with ipc:// or tcp://")


class FrontDoor:
    """The hypervisor stub's ROUTER: parties get a PAIR of their own, control clients stay here."""

    def __init__(self, loop: Loop, addresses: list[str], endpoints: NetEndpoints, accept: Callable[[Link], None]) -> None:
        self.loop = loop
        self.endpoints = endpoints
        self.accept = accept
        self.socket: zmq.Socket[bytes] = loop.context.socket(zmq.ROUTER)
        self.socket.linger = 200
        self.socket.sndhwm = self.socket.rcvhwm = 10_000
        self._clients: dict[bytes, RouterLink] = {}
        for address in addresses:
            check_address(address)
            try:
                self.socket.bind(address)
            except zmq.ZMQError as error:
                raise TransportError(f"{address}: {error.strerror}; is a system running there already?") from None
        loop.add_reader(_fd(self.socket), self.receive)

    def receive(self) -> None:
        """Serve everything that has arrived."""
        while _readable(self.socket):
            identity, raw, *_ = self.socket.recv_multipart()
            if raw == b"open":
                self._open(identity)
            else:
                self._control(identity, raw)

    def _open(self, identity: bytes) -> None:
        address, link = self.endpoints.listen("party", "p")
        self.socket.send_multipart([identity, address.encode()])
        self.accept(link)

    def _control(self, identity: bytes, raw: bytes) -> None:
        link = self._clients.get(identity)
        if link is None:
            link = self._clients[identity] = RouterLink(self, identity)
            self.accept(link)
        try:
            message = self.endpoints.decoders["party"](raw)
        except ProtocolError as error:
            self.socket.send_multipart([identity, encode(("error", 0, str(error)))])
            return
        link.on_message(message)

    def forget(self, identity: bytes) -> None:
        """A control client is done."""
        self._clients.pop(identity, None)


class RouterLink:
    """A control client at the front door as a ``protocol.ports.Link``."""

    def __init__(self, door: FrontDoor, identity: bytes) -> None:
        self.door = door
        self.identity = identity
        self.on_message: Callable[[Message], None] = lambda message: None
        self.on_close: Callable[[str], None] = lambda reason: None

    def send(self, message: Message) -> bool:
        """See ``protocol.ports.Link``."""
        self.door.socket.send_multipart([self.identity, encode(message)])
        return True

    def close(self) -> None:
        """See ``protocol.ports.Link``."""
        self.door.forget(self.identity)


def open_party_link(loop: Loop, door: str, decode: Callable[[bytes], Message], timeout_ms: int = 10_000) -> ZmqLink:
    """Knock at the hypervisor stub's front door and connect to the PAIR that it offers.

    Raises TransportError if nobody answers within ``timeout_ms``.
    """
    check_address(door)
    with loop.context.socket(zmq.DEALER) as knock:
        knock.linger = 0
        knock.connect(door)
        knock.send(b"open")
        if not knock.poll(timeout_ms):
            raise TransportError(f"no hypervisor stub answers at {door}")
        address = knock.recv().decode()
    if address.startswith("tcp://"):  # the stub does not know by which name we reach it
        host = door[len("tcp://") :].rsplit(":", 1)[0]
        address = f"tcp://{host}:{address.rsplit(':', 1)[1]}"
    return connect_pair(loop, address, decode)
