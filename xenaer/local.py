"""Starting and ending a system of real processes on this machine, and looking at it from outside."""

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
from pathlib import Path
from typing import Any

from protocol.topology import HOST, HostSpec
from protocol.transport_zmq import TransportError, check_address
from xenaer.boot import activate
from xenaer.control import Control, ControlError
from xenaer.journal import JournalSet
from xenaer.run_files import clean, system_file

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.005
LONGEST_NAME = "x" * 40  # of a socket in the run directory


class LocalError(Exception):
    """The system cannot be started or stopped; the text says why and what to do."""


# -- up and down ---------------------------------------------------------------------------------
def up(host: HostSpec, run: Path, transport: str = "ipc") -> None:
    """Start the system of ``host`` with its files in ``run`` and wait until it is ready. Raises LocalError."""
    run = run.absolute()
    if _launcher_pid(run) is not None:
        raise LocalError(f"a system is running in {run} already; end it with: xenaer down --run {run}")
    try:
        check_address(f"ipc://{run}/s/{LONGEST_NAME}")
    except TransportError as error:
        raise LocalError(f"{error}; choose a shorter --run directory") from None
    _prepare(run)
    with (run / "launcher.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "xenaer.launcher", str(run), transport],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=activate(),
        )
    _hand_over(process, host)
    _wait_ready(process, run)


def _hand_over(process: subprocess.Popen[bytes], host: HostSpec) -> None:
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(HOST.dump_json(host))


def _launcher_pid(run: Path) -> int | None:
    """The launcher of the system in ``run``, if it lives."""
    try:
        pid = int(json.loads(system_file(run).read_text())["pid"])
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError):
        return None
    return pid


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
        time.sleep(POLL_S)
    down(run)
    raise LocalError(f"the system was not ready within {START_TIMEOUT_S:.0f} s; see {run / 'launcher.log'}")


def _ready(run: Path) -> bool:
    try:
        with Control(address_of(run), timeout_s=START_TIMEOUT_S) as control:
            return bool(control.ctl("hypervisor", "wait-ready", []))
    except ControlError:
        return False


def _last_words(run: Path) -> str:
    lines = (run / "launcher.log").read_text(errors="replace").strip().splitlines()
    return lines[0] if lines else "no message"


def address_of(run: Path) -> str:
    """Control address of the system in ``run``. Raises LocalError."""
    try:
        address: str = json.loads(system_file(run).read_text())["address"]
    except (OSError, ValueError, KeyError):
        raise LocalError(f"no system is running in {run}; start one with: xenaer up") from None
    return address


def down(run: Path) -> None:
    """End the system in ``run`` in order, with force if it does not answer; nothing is left running."""
    pid = _launcher_pid(run)
    if pid is not None:
        with contextlib.suppress(ControlError), Control(address_of(run), timeout_s=10.0) as control:
            control.ctl("hypervisor", "stop", [])
        if not _wait_gone(pid, STOP_TIMEOUT_S):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
    clean(run)


def _wait_gone(pid: int, seconds: float) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


# -- a running system as scripts see it ----------------------------------------------------------
class ProcessSystem:
    """``xenaer.script.System`` for the system in ``run``."""

    def __init__(self, run: Path, address: str | None = None) -> None:
        self.run = run
        self.control = Control(address or address_of(run))
        self._journals = JournalSet(run / "journal")
        self._begin = time.monotonic()

    def ctl(self, target: str, verb: str, args: list[Any]) -> Any:
        """Ask a party to do something. Raises ControlError."""
        return self.control.ctl(target, verb, args)

    def records(self, cursor: Any = None) -> tuple[list[dict[str, Any]], Any]:
        """What the journals have gained since the last call."""
        return self._journals.read(), True

    def advance(self, ms: float) -> None:
        """Let real time pass."""
        time.sleep(ms / 1000)

    @property
    def now_s(self) -> float:
        """Seconds since this view was opened."""
        return time.monotonic() - self._begin

    def close(self) -> None:
        """End this view; the system goes on."""
        self.control.close()
