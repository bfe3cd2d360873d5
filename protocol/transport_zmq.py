"""Real links: how the parties' ZeroMQ sockets come to be.

A party connects to the hypervisor stub's front door (ROUTER) and is given a PAIR of its own, whose loss is
noticed by a socket monitor; links between a guest and dom0 are PAIRs on an endpoint made for one guest
incarnation. Control clients stay at the front door.
"""

from __future__ import annotations

import os
import secrets
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zmq

from protocol.codec import ProtocolError, encode
from protocol.limits import HANDSHAKE_MS, KNOCKS, LINK_LIMITS, SEND_QUEUE, Bucket, LinkLimit
from protocol.ports import Link, Message
from protocol.transport_gate import DOOR, ONLY, Gate
from protocol.transport_keys import Identity, KeyPair, KeyRing, use_as_client, use_as_server
from protocol.transport_loop import LINGER_MS, Loop, ZmqLink, descriptor, readable

PATH_MAX = 107  # sun_path
LOCAL_TCP = "tcp://127.0.0.1"  # what is for this machine alone is not bound to its other addresses
KEY_TIMEOUT_S = 30.0
CLIENTS_MAX = 256  # control clients that are remembered at a time


class TransportError(Exception):
    """An address cannot be used; the text says why and what is allowed."""


class NetEndpoints:
    """Opens links on ``ipc`` (a directory of short-lived sockets) or ``tcp`` (a host name that peers know).

    ``gate`` says who may connect; ``own`` is our pair, None where no keys are used. An address over tcp ends in
    our public key, so that whoever is told it by the hypervisor stub also knows whom to expect there.
    """

    def __init__(
        self,
        loop: Loop,
        base: str,
        decoders: Mapping[str, Callable[[bytes], Message]],
        gate: Gate | None = None,
        own: KeyPair | None = None,
    ) -> None:
        self.loop = loop
        self.base = base  # "ipc://DIR" or "tcp://HOST"
        self.decoders = decoders
        self.gate = gate
        self.own = own

    def listen(self, kind: str, name: str) -> tuple[str, ZmqLink]:
        """See ``protocol.ports.Endpoints``; ``name`` is whom the gate lets in. Raises TransportError."""
        socket = pair_socket(self.loop.context, LINK_LIMITS[kind])
        socket.handshake_ivl = HANDSHAKE_MS
        if self.gate is not None:
            socket.zap_domain = f"{ONLY}{name}".encode()
        use_as_server(socket, self.own)
        try:
            address = self._bind(socket, kind)
        except zmq.ZMQError as error:
            socket.close()
            raise TransportError(f"{self.base}: {error.strerror}") from None
        except TransportError:
            socket.close()
            raise
        return address, ZmqLink(self.loop, socket, self.decoders[kind], bound=True, name=name)

    def _bind(self, socket: zmq.Socket[bytes], kind: str) -> str:
        if self.base.startswith("ipc://"):
            address = f"{self.base}/{kind}-{secrets.token_hex(8)}"  # nobody can guess it
            check_address(address)
            socket.bind(address)
            return address
        port = socket.bind_to_random_port(self.base if self.base == LOCAL_TCP else "tcp://*")
        return with_key(f"{self.base}:{port}", self.own.public if self.own is not None else b"")

    def admit(self, name: str, key: str) -> None:
        """See ``protocol.ports.Endpoints``."""
        if self.gate is not None:
            self.gate.admit(name, key)

    def connect(self, kind: str, address: str) -> ZmqLink:
        """See ``protocol.ports.Endpoints``. Raises TransportError."""
        return connect_pair(self.loop, address, self.decoders[kind], self.own)


def with_key(address: str, key: bytes) -> str:
    """An address with the public key of who listens there."""
    return f"{address} {key.decode()}" if key else address


def pair_socket(context: zmq.Context[Any], limit: LinkLimit) -> zmq.Socket[bytes]:
    """A PAIR that never lingers, never reconnects, and is bounded."""
    socket: zmq.Socket[bytes] = context.socket(zmq.PAIR)
    socket.linger = 0
    socket.reconnect_ivl = -1
    socket.sndhwm = SEND_QUEUE
    socket.rcvhwm = limit.queue
    socket.maxmsgsize = limit.message
    return socket


def connect_pair(loop: Loop, address: str, decode: Callable[[bytes], Message], own: KeyPair | None = None) -> ZmqLink:
    """Connect a PAIR to ``address``, which may end in the key of who listens there."""
    address, _, server = address.partition(" ")
    check_address(address)
    socket = pair_socket(loop.context, LINK_LIMITS["party"])
    use_as_client(socket, own, server.encode())
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


Accept = Callable[[Link, str], None]  # a new connection, and who the transport says it is


class FrontDoor:
    """The hypervisor stub's ROUTER: parties get a PAIR of their own, control clients stay here."""

    def __init__(
        self,
        loop: Loop,
        addresses: list[str],
        endpoints: NetEndpoints,
        accept: Accept,
    ) -> None:
        self.loop = loop
        self.endpoints = endpoints
        self.accept = accept
        self.socket: zmq.Socket[bytes] = loop.context.socket(zmq.ROUTER)
        self.socket.linger = LINGER_MS
        self.socket.sndhwm = SEND_QUEUE
        self.socket.rcvhwm, self.socket.maxmsgsize = LINK_LIMITS["door"].queue, LINK_LIMITS["door"].message
        self.socket.handshake_ivl = HANDSHAKE_MS
        if endpoints.gate is not None:
            self.socket.zap_domain = DOOR.encode()
        use_as_server(self.socket, endpoints.own)
        self._clients: dict[bytes, RouterLink] = {}
        self._knocks: dict[str, Bucket] = {}
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
        if not endpoints.base.startswith("ipc://"):  # there, looking whether anybody listens is such a connection
            loop.count_failures(self.socket, "the front door")
        loop.add_reader(descriptor(self.socket), lambda: loop.mark(self))
        loop.mark(self)

    def receive(self) -> bool:
        """Serve one message if there is one."""
        if not readable(self.socket):
            return False
        self.loop.mark(self)
        identity, frame, *_ = self.socket.recv_multipart(copy=False)
        raw = frame.bytes
        if raw == b"open":
            self._open(identity.bytes, _user(frame))
        else:
            self._control(identity.bytes, raw, _user(frame))
        return True

    def _open(self, identity: bytes, user: str) -> None:
        """A party asks for a PAIR of its own; one that asks too often is not heard."""
        if len(self._knocks) >= CLIENTS_MAX:
            self._knocks.clear()
        if self._knocks.setdefault(user, Bucket(*KNOCKS)).take(self.loop.kernel.now()):
            self.loop.refuse("flood", user, "knocks too often")
            return
        try:
            address, link = self.endpoints.listen("party", user)
        except TransportError as error:
            self.loop.refuse("no-socket", user, str(error))
            return
        self.socket.send_multipart([identity, address.encode()])
        self.accept(link, user)

    def _control(self, identity: bytes, raw: bytes, user: str) -> None:
        link = self._clients.get(identity)
        if link is None:
            link = RouterLink(self, identity)
            self.accept(link, user)
            if len(self._clients) >= CLIENTS_MAX:
                del self._clients[next(iter(self._clients))]  # a ROUTER does not say when its peers go
        else:
            del self._clients[identity]
        self._clients[identity] = link  # the last one that was heard of is the last to be forgotten
        try:
            message = self.endpoints.decoders["party"](raw)
        except ProtocolError as error:
            self.loop.refuse("bad-message", user, str(error))
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

    def pause(self, ns: int) -> None:
        """See ``protocol.ports.Link``; all clients share one socket, which serves them in turn."""

    def close(self) -> None:
        """See ``protocol.ports.Link``."""
        self.door.forget(self.identity)


def _user(frame: zmq.Frame) -> str:
    """Who sent a message, as the gate has said when the connection was made; "" without a gate."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


def identify(run: Path, name: str, door: str) -> Identity | None:
    """The keys of party ``name`` of the system in ``run``; None where none are used. Raises TransportError."""
    ring = KeyRing(run)
    if not door.startswith("tcp://") or not ring.exists:
        return None
    who = ring.introduce(name, KEY_TIMEOUT_S)
    if who is None:
        raise TransportError(f"the hypervisor stub has left no key in {ring.folder} within {KEY_TIMEOUT_S:.0f} s")
    return who


def open_party_link(
    loop: Loop,
    door: str,
    decode: Callable[[bytes], Message],
    who: Identity | None = None,
    timeout_ms: int = 10_000,
) -> ZmqLink:
    """Knock at the hypervisor stub's front door and connect to the PAIR that it offers.

    ``who`` holds our keys where keys are used. Raises TransportError if nobody answers within ``timeout_ms``.
    """
    check_address(door)
    with loop.context.socket(zmq.DEALER) as knock:
        knock.linger = 0
        use_as_client(knock, who.own if who else None, who.stub if who else b"")
        knock.connect(door)
        knock.send(b"open")
        if not knock.poll(timeout_ms):
            raise TransportError(
                f"no hypervisor stub answers at {door}{', or it does not know our key' if who else ''}"
            )
        address = knock.recv().decode()
    if address.startswith("tcp://"):  # the stub does not know by which name we reach it
        host = door[len("tcp://") :].rsplit(":", 1)[0]
        address, _, key = address.partition(" ")
        address = with_key(f"tcp://{host}:{address.rsplit(':', 1)[1]}", key.encode())
    return connect_pair(loop, address, decode, who.own if who else None)
