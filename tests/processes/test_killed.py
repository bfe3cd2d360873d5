"""Whoever cannot recover is killed, and its device serves the next guest; nobody else notices (KILL-1 to KILL-9)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from protocol.topology import AssignmentSpec, GuestDriverSpec, GuestSpec, HostSpec
from protocol.xenbus import XenbusState
from tests.processes.hosts import BUDGET_MS, flat, guest, nic
from tests.processes.running import PATIENCE_S, TRANSPORTS, Running, running
from xenaer.control import Control, ControlError

pytestmark = pytest.mark.processes

UNSUPPORTED_REQUEST = 1 << 20
KILL_DEADLINE_S, SLACK_S = 1.0, 8.0
RESET = {"ed": "NEED_RESET"}  # so that slot_reset is reached


class Case(NamedTuple):
    """A guest that fails, and what dom0 finds about it in its last phase (a ``Situation``; "" if it was not asked)."""

    name: str
    driver: str
    options: dict[str, object]
    situation: str
    type: str = "pv"


def failing(name: str, phase: str, failure: str, situation: str, **more: object) -> Case:
    """A scripted driver that fails in one phase."""
    return Case(name, "scripted", {**more, "fail": {phase: failure}}, situation)


CASES = [
    Case("none", "none", {}, "answer-none"),
    Case("silent", "silent", {}, "answer-none"),
    Case("no-error-handlers", "scripted", {"no_err_handler": True}, "answer-none"),
    Case("hvm", "xnic", {}, "", "hvm"),
    Case("disconnect-in-error-detected", "scripted", {"ed": "DISCONNECT"}, "answer-disconnect"),
    Case("disconnect-in-mmio-enabled", "scripted", {"mmio": "DISCONNECT"}, "answer-disconnect"),
    Case("disconnect-in-slot-reset", "scripted", {**RESET, "slot_reset": "DISCONNECT"}, "answer-disconnect"),
    failing("hang-in-resume", "resume", "hang", "timeout"),
    failing("raise-in-error-detected", "error_detected", "raise", "timeout"),
    failing("raise-in-resume", "resume", "raise", "timeout"),
    failing("exit-in-error-detected", "error_detected", "exit", "guest-dead"),
    failing("exit-in-slot-reset", "slot_reset", "exit", "guest-dead", **RESET),
    failing("panic-in-mmio-enabled", "mmio_enabled", "panic", "guest-dead"),
    failing("spin-in-error-detected", "error_detected", "spin", "timeout"),
    failing("spin-in-slot-reset", "slot_reset", "spin", "timeout", **RESET),
    Case("stopped", "xnic", {}, "timeout"),
]


def failing_guests() -> HostSpec:
    """One guest per case, one that waits for devices, one whose traffic never stops."""
    guests: list[GuestSpec] = [
        guest(case.name, nic(number), case.driver, options=case.options, type=case.type, autostart=False)
        for number, case in enumerate(CASES)
    ]
    guests.append(guest("fresh"))
    guests.append(guest("neighbour", nic(len(CASES))))
    return flat(guests, len(CASES) + 1)


class Traffic:
    """A guest's workload, again and again, in a thread of its own until ``stop``."""

    def __init__(self, view: Running, name: str) -> None:
        self.rounds = 0
        self.failures: list[str] = []
        self._name = name
        self._address, self._run_folder = view.system.control.address, view.run
        self._end = threading.Event()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._begun.wait(PATIENCE_S)

    def _run(self) -> None:
        with Control(self._address, run=self._run_folder) as control:
            while not self._end.is_set():
                try:
                    control.ctl(self._name, "workload", [-1, 4])
                    self.rounds += 1
                except ControlError as error:
                    self.failures.append(str(error))
                self._begun.set()
                time.sleep(0.02)

    def stop(self) -> None:
        """End the thread; every round must have been good."""
        self._end.set()
        self._thread.join()
        assert self.failures == []
        assert self.rounds > 0


@pytest.fixture(scope="module", params=TRANSPORTS)
def view(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(failing_guests(), request.param) as view:
        yield view


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_a_guest_that_cannot_recover_is_killed_and_its_device_serves_the_next(view: Running, number: int) -> None:
    case, bdf = CASES[number], nic(number)
    seized = view.config(bdf)
    view.xl_good("create", case.name)
    view.until(lambda: connected(view, case), f"{case.name} connected")
    pid = view.pid(case.name)
    traffic = Traffic(view, "neighbour")
    try:
        if case.name == "stopped":
            os.kill(pid, signal.SIGSTOP)
        mark = view.mark()
        view.dom0("inject", bdf, 0, UNSUPPORTED_REQUEST)
        assert view.outcome(mark, bdf) == "killed"
        assert view.steps(mark, case.name, bdf) == {
            "block_dma": "ok", "reset": "flr", "restore": "ok", "check": "ok", "deassign": "ok",
        }  # fmt: skip
    finally:
        traffic.stop()
    assert not alive(pid)
    assert view.config(bdf) == seized
    check_time(view, mark, case.name, bdf)
    answers = view.find(mark, "pciback.answer", bdf)
    assert (answers[-1]["situation"] if answers else "") == case.situation
    serve(view, bdf)


def connected(view: Running, case: Case) -> bool:
    status = view.status(case.name)
    if status is None or case.type == "pv":
        return status is not None and (status["be"], status["fe"]) == (4, 4)
    return bool(view.find(0, "pciback.export", nic(CASES.index(case))))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def check_time(view: Running, mark: float, name: str, bdf: str) -> None:
    """H25: the budget is for all phases together; then KILL-4.2 has its own deadline."""
    begin, end = view.wait(mark, "hw.inject", bdf), view.wait(mark, "domain.died", name)
    assert end["t"] - begin["t"] < BUDGET_MS / 1000 + KILL_DEADLINE_S + SLACK_S


def serve(view: Running, bdf: str) -> None:
    """The device goes to a fresh guest, works there, and is taken back."""
    view.xl_good("pci-attach", "fresh", bdf)
    view.wait_up("fresh")
    view.until(lambda: view.system.ctl("fresh", "status", []) == {"0000:00:00.0": "xnic"}, "driver bound")
    view.use("fresh")
    view.xl_good("pci-detach", "fresh", bdf)


# -- H13: a guest that is still connecting -------------------------------------------------------
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_h13_a_connecting_guest_is_not_killed_before_its_grace_ends(transport: str) -> None:
    with running(flat([guest("young", nic(0), autostart=False)]), transport) as view:
        pid = create_and_stop(view, "young")
        mark = view.mark()
        view.dom0("inject", nic(0), 0, UNSUPPORTED_REQUEST)
        assert view.outcome(mark, nic(0)) == "recovered"
        assert view.find(mark, "pci.reset", nic(0), method="flr")
        assert view.find(mark, "pciback.ask") == view.find(mark, "pciback.kill") == []
        os.kill(pid, signal.SIGCONT)
        view.wait_up("young")
        view.use("young")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_h13_a_guest_that_does_not_connect_within_its_grace_is_killed(transport: str) -> None:
    host = flat([guest("late", nic(0), autostart=False), guest("fresh")], timing={"connect_grace_ms": 2000})
    with running(host, transport) as view:
        pid = create_and_stop(view, "late")
        view.system.advance(2100)
        mark = view.mark()
        view.dom0("inject", nic(0), 0, UNSUPPORTED_REQUEST)
        assert view.outcome(mark, nic(0)) == "killed"
        view.wait(mark, "domain.destroy", "late")
        assert not alive(pid)
        serve(view, nic(0))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_pv_guest_without_frontend_is_killed_like_hvm(transport: str) -> None:
    devices = [AssignmentSpec(nic(0), GuestDriverSpec("xnic", {}))]
    with running(flat([GuestSpec("bare", front=False, devices=devices), guest("fresh")], 1), transport) as view:
        view.wait(0, "pciback.export", nic(0))
        mark = view.mark()
        view.dom0("inject", nic(0), 0, UNSUPPORTED_REQUEST)
        assert view.outcome(mark, nic(0)) == "killed"
        view.wait(mark, "domain.destroy", "bare")
        serve(view, nic(0))


def create_and_stop(view: Running, name: str) -> int:
    """Create a guest and stop its process before it has published its page; its pid."""
    for _ in range(10):
        mark = view.mark()
        view.xl_good("create", name)
        pid = view.pid(name)
        os.kill(pid, signal.SIGSTOP)
        view.wait(mark, "pciback.export")
        status = view.status(name)
        assert status is not None
        if status["fe"] == XenbusState.INITIALISING:  # its page is not there yet
            return pid
        view.xl_good("destroy", name)
    raise AssertionError(f"{name} always connected before it could be stopped")
