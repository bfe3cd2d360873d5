"""The yardstick of the benchmarks: a bare pyzmq PAIR ping-pong, nothing else."""

from __future__ import annotations

import os
import time

import zmq

from protocol.codec import encode
from protocol.sharedinfo import OP_HEAD
from protocol.transport_keys import make_pair, use_as_client, use_as_server

# What a configuration read puts on the wire, and what comes back: the same bytes as the real thing.
REQUEST = encode((1, 1, True, ((0, 4, bytes(OP_HEAD)), (1, 0, b""))))
REPLY = encode((1, 1, True, ((0, 8, bytes(4)), (0, 32, bytes(4)), (2, 0, b""))))


def pin(pid: int, cpu: int) -> None:
    """Keep every thread of a process on one processor (ZeroMQ has threads of its own)."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {cpu})


class RawPing:
    """A forked echo process and the socket to it; both on processor ``cpu``. With ``curve`` both have keys."""

    def __init__(self, address: str, cpu: int, *, curve: bool = False) -> None:
        self.address = address
        self.server = make_pair() if curve else None
        self.client = make_pair() if curve else None
        self.pid = os.fork()
        if self.pid == 0:
            self._echo()
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        self._socket.linger = 0
        use_as_client(self._socket, self.client, self.server.public if self.server else b"")
        self._socket.connect(self.address)
        self._socket.send(b"hello")
        self._socket.recv()
        pin(self.pid, cpu)
        pin(os.getpid(), cpu)

    def _echo(self) -> None:
        socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.PAIR)
        use_as_server(socket, self.server)
        socket.bind(self.address)
        while socket.recv() != b"end":
            socket.send(REPLY)
        os._exit(0)

    def samples(self, count: int) -> list[int]:
        """Round trips in ns."""
        send, recv, now = self._socket.send, self._socket.recv, time.monotonic_ns
        found = []
        for _ in range(count):
            begin = now()
            send(REQUEST)
            recv()
            found.append(now() - begin)
        return found

    def close(self) -> None:
        """End the echo process."""
        self._socket.send(b"end")
        os.waitpid(self.pid, 0)
        self._socket.close(linger=0)
        self._context.term()
