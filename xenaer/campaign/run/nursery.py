"""The nursery: a process with everything imported and nothing opened, from which workers are forked in milliseconds.

It is a program of its own, not a fork: a pool may live in a process with threads, and in one that may have no
children by ``multiprocessing`` (a Dask worker). It ends with the process that started it, and its workers with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from protocol.parent_death import die_with_parent, kill_session
from xenaer.campaign.run import heartbeat
from xenaer.campaign.run.worker import serve

BOOT = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path[:] = order['path']; "
    "from xenaer.campaign.run.nursery import main; main(order['fd'], order['pid'], order['preload'])"
)
SPAWN = b"spawn"
READY = b"ready"
END = b"end"
MESSAGE_MAX = 1 << 16
STANDARD_ERROR = 2
END_S = 2.0  # it kills what workers have started, and ends
ANSWER_S = 60.0  # a nursery that was stopped must not stop the pool


class NurseryError(Exception):
    """The nursery has ended, or could not begin; the text says why."""


class Nursery:
    """The handle. Every method waits for the nursery's answer; all raise NurseryError once it has ended."""

    def __init__(self, preload: Sequence[str] = ()) -> None:
        """Start it; ``preload`` are modules to import. Raises NurseryError."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = {"path": sys.path, "fd": theirs.fileno(), "pid": os.getpid(), "preload": list(preload)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", BOOT, json.dumps(order)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=STANDARD_ERROR,  # what a driver prints must not get into the results
            process_group=0,  # a Ctrl-C is the runner's business
        )
        theirs.close()
        self._socket.settimeout(ANSWER_S)
        try:
            answer = self._receive()[0]
            if answer != READY:
                raise NurseryError(answer.decode(errors="replace"))
        except NurseryError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def spawn(self, sock: socket.socket, memory: heartbeat.Memory) -> tuple[int, int]:
        """Fork a worker that talks through ``sock``; its process id, and a descriptor of the process (pidfd)."""
        self._send(SPAWN, [sock.fileno(), memory.fd])
        answer, fds = self._receive()
        if not fds:
            raise NurseryError(f"no worker could be started: {answer.decode(errors='replace')}")
        return int(answer), fds[0]

    def reap(self, pid: int) -> int:
        """How an ended worker ended, as ``os.waitstatus_to_exitcode`` says it."""
        self._send(str(pid).encode(), [])
        return int(self._receive()[0])

    def close(self) -> None:
        """End it; workers that are left are killed with it, and whatever they have started."""
        with contextlib.suppress(NurseryError):
            self._send(END, [])
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._process.kill()
        self._process.wait()

    def _send(self, data: bytes, fds: list[int]) -> None:
        try:
            socket.send_fds(self._socket, [data], fds)
        except OSError as error:
            raise NurseryError(f"the process that starts workers has ended ({error.strerror})") from None

    def _receive(self) -> tuple[bytes, list[int]]:
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, MESSAGE_MAX, 1)
        except OSError:
            data, fds = b"", []
        if not data:
            raise NurseryError("the process that starts workers has ended")
        return data, fds


# -- in the nursery's process ----------------------------------------------------------------------
def main(fd: int, parent: int, preload: Sequence[str]) -> None:
    """Serve orders that come through socket ``fd`` until process ``parent`` has ended or closes its end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with its parent, not with the terminal
    sys.stdout = sys.stderr  # unbuffered, since workers end by a signal
    orders = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    problem = _preload(preload)
    with contextlib.suppress(BrokenPipeError):
        orders.send(problem.encode() or READY)
    if problem:
        return
    gc.collect()
    gc.freeze()  # workers share these pages for as long as nobody touches them
    workers: set[int] = set()
    with contextlib.suppress(ProcessLookupError, ConnectionError):
        _serve(orders, os.pidfd_open(parent), workers)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)  # nobody has waited for it: the number is its own
        _reap(pid)


def _preload(names: Sequence[str]) -> str:
    """Import modules; what went wrong, or an empty text."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            return f"cannot import {name!r}: {type(error).__name__}: {error}"
    if threading.active_count() != 1:
        return f"importing {', '.join(names)} started threads, and workers cannot be forked then"
    return ""


def _serve(orders: socket.socket, parent: int, workers: set[int]) -> None:
    """``workers``: those that have not been reaped."""
    while True:
        ready = select.select([orders.fileno(), parent], [], [])[0]
        if parent in ready:
            return  # a fork of the parent may still hold its end of the socket
        data, fds, _, _ = socket.recv_fds(orders, MESSAGE_MAX, 2)
        if data in (b"", END):
            return
        if data != SPAWN:
            workers.discard(int(data))
            orders.send(str(_reap(int(data))).encode())
            continue
        _spawn(orders, parent, fds, workers)
        for fd in fds:
            os.close(fd)


def _reap(pid: int) -> int:
    """Exit status of a worker, once whatever it has started is gone; programs that drivers are, for instance."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        kill_session(pid)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0


def _spawn(orders: socket.socket, parent: int, fds: list[int], workers: set[int]) -> None:
    """Fork a worker and tell its number; the child never returns."""
    nursery = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        orders.send((error.strerror or str(error)).encode())
        return
    if pid:
        workers.add(pid)
        process = os.pidfd_open(pid)  # it cannot be another's number: nobody has waited for this one yet
        socket.send_fds(orders, [str(pid).encode()], [process])
        os.close(process)
        return
    status = 1
    try:
        die_with_parent(nursery)
        os.setsid()  # a session of its own, so that what it starts can be found
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        orders.close()
        os.close(parent)
        for fd in fds:
            os.set_inheritable(fd, False)
        serve(socket.socket(fileno=fds[0]), heartbeat.Memory(fds[1]))
        status = 0
    except BrokenPipeError:  # the pool has ended
        status = 0
    finally:
        os._exit(status)
