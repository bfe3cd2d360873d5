"""Real links: how the parties' ZeroMQ sockets come to be.

A party connects to the hypervisor stub's front door (ROUTER) and is given a PAIR of its own, whose loss is
noticed by a socket monitor; links between a guest and dom0 are PAIRs on an endpoint made for one guest
incarnation. Control clients stay at the front door.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from protocol.codec import MESSAGE_MAX, ProtocolError, encode
from protocol.ports import Link, Message
from protocol.transport_loop import LINGER_MS, Loop, ZmqLink, descriptor, readable

PATH_MAX = 107  # sun_path
CLIENTS_MAX = 256  # control clients that are remembered at a time


class TransportError(Exception):
    """An address cannot be used; the text says why and what is allowed."""


class NetEndpoints:
    """Opens links on ``ipc`` (a directory of short-lived sockets) or ``tcp`` (a host name that peers know)."""

    def __init__(self, loop: Loop, base: str, decoders: Mapping[str, Callable[[bytes], Message]]) -> None:
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


def pair_socket(context: zmq.Context[Any]) -> zmq.Socket[bytes]:
    """A PAIR that never lingers, never reconnects, and is bounded."""
    socket: zmq.Socket[bytes] = context.socket(zmq.PAIR)
    socket.linger = 0
    socket.reconnect_ivl = -1
    socket.sndhwm = socket.rcvhwm = 10_000
    socket.maxmsgsize = MESSAGE_MAX
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

    def __init__(
        self, loop: Loop, addresses: list[str], endpoints: NetEndpoints, accept: Callable[[Link], None]
    ) -> None:
        self.loop = loop
        self.endpoints = endpoints
        self.accept = accept
        self.socket: zmq.Socket[bytes] = loop.context.socket(zmq.ROUTER)
        self.socket.linger = LINGER_MS
        self.socket.sndhwm = self.socket.rcvhwm = 10_000
        self.socket.maxmsgsize = MESSAGE_MAX
        self._clients: dict[bytes, RouterLink] = {}
        try:
            for address in addresses:
                check_address(address)
                _check_free(address)
                self.socket.bind(address)
        except zmq.ZMQError as error:
            self.socket.close(linger=0)
            raise TransportError(f"{address}: {error.strerror}; is a system running there already?") from None
        except TransportError:
            self.socket.close(linger=0)
            raise
        loop.add_reader(descriptor(self.socket), lambda: loop.mark(self))
        loop.mark(self)

    def receive(self) -> bool:
        """Serve one message if there is one."""
        if not readable(self.socket):
            return False
        self.loop.mark(self)
        identity, raw, *_ = self.socket.recv_multipart()
        if raw == b"open":
            address, link = self.endpoints.listen("party", "p")
            self.socket.send_multipart([identity, address.encode()])
            self.accept(link)
        else:
            self._control(identity, raw)
        return True

    def _control(self, identity: bytes, raw: bytes) -> None:
        link = self._clients.get(identity)
        if link is None:
            link = RouterLink(self, identity)
            self.accept(link)
            if len(self._clients) >= CLIENTS_MAX:
                del self._clients[next(iter(self._clients))]  # a ROUTER does not say when its peers go
        else:
            del self._clients[identity]
        self._clients[identity] = link  # the last one that was heard of is the last to be forgotten
        try:
            message = self.endpoints.decoders["party"](raw)
        except ProtocolError as error:
            self.socket.send_multipart([identity, encode(("error", 0, str(error)))])
            return
        link.on_message(message)

    def forget(self, identity: bytes) -> None:
        """A control client is done."""
        self._clients.pop(identity, None)


def _check_free(address: str) -> None:
    """Raises TransportError if somebody listens on an ipc path: ZeroMQ itself would take it from them."""
    if not address.startswith("ipc://"):
        return
    path = address[len("ipc://") :]
    try:
        if listened_at(path):
            raise TransportError(f"{path} is in use: a system is running there already")
        if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
            raise TransportError(f"{path} is not a socket; choose another run directory")
    except OSError as error:
        raise TransportError(f"{path}: {error.strerror}") from None


def listened_at(path: str) -> bool:
    """Somebody listens at a local socket; one that a killed system has left does not count. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


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
        self.door.loop.mark(self.door)
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
