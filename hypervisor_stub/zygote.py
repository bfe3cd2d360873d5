"""The zygote: a process with everything imported and no sockets, from which guests are forked in milliseconds.

It is forked off before the supervisor makes its ZeroMQ context, takes orders over a socket pair, and is the
parent of the guests, so it reaps them and tells how they ended.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import msgpack

from protocol.parent_death import adopt_orphans, die_with_parent

GuestMain = Callable[[dict[str, Any]], None]
IGNORED = (signal.SIGINT, signal.SIGTERM)


class Zygote:
    """The supervisor's handle. ``fork`` and ``reap`` wait for the zygote's answer, a few milliseconds."""

    def __init__(self, guest_main: GuestMain) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        supervisor = os.getpid()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)  # none may arrive before it is ignored
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _ignore_signals(before)
            _serve(theirs, guest_main, supervisor)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._socket = ours

    def fork(self, config: dict[str, Any]) -> int:
        """Start ``guest_main(config)`` in a process group of its own; returns its pid."""
        return self._ask(config)

    def reap(self, pid: int) -> int:
        """Wait status of a guest that has ended."""
        return self._ask(pid)

    def close(self) -> None:
        """End the zygote; guests that still run are killed with it."""
        self._socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _ask(self, request: Any) -> int:
        self._socket.send(msgpack.packb(request))
        answer = self._socket.recv(64)
        if not answer:
            raise OSError("the zygote has ended")
        return int(msgpack.unpackb(answer))


def _ignore_signals(mask: set[int]) -> None:
    """The zygote ends with its supervisor, not with the terminal; ``mask`` is the signal mask to go back to."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _serve(orders: socket.socket, guest_main: GuestMain, supervisor: int) -> None:
    """Main loop of the zygote; never returns."""
    die_with_parent(supervisor)
    adopt_orphans()  # programs that a guest has started
    gc.collect()
    gc.freeze()  # guests share these pages for as long as nobody touches them
    while True:
        raw = orders.recv(65536)
        if not raw:
            os._exit(0)
        request = msgpack.unpackb(raw)
        answer = _reap(request) if isinstance(request, int) else _spawn(orders, guest_main, request)
        orders.send(msgpack.packb(answer))


def _reap(pid: int) -> int:
    """Wait status of a guest, once it and whatever it has started are gone."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # before the number of the group may be another's
        status = os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return -1
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-pid, 0)  # its group: orphans, which are ours now
    return status


def _spawn(orders: socket.socket, guest_main: GuestMain, config: dict[str, Any]) -> int:
    zygote = os.getpid()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # it has ended already
            os.setpgid(pid, pid)  # here too: it must be killable as a group before it has run at all
        return pid
    os.setpgid(0, 0)
    die_with_parent(zygote)
    orders.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    status = 70
    try:
        guest_main(config)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:  # a forked child must never run its parent's code
        sys.stderr.write(f"{config.get('name', 'guest')}: {type(error).__name__}: {error}\n")
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
