"""One wire client: bytes in, bytes out, in order (XS-1, XS-8, XS-10, XS-13). A socket or a ring goes in front of it.

A session holds at most one request (``wire.Framer``), and ``OUTPUT_MAX`` bytes of events that its client does not
take. Whoever lets more pile up is cut off; whoever has ``REPLIES_MAX`` bytes waiting is asked for nothing more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hypervisor_stub.xenstore.operations import PAYLOAD_MAX
from hypervisor_stub.xenstore.paths import SPECIAL_PATHS
from hypervisor_stub.xenstore.requests import Client, answer
from hypervisor_stub.xenstore.store import XenStore
from hypervisor_stub.xenstore.wire import HEADER, Framer, FramingError, Message, Op, event

REPLY_FIRST = (Op.WATCH, Op.RELEASE)  # everywhere else the events that a request causes go before its reply
OUTPUT_MAX = 1 << 20
REPLIES_MAX = 1 << 16


class Session:
    """One client of domain ``domid``. ``exists``: whether the hypervisor knows a domain id.

    The owner may set ``on_output``, which is called when somebody else's request has left something to send,
    and ``on_end``, called once when the session cannot go on; the owner then calls ``close``.
    """

    def __init__(self, store: XenStore, domid: int, *, privileged: bool, exists: Callable[[int], bool]) -> None:
        self.conn = store.connect(domid, self._event, privileged=privileged)
        self.conn.outstanding = lambda: len(self._out)
        self.on_output: Callable[[], None] = lambda: None
        self.on_end: Callable[[str], None] = lambda reason: None
        self._client = Client(store, self.conn, exists)
        self._framer = Framer()
        self._out: deque[bytes] = deque()
        self._queued: set[bytes] = set()  # events of which not a byte has left (XS-10)
        self._sent = 0  # bytes of the first one that have left
        self._size = 0
        self._late: list[tuple[str, str]] | None = None  # events that wait for the reply that is just being made
        self._serving = False
        self._ended = False

    # -- in ------------------------------------------------------------------------------------
    @property
    def wanted(self) -> int:
        """How many bytes of the client may be taken now; 0 while too much waits for it (XS-13)."""
        if self._ended or self.conn.closed or self.conn.throttled or self._size >= REPLIES_MAX:
            return 0
        return self._framer.wanted

    def feed(self, data: bytes) -> None:
        """Take at most ``wanted`` bytes, and serve the request that they complete."""
        try:
            request = self._framer.feed(data)
        except FramingError as error:
            self._end(str(error))
            return
        if request is not None:
            self._serve(request)

    def _serve(self, request: Message) -> None:
        """Events and reply in the order of the real daemon (XS-8, errata S17)."""
        self._serving = True
        self._late = [] if request.op in REPLY_FIRST else None
        reply = answer(self._client, request)
        late, self._late = self._late or [], None
        self._put(reply.encode())
        for path, token in late:
            self._put_event(path, token)
        self._serving = False

    # -- out -----------------------------------------------------------------------------------
    def _event(self, path: str, token: str) -> None:
        if self._late is None:
            self._put_event(path, token)
        else:
            self._late.append((path, token))

    def _put_event(self, path: str, token: str) -> None:
        """Not twice while it waits, unless it is about domains (XS-10); not at all if it is too long for a message."""
        message = event(path, token)
        if len(message) > HEADER.size + PAYLOAD_MAX:
            return
        if path not in SPECIAL_PATHS:
            if message in self._queued:
                return
            self._queued.add(message)
        self._put(message)

    def _put(self, message: bytes) -> None:
        if self._ended:
            return
        self._out.append(message)
        self._size += len(message)
        if self._size > OUTPUT_MAX:
            self._end(f"more than {OUTPUT_MAX} bytes wait for the client")
        elif not self._serving:
            self.on_output()

    def output(self) -> bytes:
        """What is to be sent next, empty if nothing is."""
        return self._out[0][self._sent :] if self._out else b""

    def sent(self, count: int) -> None:
        """``count`` bytes of ``output`` have left."""
        self._size -= count
        self._sent += count
        first = self._out[0]
        self._queued.discard(first)
        if self._sent == len(first):
            self._out.popleft()
            self._sent = 0

    # -- the end -------------------------------------------------------------------------------
    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._drop_output()
            self.on_end(reason)

    def _drop_output(self) -> None:
        self._out.clear()
        self._queued.clear()
        self._size = self._sent = 0

    def close(self) -> None:
        """The client is gone: its watches and transactions go too."""
        self._ended = True
        self._drop_output()
        self.conn.close()
