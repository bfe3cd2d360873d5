"""Requests and events over a link: how the parties call one another off the hot path.

Wire form: ``(op, serial, argument, ...)``. A request carries a serial above 0 and is answered by
``("ok", serial, result)`` or ``("error", serial, text)``; an event carries serial 0 and is not answered.
The operations and the types of their arguments are declared in ``protocol.messages``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kernel_stub.kernel import Kernel
from kernel_stub.sync import Future
from protocol.limits import Bucket
from protocol.ports import Link, Message

Handler = Callable[..., Awaitable[Any]]


_ANSWERS = ("ok", "error")


class RpcError(Exception):
    """The other party refused; the text says why."""


class Rpc:
    """One end of a connection: ``call`` and ``post`` outwards, ``handlers`` for what comes in.

    Requests of the peer run as tasks of their own, so that one that waits does not delay the next; events
    are carried out at once, in order.

    For a peer that is not trusted: ``share`` is what it may send, ``revoked`` ends its every effect, and ``refuse``
    is told of what it did not get: ("flood" or "dying", operation), or (operation, error).
    """

    def __init__(self, kernel: Kernel, link: Link, name: str) -> None:
        self.kernel = kernel
        self.link = link
        self.name = name
        self.handlers: dict[str, Handler] = {}
        self.events: dict[str, Callable[..., None]] = {}
        self.closed: str | None = None
        self.on_close: Callable[[str], None] = lambda reason: None
        self.share: Bucket | None = None
        self.revoked = False
        self.refuse: Callable[[str, str], None] = lambda what, text: None
        self._serial = 0
        self._waiting: dict[int, Future] = {}
        self._held: list[tuple[str, int, list[Any]]] | None = None
        link.on_message = self._receive
        link.on_close = self._close

    async def call(self, op: str, *args: Any, deadline: int | None = None) -> Any:
        """Send a request and wait for the answer. Raises RpcError (refused, peer gone, deadline passed)."""
        if self.closed is not None:
            raise RpcError(f"{self.name}: {self.closed}")
        self._serial += 1
        serial = self._serial
        if not self.link.send((op, serial, *args)):
            raise RpcError(f"{self.name}: {op} could not be sent")
        future = self._waiting[serial] = Future(self.kernel, f"answer to {op} from {self.name}")
        if not await future.wait(deadline):
            del self._waiting[serial]
            raise RpcError(f"{self.name}: no answer to {op}")
        ok, value = future.value
        if not ok:
            raise RpcError(value)
        return value

    def post(self, op: str, *args: Any) -> None:
        """Send an event; lost if the peer is gone."""
        if self.closed is None:
            self.link.send((op, 0, *args))

    def hold(self) -> None:
        """Let requests of the peer wait until ``release``: this party is not ready to serve yet."""
        self._held = []

    def release(self) -> None:
        """Serve what has waited, in order, and everything from now on."""
        held, self._held = self._held or [], None
        for op, serial, args in held:
            self._start(op, serial, args)

    def _receive(self, message: Message) -> None:
        op, serial, *args = message
        if self.share is not None and (wait := self.share.take(self.kernel.now())):
            self.refuse("flood", op)
            self.link.pause(wait)
        if self.revoked and op not in _ANSWERS:
            self.refuse("dying", op)
        elif op in _ANSWERS:
            future = self._waiting.pop(serial, None)
            if future is not None:
                future.set((op == "ok", args[0]))
        elif serial == 0:
            event = self.events.get(op)
            if event is not None:
                event(*args)
        elif self._held is not None:
            self._held.append((op, serial, args))
        else:
            self._start(op, serial, args)

    def _start(self, op: str, serial: int, args: list[Any]) -> None:
        self.kernel.spawn(self._serve(op, serial, args), f"{op} of {self.name}")

    async def _serve(self, op: str, serial: int, args: list[Any]) -> None:
        handler = self.handlers.get(op)
        try:
            if handler is None:
                raise RpcError(f"{op}: not available here")
            result = await handler(*args)
        except RpcError as error:
            self.refuse(op, str(error))
            self._reply("error", serial, str(error))
        else:
            self._reply("ok", serial, result)

    def _reply(self, kind: str, serial: int, value: Any) -> None:
        if self.closed is None:
            self.link.send((kind, serial, value))

    def _close(self, reason: str) -> None:
        self.closed = reason
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set((False, f"{self.name}: {reason}"))
        self.on_close(reason)
