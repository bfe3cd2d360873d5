"""Real links: how the parties' ZeroMQ sockets come to be.

A party connects to the hypervisor stub's front door (ROUTER) and is given a PAIR of its own, whose loss is
noticed by a socket monitor; links between a guest and dom0 are PAIRs on an endpoint made for one guest
incarnation. Control clients stay at the front door.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zmq

from protocol.limits import HANDSHAKE_MS, LINK_LIMITS, SEND_QUEUE, LinkLimit
from protocol.ports import EndpointError, Message
from protocol.transport_account import Account
from protocol.transport_gate import ONLY, Gate
from protocol.transport_keys import Identity, KeyPair, KeyRing, use_as_client, use_as_server
from protocol.transport_loop import Loop, ZmqLink

PATH_MAX = 107  # sun_path
LOCAL_TCP = "tcp://127.0.0.1"  # what is for this machine alone is not bound to its other addresses
KEY_TIMEOUT_S = 30.0


class TransportError(EndpointError):
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
        try:
            socket = pair_socket(self.loop.context, LINK_LIMITS[kind])
        except zmq.ZMQError as error:
            raise TransportError(f"{self.base}: {error.strerror}") from None
        try:
            socket.handshake_ivl = HANDSHAKE_MS
            if self.gate is not None:
                socket.zap_domain = f"{ONLY}{name}".encode()
            use_as_server(socket, self.own)
            address = self._bind(socket, kind)
            link = ZmqLink(self.loop, socket, self.decoders[kind], bound=True, name=name)
            if address.startswith("ipc://"):
                link.path = address.removeprefix("ipc://")
            else:
                link.keep_account(Account(name, LINK_LIMITS[kind], keys=self.own is not None))
            return address, link
        except zmq.ZMQError as error:
            socket.close()
            raise TransportError(f"{self.base}: {error.strerror}") from None
        except TransportError:
            socket.close()
            raise

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
    socket = pair_socket(loop.context, LINK_LIMITS["host"])
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


def listened_at(path: str) -> bool:
    """Somebody listens at a local socket; one that a killed system has left does not count. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


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
