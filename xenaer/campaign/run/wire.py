"""Messages over a stream socket: a length, then that many bytes. One end never waits, the other may.

A worker may be killed in the middle of a message, or stopped; whoever supervises it must not wait for the rest.
"""

from __future__ import annotations

import socket
import struct

LENGTH = struct.Struct("=Q")
READ_SIZE = 1 << 18


def framed(data: bytes) -> bytes:
    """A message as it goes over the wire, or into memory."""
    return LENGTH.pack(len(data)) + data


def unframed(data: bytes | bytearray) -> tuple[list[bytes], int]:
    """The complete messages at the beginning of ``data``, and how many bytes of it they take."""
    found, begin = [], 0
    while begin + LENGTH.size <= len(data):
        end = begin + LENGTH.size + LENGTH.unpack_from(data, begin)[0]
        if end > len(data):
            break
        found.append(bytes(data[begin + LENGTH.size : end]))
        begin = end
    return found, begin


class Channel:
    """The end that never waits. ``ended``: nothing more will come; ``unsent``: ``flush`` has something left to do."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.ended = False
        self._in = bytearray()
        self._out = b""

    @property
    def unsent(self) -> bool:
        """Whether part of a message waits for room."""
        return bool(self._out)

    def send(self, data: bytes) -> None:
        """Send as much as there is room for; ``flush`` sends the rest. An ended peer is told by ``receive``."""
        self._out += framed(data)
        self.flush()

    def flush(self) -> None:
        """Send what is left."""
        try:
            while self._out:
                self._out = self._out[self.sock.send(self._out) :]
        except BlockingIOError:
            return
        except OSError:  # the peer has ended
            self._out = b""

    def receive(self) -> list[bytes]:
        """The messages that have come completely."""
        try:
            while data := self.sock.recv(READ_SIZE):
                self._in += data
            self.ended = True
        except OSError as error:
            self.ended = not isinstance(error, BlockingIOError)
        messages, used = unframed(self._in)
        del self._in[:used]
        return messages

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


def wait_message(sock: socket.socket) -> bytes | None:
    """The next message on a blocking socket, or None if the peer has ended."""
    head = _wait_bytes(sock, LENGTH.size)
    return None if head is None else _wait_bytes(sock, LENGTH.unpack(head)[0])


def _wait_bytes(sock: socket.socket, count: int) -> bytes | None:
    data = bytearray(count)
    view, have = memoryview(data), 0
    while have < count:
        try:
            got = sock.recv_into(view[have:])
        except ConnectionResetError:
            return None
        if not got:
            return None
        have += got
    return bytes(data)
