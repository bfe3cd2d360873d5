"""The launcher: one process that imports everything once and forks all parties of a system.

``python -m xenaer.launcher RUN TRANSPORT [OWNER]``, with the host as JSON on standard input, goes into the background.
With the process id of an owner the system ends with it, and its run directory goes.
It is the parent of the hypervisor stub, of dom0 and of the supervisors and notices every end. After the first
one the others have a moment to notice by themselves; then they are told, then killed; nothing is left behind.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from xenaer.boot import activate

activate()

from dom0_pciback.process import Dom0Options  # noqa: E402 - the roles are found only now
from dom0_pciback.process import main as dom0_main  # noqa: E402
from domu_pcifront.process import main as domu_main  # noqa: E402
from hypervisor_stub.process import (  # noqa: E402
    HypervisorOptions,
    SupervisorOptions,
    main_hypervisor,
    main_supervisor,
)
from protocol.parent_death import die_with_parent  # noqa: E402
from protocol.topology import HOST, HostSpec  # noqa: E402
from protocol.transport_keys import KeyRing  # noqa: E402
from protocol.transport_zmq import TransportError  # noqa: E402
from xenaer.run_files import FAULT, clean, system_file  # noqa: E402

NOTICE_S = 2.0  # how long the others may take to end by themselves after the first one has
END_S = 3.0  # how long they may take after they were told (SIGTERM)
USAGE, BUG = 2, 70
TOLD = 128 + signal.SIGTERM  # exit status of a process that was told to end


class Launcher:
    """Parent of all processes of one system."""

    def __init__(self, host: HostSpec, run: Path, transport: str, owner: int | None = None) -> None:
        self.host = host
        self.run = run
        self.epoch = time.monotonic_ns()
        tcp = transport.startswith("tcp")
        self.base = "tcp://127.0.0.1" if tcp else f"ipc://{run}/s"
        self.door = f"tcp://127.0.0.1:{free_port()}" if tcp else f"ipc://{run}/s/hypervisor"
        if transport == "tcp":  # "tcp-plain" is for measuring what the keys cost
            KeyRing(run).create()
        self.children: dict[int, str] = {}
        self.failed = 0
        self.orphaned = False
        self.owner = None if owner is None else os.pidfd_open(owner)

    def start(self) -> None:
        """Fork every process, then say where the system is."""
        hypervisor = HypervisorOptions(self.host, [self.door], self.base, self.run, self.epoch)
        self._fork("hypervisor", partial(main_hypervisor, hypervisor))
        self._fork("dom0", partial(dom0_main, Dom0Options(self.door, self.base, self.run, self.epoch)))
        for guest in self.host.guests:
            options = SupervisorOptions(self.door, guest.name, self.run, self.epoch, domu_main)
            self._fork(f"supervisor-{guest.name}", partial(main_supervisor, options))
        content = {"address": self.door, "pid": os.getpid(), "host": self.host.name, "epoch": self.epoch}
        content["children"] = self.children
        fresh = self.run / "system.json.new"
        fresh.write_text(json.dumps(content))
        fresh.rename(system_file(self.run))

    def _fork(self, name: str, main: Callable[[], int]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _child(name, main, parent)
        self.children[pid] = name

    def wait(self) -> int:
        """Until all have ended. 1 if any failed."""
        fds = {os.pidfd_open(pid): pid for pid in self.children}
        steps = iter(((NOTICE_S, signal.SIGTERM), (END_S, signal.SIGKILL)))
        deadline, number = math.inf, signal.SIGTERM
        watched = [] if self.owner is None else [self.owner]
        while fds:
            timeout = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
            ready = select.select([*fds, *watched], [], [], timeout)[0]
            if self.owner in ready:
                watched, self.orphaned = [], True
                self.signal_all(signal.SIGKILL)
                continue
            for fd in ready:
                self._ended(fds.pop(fd))
                os.close(fd)
            if not ready:
                self.signal_all(number)
            if not ready or deadline == math.inf:
                seconds, number = next(steps, (math.inf, signal.SIGKILL))
                deadline = time.monotonic() + seconds
        return 1 if self.failed else 0

    def signal_all(self, number: signal.Signals) -> None:
        """Tell whoever is left to end (SIGTERM), or end it (SIGKILL)."""
        for pid, name in self.children.items():
            sys.stdout.write(f"{name}: sending {number.name}\n")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        sys.stdout.flush()

    def _ended(self, pid: int) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        word = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        sys.stdout.write(f"{self.children.pop(pid)}: {word}\n")
        sys.stdout.flush()
        self.failed += code != 0


def _told(name: str, number: int, frame: object) -> None:
    """SIGTERM: the system ends because another process of it has ended."""
    sys.stderr.write(f"{name}: told to end, the system has lost a process\n")
    sys.exit(TOLD)


def _child(name: str, main: Callable[[], int], parent: int) -> None:
    """Run one party in a forked child; never returns."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, partial(_told, name))
    status = BUG
    try:
        status = main()
    except TransportError as error:
        sys.stderr.write(f"{name}: {error}\n")
        status = USAGE
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else BUG
    except Exception as error:  # a bug of ours: all that can be known about it goes to the launcher's log
        sys.stderr.write(f"{name}: {FAULT}: {type(error).__name__}: {error}\n")
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _go_into_background() -> None:
    """The starter has its answer; what goes on is a session and a process group of its own."""
    if os.fork():
        os._exit(0)
    os.setsid()


def main(argv: list[str]) -> int:
    """Run a system until it ends; returns 1 if a process failed."""
    run, transport = Path(argv[0]), argv[1]
    host = HOST.validate_json(sys.stdin.buffer.read())
    _go_into_background()
    try:
        launcher = Launcher(host, run, transport, int(argv[2]) if len(argv) > 2 else None)
    except ProcessLookupError:
        return 1  # its owner has ended already
    signal.signal(signal.SIGTERM, lambda number, frame: launcher.signal_all(signal.SIGKILL))
    try:
        launcher.start()
        return launcher.wait()
    finally:
        clean(run)
        if launcher.orphaned:
            shutil.rmtree(run, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
