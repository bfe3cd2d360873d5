"""A system of real processes as campaigns see it: ``xenaer.campaign.steps.system.System`` over a run directory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xenaer.campaign.steps.system import Watch
from xenaer.control import Control, ControlError, read_system
from xenaer.journal import Entry, JournalSet
from xenaer.local_points import LOOK_S, Points
from xenaer.run_files import system_file


class ProcessCall:
    """``xenaer.campaign.steps.system.Call`` over a control connection."""

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
    """``xenaer.campaign.steps.system.System`` for the system in ``run``."""

    def __init__(self, run: Path, address: str | None = None) -> None:
        self.run = run
        self.control = Control(address or read_system(run).address, run=run)
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
