"""The real xenstored of Debian, run without a hypervisor, and the two ways to talk to it: socket and guest's ring."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from hypervisor_stub.xenstore.wire import HEADER, Message

ROOT = "XENAER_XENSTORED"  # environment: directory into which scripts/get-xenstored has unpacked the packages
GUEST = 1
START_S, ANSWER_S = 5.0, 10.0
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD = range(2048 // 4, 2064 // 4, 4 // 4)  # words of the ring's page
RING = 1024


def root() -> Path:
    """Where the packages are."""
    return Path(os.environ.get(ROOT, "/"))


def daemon() -> Path:
    """The program. The shim knows the libraries of 4.17 only."""
    return root() / "usr/lib/xen-4.17/bin/xenstored"


def why_not() -> str:
    """Why the real daemon cannot run here, empty if it can."""
    if not daemon().exists():
        return f"{daemon()} is not there: scripts/get-xenstored DIR, then {ROOT}=DIR"
    return "" if shutil.which("cc") else "no C compiler for the shim that stands in for the hypervisor"


def take(sock: socket.socket, count: int) -> bytes:
    """Exactly ``count`` bytes. Raises ConnectionError."""
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise ConnectionError(f"closed after {len(data)} of {count} bytes")
        data += piece
    return data


class SocketClient:
    """A client of the Unix socket: dom0's rights."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(str(path))

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def message(self) -> Message:
        """The next message of the daemon."""
        op, req_id, tx_id, length = HEADER.unpack(take(self.sock, HEADER.size))
        return Message(op, req_id, tx_id, take(self.sock, length))

    def close(self) -> None:
        self.sock.close()


class RingClient:
    """A guest on its shared page (xen-pci.md 8.5, the last paragraph), as far as a well-behaved one needs it."""

    def __init__(self, folder: Path, domid: int) -> None:
        self._folder = folder
        self._port = 100 + domid
        fd = os.open(folder / f"ring-{domid}", os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(fd, 4096)
        self._page = mmap.mmap(fd, 4096)
        os.close(fd)
        self._words = memoryview(self._page).cast("I")  # stores a word in one piece, struct.pack_into does not
        self._bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._bell.settimeout(ANSWER_S)
        self._bell.bind(str(folder / f"evtchn-{domid}"))

    def _ring(self) -> None:
        self._bell.sendto(self._port.to_bytes(4, "little"), str(self._folder / "evtchn"))

    def send(self, data: bytes) -> None:
        for start in range(0, len(data), RING):
            self._put(data[start : start + RING])

    def _put(self, data: bytes) -> None:
        while RING - (self._words[REQ_PROD] - self._words[REQ_CONS]) % (1 << 32) < len(data):
            self._bell.recv(4)
        producer = self._words[REQ_PROD]
        for offset, byte in enumerate(data):
            self._page[(producer + offset) % RING] = byte
        self._words[REQ_PROD] = (producer + len(data)) % (1 << 32)
        self._ring()

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            consumer, producer = self._words[RSP_CONS], self._words[RSP_PROD]
            there = min((producer - consumer) % (1 << 32), count - len(data))
            if not there:
                self._bell.recv(4)
                continue
            data += bytes(self._page[RING + (consumer + i) % RING] for i in range(there))
            self._words[RSP_CONS] = (consumer + there) % (1 << 32)
            self._ring()
        return data

    def message(self) -> Message:
        """The next message of the daemon."""
        op, req_id, tx_id, length = HEADER.unpack(self._take(HEADER.size))
        return Message(op, req_id, tx_id, self._take(length))

    def close(self) -> None:
        self._words.release()
        self._page.close()
        self._bell.close()


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Build the shim, start the daemon with its files in ``folder``, wait for its socket."""
    shim, source = folder / "shim.so", Path(__file__).with_name("xen_shim.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    libraries = ":".join(map(str, root().glob("usr/lib/*-linux-gnu")))
    env = os.environ | {"LD_PRELOAD": str(shim), "LD_LIBRARY_PATH": libraries, "SHIM_DIR": str(folder)}
    env |= {"XENSTORED_RUNDIR": str(folder), "XENSTORED_ROOTDIR": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([daemon(), "-N", f"--pid-file={folder}/pid"], env=env, stdout=log, stderr=log)
    deadline = time.monotonic() + START_S
    while not (folder / "socket").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"xenstored did not start: {(folder / 'log').read_text()}")
        time.sleep(0.01)
    return process


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Path]:
    """The daemon's folder, while it runs; domains 1 and 2 exist."""
    for domid in (GUEST, 2):
        (folder / f"dom-{domid}").touch()
    process = start(folder)
    try:
        yield folder
    finally:
        process.terminate()
        process.wait(ANSWER_S)
