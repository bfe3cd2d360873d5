"""The real daemon and ours side by side: the same requests to both, and what every client got from either."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from hypervisor_stub.xenstore import XenStore
from hypervisor_stub.xenstore.session import Session
from hypervisor_stub.xenstore.wire import Framer, Message, Op
from tests.hypervisor_stub.xenstore.real.daemon import GUEST, RingClient, SocketClient

DOM0, GUEST1 = "dom0", "guest"
WHO = {DOM0: 0, GUEST1: GUEST}
SYNC = Message(Op.GET_DOMAIN_PATH, 0xFFFFFFFF, 0, b"0\0")
REQ_ID = 7
UNKNOWN_TX = 0x7777

# node, permissions: what libxl makes for a guest, and something in between
TREE: tuple[tuple[str, str], ...] = (
    ("/tool", "n0"),
    ("/local/domain/1", "n0 r1"),
    ("/local/domain/1/device/pci/0", "n1 r0"),
    ("/local/domain/1/data", "n1"),
    ("/shared", "b0"),
    ("/secret/x", "n0"),
)


class Request(NamedTuple):
    """``tx``: number of a transaction that the same client has started (1, 2, ...), 0 for none, -1 for a wrong one."""

    who: str
    op: int
    payload: bytes
    tx: int = 0


Answer = dict[str, list[tuple[str, bytes]]]  # client -> what it got: type and payload, in order


class Side(Protocol):
    """One of the two."""

    def send(self, who: str, message: Message) -> None: ...

    def message(self, who: str) -> Message: ...


class RealSide:
    """The daemon, by its socket and a guest's ring."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.clients: dict[str, SocketClient | RingClient] = {GUEST1: RingClient(folder, GUEST)}
        self.reset()

    def reset(self) -> None:
        """As if just started: no nodes, watches, transactions, and one guest."""
        if DOM0 in self.clients:
            self.clients[DOM0].close()
        self.clients[DOM0] = SocketClient(self._folder / "socket")
        for op, payload in (
            (Op.RELEASE, b"2\0"),
            (Op.INTRODUCE, b"1\0000\0005\0"),
            (Op.WRITE, b"/\0"),
            (Op.SET_PERMS, b"/\0n0\0"),
            (Op.SET_PERMS, b"@introduceDomain\0n0\0"),
            (Op.SET_PERMS, b"@releaseDomain\0n0\0"),
        ):
            self._ask(DOM0, op, payload)
        self._ask(GUEST1, Op.RESET_WATCHES, b"\0")
        for name in self._ask(DOM0, Op.DIRECTORY, b"/\0").payload.split(b"\0")[:-1]:
            self._ask(DOM0, Op.RM, b"/" + name + b"\0")

    def _ask(self, who: str, op: int, payload: bytes) -> Message:
        self.clients[who].send(Message(op, REQ_ID, 0, payload).encode())
        while (message := self.message(who)).op == Op.WATCH_EVENT:
            pass
        return message

    def send(self, who: str, message: Message) -> None:
        self.clients[who].send(message.encode())

    def message(self, who: str) -> Message:
        return self.clients[who].message()


class OurSide:
    """A fresh store with two sessions; no sockets."""

    def __init__(self) -> None:
        store = XenStore()
        store.introduce_domain(GUEST)
        exists = (0, GUEST, 2).__contains__
        self.sessions = {who: Session(store, domid, privileged=domid == 0, exists=exists) for who, domid in WHO.items()}
        self._framers = {who: Framer() for who in WHO}
        self._got: dict[str, deque[Message]] = {who: deque() for who in WHO}

    def send(self, who: str, message: Message) -> None:
        session, data = self.sessions[who], message.encode()
        while data:
            wanted = session.wanted
            if not wanted:  # it takes nothing as long as too much waits for its client
                self._receive(who)
            session.feed(data[:wanted])
            data = data[wanted:]

    def message(self, who: str) -> Message:
        self._receive(who)
        return self._got[who].popleft()

    def _receive(self, who: str) -> None:
        session, framer = self.sessions[who], self._framers[who]
        while piece := session.output()[: framer.wanted]:
            session.sent(len(piece))
            message = framer.feed(piece)
            if message is not None:
                self._got[who].append(message)


class Conversation:
    """Requests to one side, with transaction ids told apart by the order of their starts."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._started: dict[str, list[int]] = {who: [] for who in WHO}
        for path, perms in TREE:
            self.ask(Request(DOM0, Op.MKDIR, path.encode() + b"\0"))
            self.ask(Request(DOM0, Op.SET_PERMS, f"{path} {perms} ".replace(" ", "\0").encode()))

    def ask(self, request: Request) -> Answer:
        """What all clients got because of it: their queues are in order, so a known answer marks the end."""
        tx_id = self._tx_id(request)
        self._side.send(request.who, Message(request.op, REQ_ID, tx_id, request.payload))
        return {who: self._until_sync(who, request, tx_id) for who in WHO}

    def _tx_id(self, request: Request) -> int:
        started = self._started[request.who]
        if request.tx < 0 or request.tx > len(started):
            return UNKNOWN_TX
        return started[request.tx - 1] if request.tx else 0

    def _until_sync(self, who: str, request: Request, tx_id: int) -> list[tuple[str, bytes]]:
        self._side.send(who, SYNC)
        found = []
        while (message := self._side.message(who)).req_id != SYNC.req_id:
            found.append(self._plain(who, message, tx_id))
        return found

    def _plain(self, who: str, message: Message, tx_id: int) -> tuple[str, bytes]:
        """Without what a server may choose; ids must be echoed."""
        if message.op == Op.WATCH_EVENT:
            assert message[1:3] == (0, 0)
            return Op(message.op).name, message.payload
        assert message[1:3] == (REQ_ID, tx_id)
        payload = message.payload
        if message.op == Op.TRANSACTION_START:
            self._started[who].append(int(payload.rstrip(b"\0")))
            payload = b"a number"
        elif message.op == Op.DIRECTORY_PART:
            payload = payload.partition(b"\0")[2]
        return Op(message.op).name, payload


def differences(real: RealSide, requests: Iterable[Request]) -> list[str]:
    """What the two sides answer differently; they share nothing else."""
    real.reset()
    sides = Conversation(real), Conversation(OurSide())
    found = []
    for request in requests:
        theirs, ours = (side.ask(request) for side in sides)
        if theirs != ours:
            found.append(f"{request}\n  real {theirs}\n  ours {ours}")
    return found
