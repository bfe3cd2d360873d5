"""A client of the wire as tests use it: requests to a session, and the messages that come back."""

from __future__ import annotations

from hypervisor_stub.xenstore import XenStore
from hypervisor_stub.xenstore.session import Session
from hypervisor_stub.xenstore.wire import Framer, Message, Op

REQ_ID = 5
DOMAINS = (0, 7, 9)  # that the hypervisor knows


class WireClient:
    """One session with nothing in front of it."""

    def __init__(self, store: XenStore, domid: int, *, privileged: bool) -> None:
        self.session = Session(store, domid, privileged=privileged, exists=DOMAINS.__contains__)
        self.ended: list[str] = []
        self.session.on_end = self.ended.append
        self._framer = Framer()

    def put(self, data: bytes) -> int:
        """Send bytes as long as they are taken; how many were."""
        taken = 0
        while taken < len(data) and (wanted := self.session.wanted):
            piece = data[taken : taken + wanted]
            self.session.feed(piece)
            taken += len(piece)
        return taken

    def send(self, op: int, *strings: str, value: bytes = b"", tx: int = 0) -> None:
        """One request: NUL-terminated strings, then bytes."""
        payload = "".join(f"{string}\0" for string in strings).encode("latin-1") + value
        data = Message(op, REQ_ID, tx, payload).encode()
        assert self.put(data) == len(data)

    def taken(self) -> list[Message]:
        """What there is to be read."""
        found = []
        while piece := self.session.output()[: self._framer.wanted]:
            self.session.sent(len(piece))
            message = self._framer.feed(piece)
            if message is not None:
                found.append(message)
        return found

    def ask(self, op: int, *strings: str, value: bytes = b"", tx: int = 0) -> tuple[str, bytes]:
        """Type and payload of the one message that a request brings; its ids are the request's."""
        self.send(op, *strings, value=value, tx=tx)
        (message,) = self.taken()
        assert message[1:3] == (REQ_ID, tx)
        return Op(message.op).name, message.payload

    def plain(self) -> list[tuple[str, bytes]]:
        """Like ``taken``, without ids."""
        return [(Op(message.op).name, message.payload) for message in self.taken()]

    def start(self) -> int:
        """A new transaction."""
        return int(self.ask(Op.TRANSACTION_START, "")[1].rstrip(b"\0"))
