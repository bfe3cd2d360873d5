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
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol.topology import HOST, HostSpec
from protocol.transport_zmq import TransportError, check_address
from xenaer.boot import activate
from xenaer.campaign.system import Watch
from xenaer.control import Control, ControlError
from xenaer.journal import Entry, JournalSet
from xenaer.local_points import LOOK_S, Points
from xenaer.run_files import FAULT, SYSFS, all_ended, clean, system_file, take_lock
from xenaer.yaml_lines import InputError

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 10.0
ANSWER_S = 2.0
ENDING_S = 0.5  # a launcher that was killed is gone within this time
POLL_S = 0.005
LONGEST_NAME = "x" * 40  # of a socket in the run directory


class LocalError(Exception):
    """The system cannot be started or stopped; the text says why and what to do."""


class RunDirError(LocalError, InputError):
    """The run directory cannot be used for a new system; the text says why and what to do."""

    def __init__(self, text: str) -> None:
        super().__init__([text])

    def __str__(self) -> str:
        return self.problems[0]


# -- up and down ---------------------------------------------------------------------------------
def up(host: HostSpec, run: Path, transport: str = "ipc", *, mine: bool = False) -> None:
    """Start the system of ``host`` with its files in ``run`` and wait until it is ready.

    ``mine``: it ends with this process, however that ends, and ``run`` goes with it.

    Raises RunDirError if ``run`` cannot be used, LocalError if the system does not start.
    """
    run = run.absolute()
    try:
        check_address(f"ipc://{run}/s/{LONGEST_NAME}")
    except TransportError as error:
        raise RunDirError(f"{error}; choose a shorter --run directory") from None
    lock = _prepare(run)
    try:
        try:
            _launch(host, run, transport, lock, os.getpid() if mine else None)
        finally:
            os.close(lock)  # the launcher has its own by now, and whoever asks must see whether it lives
        _wait_ready(run, {guest.name for guest in host.guests})
    except KeyboardInterrupt:
        _wait_described(run)
        down(run)  # whoever gives up waiting does not want half a system
        raise


def _prepare(run: Path) -> int:
    """A fresh run directory, of which only what an earlier system left is removed; returns the lock."""
    try:
        run.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = take_lock(run)
        if lock is None and not _lives(run):
            lock = take_lock(run, STOP_TIMEOUT_S)  # its launcher was killed; the others are just ending
        if lock is None:
            raise RunDirError(f"a system is running in {run} already; end it with: xenaer down --run {run}")
        clean(run)
        for name in ("journal", SYSFS):
            shutil.rmtree(run / name, ignore_errors=True)
        for name in ("s", "journal"):
            (run / name).mkdir(mode=0o700)
    except OSError as error:
        raise RunDirError(f"run directory {run}: {(error.strerror or str(error)).lower()}") from None
    return lock


def _lives(run: Path) -> bool:
    """The launcher of the system in ``run`` is there, or has not said yet where it is."""
    pid = _launcher_pid(run)
    return pid is None or not _wait_gone(pid, ENDING_S)


def _launcher_pid(run: Path) -> int | None:
    """Process id of the launcher as ``system.json`` says it."""
    try:
        return int(json.loads(system_file(run).read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return None


def _launch(host: HostSpec, run: Path, transport: str, lock: int, owner: int | None) -> None:
    """Start the launcher, which puts itself into the background, and hand it host and lock."""
    with (run / "launcher.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "xenaer.launcher", str(run), transport, *([] if owner is None else [str(owner)])],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            cwd=activate(),
            env=os.environ | _module_path(),
        )
    process.communicate(HOST.dump_json(host))
    if process.returncode:
        raise LocalError(f"the launcher did not start: {_last_words(run)}")


def _module_path() -> dict[str, str]:
    """``PYTHONPATH`` as it is meant here: relative entries must not follow the launcher to its directory."""
    entries = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, entries.split(os.pathsep)))} if entries else {}


def _wait_ready(run: Path, guests: set[str]) -> None:
    """Until the guests run that are to, and every guest has its supervisor, so that it can be created."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if all_ended(run):
            clean(run)
            raise LocalError(f"the system ended while it started: {_last_words(run)}")
        if system_file(run).exists() and _ready(run, guests):
            return
        time.sleep(POLL_S)
    down(run)
    raise LocalError(f"the system was not ready within {START_TIMEOUT_S:.0f} s; see {run / 'launcher.log'}")


def _wait_described(run: Path) -> None:
    """Until the launcher has said where it is, so that it can be ended in order."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while not (system_file(run).exists() or all_ended(run)) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _ready(run: Path, guests: set[str]) -> bool:
    """False also if no answer came: then it is time to see whether the system is still there."""
    try:
        with Control(address_of(run), timeout_s=ANSWER_S, run=run) as control:
            ready: bool = control.ctl("hypervisor", "wait-ready", [])
            return ready and guests <= set(control.ctl("hypervisor", "status", [])["supervisors"])
    except (ControlError, LocalError):
        return False


def _last_words(run: Path) -> str:
    """Why it ended: the first fault in the log, else what was said first; of a traceback alone its last line."""
    lines = (run / "launcher.log").read_text(errors="replace").strip().splitlines() or ["no message"]
    first = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return next((line for line in lines if f": {FAULT}: " in line), first)


def address_of(run: Path) -> str:
    """Control address of the system in ``run``. Raises LocalError."""
    try:
        address: str = json.loads(system_file(run).read_text())["address"]
    except (OSError, ValueError, KeyError):
        raise LocalError(f"no system is running in {run}; start one with: xenaer up") from None
    return address


def down(run: Path) -> None:
    """End the system in ``run`` in order, with force if it does not answer. Raises LocalError if something is left."""
    run = run.absolute()
    pid = _launcher_pid(run)
    if pid is not None and not all_ended(run) and not _wait_gone(pid, 0):
        with contextlib.suppress(ControlError), Control(address_of(run), timeout_s=ANSWER_S, run=run) as control:
            control.ctl("hypervisor", "stop", [], timeout_s=STOP_TIMEOUT_S)
        if not _wait_gone(pid, STOP_TIMEOUT_S):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # all others are told by the kernel to end with it
    if not all_ended(run, STOP_TIMEOUT_S):
        raise LocalError(f"processes of the system in {run} do not end; see {run / 'launcher.log'}")
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
class ProcessCall:
    """``xenaer.campaign.system.Call`` over a control connection."""

    def __init__(self, control: Control, serial: int) -> None:
        self._control = control
        self._serial = serial

    @property
    def done(self) -> bool:
        """There is an answer."""
        return self._control.answered(self._serial)

    def result(self) -> Any:
        """The answer. Raises ControlError with what was refused, or if there is none."""
        if not self.done:
            raise ControlError("no answer")
        return self._control.take(self._serial)


class ProcessSystem:
    """``xenaer.campaign.system.System`` for the system in ``run``."""

    def __init__(self, run: Path, address: str | None = None) -> None:
        self.run = run
        self.control = Control(address or address_of(run), run=run)
        self._journals = JournalSet(run / "journal")
        self._begin = time.monotonic()
        self._points = Points(self._read)
        self._new: list[Entry] = []  # read, and not asked for yet
        self._timers: list[threading.Timer] = []

    def ctl(self, target: str, verb: str, args: list[Any]) -> Any:
        """Ask a party to do something. Raises ControlError."""
        if not self._points.armed:
            return self.control.ctl(target, verb, args)
        call = self.start(target, verb, args)
        deadline = time.monotonic() + self.control.timeout_s
        while not call.done and time.monotonic() < deadline:
            self._points.look()
            time.sleep(LOOK_S)
        return call.result()

    def start(self, target: str, verb: str, args: list[Any], *, at_once: bool = False) -> ProcessCall:
        """Ask and do not wait; ``at_once`` is as soon as messages travel."""
        return ProcessCall(self.control, self.control.post("ctl", target, verb, args))

    def signal(self, target: str, does: str, for_ms: float | None = None) -> None:
        """SIGKILL or SIGSTOP (SIGCONT ``for_ms`` later) of the real process. Raises ControlError."""
        pid = self._pid(target)
        _signal(pid, signal.SIGKILL if does == "kill" else signal.SIGSTOP, target)
        if does == "stop" and for_ms is not None:
            timer = threading.Timer(for_ms / 1000, lambda: _go_on(pid))
            self._timers.append(timer)
            timer.start()

    def _pid(self, target: str) -> int:
        """Process id: of a child of the launcher by its name, of a guest as its supervisor has told."""
        children: dict[str, str] = json.loads(system_file(self.run).read_text())["children"]
        found = [int(pid) for pid, name in children.items() if name == target]
        domains = self.ctl("hypervisor", "status", [])["domains"] if not found else []
        found += [int(domain["pid"]) for domain in domains if domain["name"] == target]
        if not found or not found[0]:
            raise ControlError(f"{target} is not running")
        return found[0]

    def arm(self, watch: Watch, fire: Callable[[], None]) -> None:
        """Call ``fire`` as soon as the point is seen. Raises ControlError for a lock, which no journal tells of."""
        self._points.arm(watch, fire)

    def disarm(self) -> None:
        """Points that were not reached are forgotten."""
        self._points.disarm()

    def recorded(self) -> None:
        """Only reading tells how many records there are."""

    def _read(self) -> list[Entry]:
        new = self._journals.read()
        self._new += new
        return new

    def records(self, cursor: Any = None) -> tuple[list[dict[str, Any]], Any]:
        """What the journals have gained since the last call."""
        if self._points.armed:
            self._points.look()
        else:
            self._read()
        new, self._new = self._new, []
        return new, True

    def advance(self, ms: float) -> None:
        """Let real time pass."""
        deadline = time.monotonic() + ms / 1000
        while self._points.armed and time.monotonic() < deadline:
            self._points.look()
            time.sleep(LOOK_S)
        time.sleep(max(0.0, deadline - time.monotonic()))

    @property
    def now_s(self) -> float:
        """Seconds since this view was opened."""
        return time.monotonic() - self._begin

    @property
    def now_ns(self) -> int:
        """The same in nanoseconds."""
        return round(self.now_s * 1e9)

    def close(self) -> None:
        """End this view; the system goes on, with every process that was stopped for a while."""
        for timer in self._timers:
            timer.join()
        self.control.close()


def _signal(pid: int, number: signal.Signals, name: str) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        raise ControlError(f"{name} is not running") from None


def _go_on(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
