"""What an attacker outside of a guest does: raw bytes, connections without end, keys that are not its own."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import zmq

from protocol.codec import Decoder, encode
from protocol.messages import TO_CONTROL
from protocol.transport_keys import KeyPair, use_as_client
from tests.processes.hosts import nic
from tests.processes.running import Running

COMPLETER_ABORT = 1 << 15
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
READY = b"\x04\x27\x05READY\x0bSocket-Type\x00\x00\x00\x04PAIR\x08Identity\x00\x00\x00\x00"
ANSWERS = Decoder(TO_CONTROL)


def garbage() -> list[bytes]:
    """Beginnings of connections: nonsense, half a handshake, a frame that claims to be enormous."""
    noise = random.Random(7)
    return [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        noise.randbytes(10_000),
        GREETING[:11],
        GREETING,
        GREETING + READY + b"\x02" + (1 << 62).to_bytes(8, "big"),
        GREETING + READY + b"\x00\x40" + noise.randbytes(64),
        GREETING + noise.randbytes(500),
    ]


def sockets(view: Running) -> list[str]:
    """Every listening socket of the stub and of dom0: (host, port) as text, or a path."""
    if view.description["address"].startswith("ipc://"):
        return [str(path) for path in (view.run / "s").iterdir() if path.is_socket()]
    inodes = set()
    for pid, name in view.description["children"].items():
        if name in ("hypervisor", "dom0"):
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(fd).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [str(int(row[1].split(":")[1], 16)) for row in rows if row[3] == "0A" and row[9] in inodes]


def connect(where: str) -> socket.socket:
    """A raw connection."""
    if where.isdigit():
        return socket.create_connection(("127.0.0.1", int(where)), timeout=5)
    raw = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + 5
    while True:
        try:
            raw.connect(where)
        except BlockingIOError:  # the listener's backlog is full
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return raw


def ended(raw: socket.socket, seconds: float) -> bool:
    """The other end closes the connection within this time."""
    raw.settimeout(max(seconds, 0.01))
    try:
        while raw.recv(4096):
            continue
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def client(kind: int, address: str, own: KeyPair | None = None, server: bytes = b"") -> Iterator[zmq.Socket[bytes]]:
    """A plain pyzmq client, with keys or without."""
    with zmq.Context() as context, context.socket(kind) as found:
        found.linger = 0
        found.reconnect_ivl = -1
        found.sndtimeo = 2_000
        use_as_client(found, own, server)
        found.connect(address)
        yield found


def ask(link: zmq.Socket[bytes], *request: Any, seconds: float = 5) -> Any:
    """The answer to a request; None if nothing comes."""
    with contextlib.suppress(zmq.Again):
        link.send(encode(request))
    return ANSWERS.decode(link.recv()) if link.poll(int(seconds * 1000)) else None


def refused(view: Running, party: str, kind: str) -> int:
    """How often a party has refused something of this kind."""
    counts: dict[str, int] = view.system.ctl(party, "refusals", [])
    return counts.get(kind, 0)


def undisturbed(view: Running, attack: Callable[[], Any]) -> Any:
    """Carry out an attack while a neighbour's device has errors: every recovery must succeed, its data be right."""
    with ThreadPoolExecutor(1) as pool:
        running, rounds = pool.submit(attack), 0
        while rounds < 3 or not running.done():
            mark = view.mark()
            view.dom0("inject", nic(1), 0, COMPLETER_ABORT)
            assert view.outcome(mark, nic(1)) == "recovered"
            view.use("net2")
            rounds += 1
            time.sleep(0.02)
        return running.result()


def memory(view: Running, name: str) -> int:
    """Resident bytes of a process of the host."""
    pid = next(pid for pid, each in view.description["children"].items() if each == name)
    row = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(row.split()[1]) * 1024
