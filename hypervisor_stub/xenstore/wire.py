"""Messages as bytes: types, header, framing (xen-pci.md 8.5). No sockets here."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from hypervisor_stub.xenstore.operations import PAYLOAD_MAX

HEADER = struct.Struct("<4I")  # type, req_id, tx_id, len


class Op(IntEnum):
    """Message types; 20 was RESTRICT and is unused, 23 to 26 are of a later Xen."""

    CONTROL = 0
    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WATCH = 4
    UNWATCH = 5
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    INTRODUCE = 8
    RELEASE = 9
    GET_DOMAIN_PATH = 10
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    RESUME = 18
    SET_TARGET = 19
    RESET_WATCHES = 21
    DIRECTORY_PART = 22
    GET_FEATURE = 23


class FramingError(Exception):
    """A message longer than the protocol allows: its end cannot be found, the connection is of no use any more."""


class Message(NamedTuple):
    """One message. ``op`` is a plain number: a peer may send any."""

    op: int
    req_id: int
    tx_id: int
    payload: bytes

    def encode(self) -> bytes:
        """Header and payload."""
        return HEADER.pack(self.op, self.req_id, self.tx_id, len(self.payload)) + self.payload


class Framer:
    """Puts one message together out of pieces of any size; holds at most one, 4112 bytes."""

    __slots__ = ("_data", "_end")

    def __init__(self) -> None:
        self._data = bytearray()
        self._end = HEADER.size

    @property
    def wanted(self) -> int:
        """How many bytes may come next: the rest of the header, or of the payload. Never 0."""
        return self._end - len(self._data)

    def feed(self, data: bytes) -> Message | None:
        """Take at most ``wanted`` bytes; the message that they complete. Raises FramingError."""
        self._data += data
        if len(self._data) == self._end == HEADER.size:
            self._end += self._announced()
        if len(self._data) < self._end:
            return None
        op, req_id, tx_id, _ = HEADER.unpack_from(self._data)
        message = Message(op, req_id, tx_id, bytes(self._data[HEADER.size :]))
        self._data.clear()
        self._end = HEADER.size
        return message

    def _announced(self) -> int:
        length: int = HEADER.unpack_from(self._data)[3]
        if length > PAYLOAD_MAX:
            raise FramingError(f"message of {length} bytes; at most {PAYLOAD_MAX} are allowed")
        return length


def event(path: str, token: str) -> bytes:
    """A WATCH_EVENT: both ids are 0."""
    return Message(Op.WATCH_EVENT, 0, 0, text(path) + text(token)).encode()


def text(string: str) -> bytes:
    """A string on the wire: its bytes, whatever they mean, and a NUL."""
    return string.encode("latin-1") + b"\0"
