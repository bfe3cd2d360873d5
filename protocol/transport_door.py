"""The hypervisor stub's front door: parties get a PAIR of their own here, control clients stay."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import zmq

from protocol.codec import ProtocolError, encode
from protocol.limits import HANDSHAKE_MS, KNOCKS, LINK_LIMITS, LINKS_PER_PEER, SEND_QUEUE, Bucket
from protocol.ports import Link, Message
from protocol.transport_account import Account, watch
from protocol.transport_gate import DOOR
from protocol.transport_keys import use_as_server
from protocol.transport_loop import LINGER_MS, Loop, ZmqLink
from protocol.transport_monitor import count_failures, descriptor, readable
from protocol.transport_zmq import NetEndpoints, TransportError, check_address, listened_at

CLIENTS_MAX = 256  # control clients that are remembered at a time
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
        self._account: Account | None = None
        self._clients: dict[bytes, RouterLink] = {}
        self._knocks: dict[str, Bucket] = {}
        self._given: dict[str, list[ZmqLink]] = {}  # PAIRs by who asked for them
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
            self._account = Account("", LINK_LIMITS["door"], keys=endpoints.own is not None)
            count_failures(loop, self.socket, "the front door", self._account)
            watch(loop, self._account)
        loop.add_reader(descriptor(self.socket), lambda: loop.mark(self))
        loop.mark(self)

    def receive(self) -> bool:
        """Serve one message if there is one."""
        if not readable(self.socket):
            return False
        self.loop.mark(self)
        identity, frame, *more = self.socket.recv_multipart(copy=False)
        if self._account is not None:
            for each in (frame, *more):
                self._account.took(int(each.get(zmq.SRCFD)), len(each))
        raw = frame.bytes
        if raw == b"open":
            self._open(identity.bytes, _user(frame))
        else:
            self._control(identity.bytes, raw, _user(frame))
        return True

    def _open(self, identity: bytes, user: str) -> None:
        """A party asks for a PAIR of its own; one that asks too often, or has enough of them, gets none."""
        if len(self._knocks) >= CLIENTS_MAX:
            self._knocks.clear()
        if len(self._given) >= CLIENTS_MAX:
            self._given = {who: links for who, links in self._given.items() if any(not link.closed for link in links)}
        known = self._given[user] = [link for link in self._given.get(user, []) if not link.closed]
        if self._knocks.setdefault(user, Bucket(*KNOCKS)).take(self.loop.kernel.now()):
            self.loop.refuse("flood", user, "knocks too often")
            return
        if len(known) >= (LINKS_PER_PEER if user else CLIENTS_MAX):
            unused = next((link for link in known if link.connections.peer < 0), None)
            if unused is None:
                self.loop.refuse("flood", user, f"has {len(known)} connections")
                return
            known.remove(unused)
            unused.close()
        try:
            address, link = self.endpoints.listen("party", user)
        except TransportError as error:
            self.loop.refuse("no-socket", user, str(error))
            return
        known.append(link)
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
