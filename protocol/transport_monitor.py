"""What ZeroMQ tells of a socket: readiness, connections that come and go, strangers that never get in.

A monitor's reading end must be open until the monitor is disabled: with nobody to take its events, ZeroMQ's thread
waits for ever with the next one, lock in hand.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

import zmq

_ACCEPTED, _DISCONNECTED = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED)
_FAILED = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL) | int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)  # the gate sees others
CONNECTION_EVENTS = _ACCEPTED | _DISCONNECTED
_EVENT = struct.Struct("=HI")  # of a monitor: what happened, and to which descriptor
EVENTS, POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)  # plain numbers: flags cost more

Refuse = Callable[[str, str, str], None]  # kind of refusal, who, what was tried


class Watching(Protocol):
    """What is needed of a loop (``transport_loop.Loop``)."""

    refuse: Refuse
    first_looks: list[Callable[[], None]]
    at_close: list[Callable[[], None]]

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever ``fd`` is readable."""

    def remove_reader(self, fd: int) -> None:
        """Forget ``fd``."""


class Counting(Protocol):
    """What is told of connections (``transport_account.Account``)."""

    def came(self, fd: int) -> None:
        """A connection has been accepted."""

    def went(self, fd: int) -> None:
        """A connection has ended."""


class Connections:
    """Which connections of a PAIR there are. Strangers come and go at a bound one; only its peer's end counts."""

    __slots__ = ("_ended", "_open", "account", "bound", "peer")

    def __init__(self, bound: bool) -> None:
        self.bound = bound
        self.peer = -1  # descriptor of the peer's connection, known from its greeting
        self.account: Counting | None = None
        self._open: set[int] = set()
        self._ended: list[int] = []

    def listen(self, monitor: zmq.Socket[bytes]) -> bool:
        """Take in what a monitor tells; True if a connection has ended."""
        while readable(monitor):
            event, connection = _EVENT.unpack(monitor.recv_multipart()[0])
            tell(self.account, event, connection)
            if event == _ACCEPTED:
                self._open.add(connection)
            else:
                self._open.discard(connection)
                self._ended.append(connection)
        return bool(self._ended)

    def strangers(self) -> int:
        """How many have come to a bound socket and gone, without ever having been its peer."""
        ended, self._ended = self._ended, self._ended if self.lost else []
        return sum(connection != self.peer for connection in ended) if self.bound else 0

    @property
    def lost(self) -> bool:
        """The peer has been there and is gone."""
        return bool(self._ended) if not self.bound else self.peer >= 0 and self.peer not in self._open


def tell(account: Counting | None, event: int, fd: int) -> None:
    """Pass on to an account that a connection has come or gone."""
    if account is not None and event == _ACCEPTED:
        account.came(fd)
    elif account is not None and event == _DISCONNECTED:
        account.went(fd)


def count_failures(loop: Watching, socket: zmq.Socket[bytes], where: str, account: Counting) -> None:
    """Count connections to ``socket`` that end before it is known who they are; tell ``account`` of all."""
    monitor = socket.get_monitor_socket(_FAILED | CONNECTION_EVENTS)
    fd = descriptor(monitor)

    def failed() -> None:
        while readable(monitor):
            event, value = _EVENT.unpack(monitor.recv_multipart()[0])
            if event & _FAILED:
                loop.refuse("handshake", "", f"at {where}")
            else:
                tell(account, event, value)

    def close() -> None:
        loop.remove_reader(fd)
        socket.disable_monitor()  # in this order, see ZmqLink.close
        monitor.close(linger=0)

    loop.add_reader(fd, failed)
    loop.first_looks.append(failed)
    loop.at_close.append(close)


def descriptor(socket: zmq.Socket[bytes]) -> int:
    """File descriptor that becomes readable when something happens to the socket."""
    return int(socket.getsockopt(zmq.FD))


def readable(socket: zmq.Socket[bytes]) -> bool:
    """A message is there. Reading this also makes the file descriptor tell of the next one."""
    return bool(socket.getsockopt(EVENTS) & POLLIN)  # type: ignore[operator]
