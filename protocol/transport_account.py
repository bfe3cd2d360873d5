"""What the connections of a socket have sent, held against what of it has been taken as messages.

ZeroMQ keeps the frames of a message that is not complete, however many there are, and tells nobody. TCP counts the
bytes that a connection has received; what of them has not become a message by now waits in our memory. Connections
over ipc have no such count; there a guest is the operator's own process (docs/SECURITY.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import termios
from typing import Protocol

from protocol.limits import UNTAKEN, LinkLimit
from protocol.ports import Driven
from protocol.transport_monitor import Refuse

CHECK_NS = 250_000_000
_RECEIVED = struct.Struct("=128xQ")  # tcpi_bytes_received of struct tcp_info
_UNREAD = struct.Struct("=i")  # what the kernel still holds of it
_CURVE = 33  # of a sealed message: name, nonce, authentication, flags
_SHORT, _LONG = 2, 9  # head of a frame, whose length has one byte or eight


class Checking(Protocol):
    """What is needed of a loop (``transport_loop.Loop``)."""

    kernel: Driven
    refuse: Refuse


class Account:
    """One socket: its connections by descriptor, and the bytes that each has sent as messages that were taken."""

    __slots__ = ("_limit", "_overhead", "_taken", "closed", "name")

    def __init__(self, name: str, limit: LinkLimit, *, keys: bool) -> None:
        self.name = name  # whom the gate lets in
        self.closed = False
        self._limit = limit.message * (limit.queue + 1) + UNTAKEN
        self._overhead = _CURVE if keys else 0
        self._taken: dict[int, int] = {}

    def came(self, fd: int) -> None:
        """A connection has been accepted."""
        self._taken[fd] = 0

    def went(self, fd: int) -> None:
        """A connection has ended."""
        self._taken.pop(fd, None)

    def took(self, fd: int, length: int) -> None:
        """A frame of ``length`` bytes has been taken."""
        if fd in self._taken:
            body = length + self._overhead
            self._taken[fd] += body + (_SHORT if body < 256 else _LONG)

    def over(self) -> list[int]:
        """Connections that have sent more than may wait."""
        return [fd for fd, taken in self._taken.items() if received(fd) - taken > self._limit]


def watch(loop: Checking, account: Account) -> None:
    """Cut off connections of ``account`` that hold too much, from now on until it is closed."""

    def check() -> None:
        if account.closed:
            return
        for fd in account.over():
            loop.refuse("flood", account.name, "a message without end")
            cut(fd)
            account.went(fd)
        loop.kernel.call_at(loop.kernel.now() + CHECK_NS, check)

    check()


def received(fd: int) -> int:
    """Bytes that ZeroMQ has read from a tcp connection in its life; 0 for anything else."""
    try:
        with socket.socket(fileno=os.dup(fd)) as connection:
            raw = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED.size)
            (unread,) = _UNREAD.unpack(fcntl.ioctl(fd, termios.FIONREAD, bytes(_UNREAD.size)))
    except OSError:
        return 0
    return int(_RECEIVED.unpack(raw)[0]) - int(unread) if len(raw) == _RECEIVED.size else 0


def cut(fd: int) -> None:
    """End a connection: ZeroMQ notices, and forgets what it has of the message."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:  # it may have ended by itself
        connection.shutdown(socket.SHUT_RDWR)
