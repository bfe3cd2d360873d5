"""The gate of a listening party: who may connect to which of its sockets (ZAP, ZeroMQ RFC 27).

Over tcp a peer has proved that it has the secret half of its key when it is asked about; over ipc the kernel
has told user and process of the peer (SO_PEERCRED). The gate answers from the party's own loop. A socket names
itself by its ZAP domain: the front door takes everybody who belongs to the system, any other socket exactly one.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import zmq
from zmq.utils import z85

from protocol.limits import DOOR_CONNECTIONS, Bucket
from protocol.transport_keys import KEY_LENGTH, KeyRing
from protocol.transport_loop import Loop
from protocol.transport_monitor import descriptor, readable

ZAP_ADDRESS = "inproc://zeromq.zap.01"
ZAP_VERSION = b"1.0"
DOOR = "door"  # ZAP domain of the front door; that of any other socket is ONLY and a name
ONLY = "only:"
PROCESS = "process "  # identity of a local peer: its process, and the group of that
ROOT = 0
RAW_KEY = 32


class Request(NamedTuple):
    """What ZeroMQ asks about one connection."""

    domain: str
    address: str
    mechanism: str
    key: bytes


class Refused(Exception):  # noqa: N818 - the word for it
    """A peer may not connect: the kind of refusal, who it is as far as that is known, and what it tried."""

    def __init__(self, kind: str, who: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.who = who


class Gate:
    """Decides about connections. ``ring`` is None where no keys are used: over ipc, and over plain tcp.

    Everybody who is turned away is a refusal of the loop.
    """

    def __init__(self, loop: Loop, ring: KeyRing | None = None) -> None:
        self.loop = loop
        self.ring = ring
        self._admitted: dict[str, bytes] = {}
        self._knocking: dict[str, Bucket] = {}
        self._socket: zmq.Socket[bytes] = loop.context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind(ZAP_ADDRESS)
        loop.add_reader(descriptor(self._socket), lambda: loop.mark(self))
        loop.mark(self)

    def admit(self, name: str, key: str) -> None:
        """Whoever has ``key`` is ``name`` from now on; "" for a name that is gone."""
        if key:
            self._admitted[name] = key.encode()
            self._knocking[name] = Bucket(*DOOR_CONNECTIONS)
        else:
            self._admitted.pop(name, None)
            self._knocking.pop(name, None)

    def receive(self) -> bool:
        """Answer one question if there is one (``transport_loop.Source``)."""
        if not readable(self._socket):
            return False
        self.loop.mark(self)
        peer, _, version, number, domain, address, _, mechanism, *credentials = self._socket.recv_multipart()
        key = _text(credentials[0]) if credentials else b""
        request = Request(domain.decode("latin-1"), address.decode("latin-1"), mechanism.decode("latin-1"), key)
        try:
            answer = (b"200", b"OK", self.decide(request).encode())
        except Refused as refused:
            self.loop.refuse(refused.kind, refused.who, str(refused))
            answer = (b"400", b"refused", b"")
        self._socket.send_multipart([peer, b"", version or ZAP_VERSION, number, *answer, b""])
        return True

    def decide(self, request: Request) -> str:
        """The identity of a peer that may connect. Raises Refused."""
        if self.ring is not None:
            return self._by_key(self.ring, request)
        return _by_process(request)

    def _by_key(self, ring: KeyRing, request: Request) -> str:
        if request.mechanism != "CURVE" or not request.key:
            raise Refused("no-key", request.address, f"{request.mechanism} at {request.domain}")
        guest = next((name for name, key in self._admitted.items() if key == request.key), None)
        name = guest or ring.name_of(request.key)
        if name is None:
            raise Refused("unknown-key", request.address, f"{request.key.decode()} at {request.domain}")
        if request.domain not in (DOOR, ONLY + name):
            raise Refused("wrong-key", name, f"at {request.domain}")
        if guest and request.domain == DOOR and self._knocking[guest].take(self.loop.kernel.now()):
            raise Refused("flood", guest, "connects to the front door again and again")
        return name


def _by_process(request: Request) -> str:
    """Over ipc the peer is a process of our own user (or root's); over plain tcp it is anybody."""
    parts = request.address.rsplit(":", 3)
    if len(parts) < len(("name", "uid", "gid", "pid")):
        return ""
    uid, pid = int(parts[1]), int(parts[3])
    if uid not in (os.getuid(), ROOT):
        raise Refused("other-user", f"user {uid}", f"process {pid}")
    return process_identity(pid)


def process_identity(pid: int) -> str:
    """Process and process group of a local peer; "" if it cannot be seen from here (another container)."""
    try:
        return f"{PROCESS}{pid} {os.getpgid(pid)}" if pid > 0 else ""
    except ProcessLookupError:
        return ""


def _text(raw: bytes) -> bytes:
    """A key as Z85 text, as it is written everywhere else."""
    if len(raw) != RAW_KEY:
        return b""
    text: bytes = z85.encode(raw)
    assert len(text) == KEY_LENGTH
    return text
