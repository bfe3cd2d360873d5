"""Starting and ending a system of real processes on this machine.

A *launcher* process imports everything once, then forks the hypervisor stub, dom0 and one supervisor per
guest; it is their parent, notices every end, and cleans up. ``up`` starts the launcher in the background and
waits until the system is ready; ``down`` asks the stub for an orderly end.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol.topology import HOST, HostSpec
from protocol.transport_zmq import TransportError, check_address
from xenaer.boot import activate
from xenaer.control import Control, ControlError

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
GRACE_S = 3.0  # how long the others may take to end after the first one has


class LocalError(Exception):
    """The system cannot be started or stopped; the text says why."""


def system_file(run: Path) -> Path:
    """Where a running system says how to reach it."""
    return run / "system.json"


def is_running(run: Path) -> bool:
    """The launcher of the system in ``run`` lives."""
    try:
        pid = int(json.loads(system_file(run).read_text())["pid"])
        os.kill(pid, 0)
    except (FileNotFoundError, ValueError, KeyError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def up(host: HostSpec, run: Path, transport: str = "ipc") -> None:
    """Start the system of ``host`` with its files in ``run`` and wait until it is ready. Raises LocalError."""
    if is_running(run):
        raise LocalError(f"a system is running in {run} already; xenaer down --run {run} ends it")
    try:
        check_address(f"ipc://{run}/s/{'x' * 40}")
    except TransportError as error:
        raise LocalError(f"{error}; choose a shorter --run directory") from None
    _prepare(run)
    log = (run / "launcher.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "xenaer.local", str(run), transport],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,
        cwd=activate(),
    )
    assert process.stdin is not None
    process.stdin.write(HOST.dump_json(host))
    process.stdin.close()
    log.close()
    _wait_ready(process, run)


def _prepare(run: Path) -> None:
    """A fresh run directory; only what an earlier system left there is removed."""
    try:
        run.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("s", "journal"):
            shutil.rmtree(run / name, ignore_errors=True)
            (run / name).mkdir()
        for name in ("system.json", "ready", "launcher.log"):
            (run / name).unlink(missing_ok=True)
    except OSError as error:
        raise LocalError(f"run directory {run}: {error.strerror}") from None


def _wait_ready(process: subprocess.Popen[bytes], run: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LocalError(f"the system ended while it started: {_last_words(run)}")
        if system_file(run).exists() and _ready(run):
            return
        time.sleep(0.005)
    down(run)
    raise LocalError(f"the system was not ready within {START_TIMEOUT_S:.0f} s; see {run / 'launcher.log'}")


def _ready(run: Path) -> bool:
    try:
        with Control(address_of(run), timeout_s=5.0) as control:
            return bool(control.ctl("hypervisor", "status", [])["ready"])
    except ControlError:
        return False


def address_of(run: Path) -> str:
    """Control address of the system in ``run``. Raises LocalError."""
    try:
        address: str = json.loads(system_file(run).read_text())["address"]
    except (FileNotFoundError, ValueError, KeyError):
        raise LocalError(f"no system is running in {run}; xenaer up starts one") from None
    return address


def _last_words(run: Path) -> str:
    text = (run / "launcher.log").read_text(errors="replace").strip()
    return text.splitlines()[-1] if text else "no message"


def down(run: Path) -> None:
    """End the system in ``run`` in order, with force if it does not answer; nothing is left behind."""
    try:
        pid = int(json.loads(system_file(run).read_text())["pid"])
    except (FileNotFoundError, ValueError, KeyError):
        raise LocalError(f"no system is running in {run}") from None
    with contextlib.suppress(ControlError), Control(address_of(run), timeout_s=10.0) as control:
        control.ctl("hypervisor", "stop", [])
    if not _wait_gone(pid, STOP_TIMEOUT_S):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    _clean(run)


def _wait_gone(pid: int, seconds: float) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def _clean(run: Path) -> None:
    shutil.rmtree(run / "s", ignore_errors=True)
    for name in ("system.json", "ready"):
        (run / name).unlink(missing_ok=True)


# -- the launcher process ------------------------------------------------------------------------
class Launcher:
    """Parent of all processes of one system."""

    def __init__(self, host: HostSpec, run: Path, transport: str) -> None:
        self.host = host
        self.run = run
        self.epoch = time.monotonic_ns()
        self.door = f"ipc://{run}/s/hypervisor"
        self.base = f"ipc://{run}/s" if transport == "ipc" else "tcp://127.0.0.1"
        if transport == "tcp":
            self.door = f"tcp://127.0.0.1:{_free_port()}"
        self.children: dict[int, str] = {}
        self.failed = 0

    def start(self) -> None:
        """Fork every process, then say where the system is."""
        from dom0_pciback.process import Dom0Options  # noqa: PLC0415 - the launcher loads them once, for its children
        from dom0_pciback.process import main as dom0_main  # noqa: PLC0415
        from domu_pcifront.process import main as domu_main  # noqa: PLC0415
        from hypervisor_stub.process import (  # noqa: PLC0415
            HypervisorOptions,
            SupervisorOptions,
            main_hypervisor,
            main_supervisor,
        )

        hypervisor = HypervisorOptions(self.host, [self.door], self.base, self.run, self.epoch)
        self._fork("hypervisor", lambda: main_hypervisor(hypervisor))
        self._fork("dom0", lambda: dom0_main(Dom0Options(self.door, self.base, self.run, self.epoch)))
        for guest in self.host.guests:
            options = SupervisorOptions(self.door, guest.name, self.run, self.epoch, domu_main)
            self._fork(f"supervisor-{guest.name}", lambda options=options: main_supervisor(options))
        self._announce()

    def _announce(self) -> None:
        content = {"address": self.door, "pid": os.getpid(), "host": self.host.name, "children": self.children}
        partial = self.run / "system.json.new"
        partial.write_text(json.dumps(content))
        partial.rename(system_file(self.run))

    def _fork(self, name: str, main: Callable[[], int]) -> None:
        pid = os.fork()
        if pid == 0:
            _child(name, main)
        self.children[pid] = name

    def wait(self) -> int:
        """Until all have ended; when one fails, the others get a moment, then SIGKILL."""
        deadline: float | None = None
        fds = {os.pidfd_open(pid): pid for pid in self.children}
        while fds:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = select.select(list(fds), [], [], timeout)[0]
            if not ready:
                self._kill_rest(list(fds.values()))
                deadline = None
            for fd in ready:
                pid = fds.pop(fd)
                os.close(fd)
                self._ended(pid, os.waitpid(pid, 0)[1])
                if deadline is None:
                    deadline = time.monotonic() + GRACE_S
        return 1 if self.failed else 0

    def _kill_rest(self, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _ended(self, pid: int, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        word = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        print(f"{self.children[pid]}: {word}", flush=True)
        self.failed += code != 0


def _child(name: str, main: Callable[[], int]) -> None:
    from hypervisor_stub.zygote import die_with_parent  # noqa: PLC0415

    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = 70
    try:
        status = main()
    except TransportError as error:
        sys.stderr.write(f"{name}: {error}\n")
        status = 2
    except BaseException:
        import traceback  # noqa: PLC0415 - only for a bug of ours

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _free_port() -> int:
    import socket  # noqa: PLC0415

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def launcher_main(argv: list[str]) -> int:
    """``python -m xenaer.local RUN TRANSPORT``, the host as JSON on standard input."""
    run, transport = Path(argv[0]), argv[1]
    host = HOST.validate_json(sys.stdin.buffer.read())
    launcher = Launcher(host, run, transport)
    launcher.start()
    signal.signal(signal.SIGTERM, lambda number, frame: launcher._kill_rest(list(launcher.children)))
    try:
        return launcher.wait()
    finally:
        _clean(run)


if __name__ == "__main__":
    sys.exit(launcher_main(sys.argv[1:]))
