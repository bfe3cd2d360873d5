"""A process of the system is killed from outside: who notices, what is left."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from protocol.topology import HostSpec
from tests.processes.hosts import flat, guest, nic
from tests.processes.running import (
    TRANSPORTS,
    Running,
    assert_nothing_left,
    processes_of,
    run_directory,
    running,
    started,
)
from xenaer import local
from xenaer.control import Control

pytestmark = pytest.mark.processes

COMPLETER_ABORT = 1 << 15
WITHIN_S = 1.0  # instead of the seconds that a timeout would take


def host() -> HostSpec:
    return flat([guest("net1", nic(0), on_crash="restart"), guest("net2", nic(1))])


def kill(view: Running, name: str) -> None:
    """SIGKILL a process of the system by its name in ``system.json``."""
    pid = next(int(pid) for pid, each in view.description["children"].items() if each == name)
    os.kill(pid, signal.SIGKILL)


def wait_end(run: Path) -> str:
    """The system has ended by itself; what its processes said."""
    deadline = time.monotonic() + 20
    while processes_of(run):
        assert time.monotonic() < deadline, (run / "launcher.log").read_text()
        time.sleep(0.02)
    assert_nothing_left(run)
    assert not (run / "system.json").exists()
    return (run / "launcher.log").read_text()


def run_and_kill(name: str, transport: str) -> str:
    """Kill one party of a fresh system; the launcher's log once all is over."""
    with run_directory() as run, started(host(), run, transport) as view:
        view.use("net1")
        kill(view, name)
        return wait_end(run)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_without_dom0_everybody_notices_and_the_host_ends(transport: str) -> None:
    log = run_and_kill("dom0", transport)
    assert "dom0: killed by signal 9" in log
    assert "hypervisor: dom0 is lost: connection lost; without dom0 the host ends" in log
    for name in ("hypervisor", "supervisor-net1", "supervisor-net2"):
        assert f"{name}: exit status 3" in log


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_without_the_hypervisor_stub_everybody_notices_and_ends(transport: str) -> None:
    log = run_and_kill("hypervisor", transport)
    assert "hypervisor: killed by signal 9" in log
    for name in ("dom0", "supervisor-net1", "supervisor-net2"):
        assert f"{name}: the hypervisor stub is gone (" in log
        assert f"{name}: exit status 3" in log


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_without_a_supervisor_the_system_is_told_to_end(transport: str) -> None:
    log = run_and_kill("supervisor-net1", transport)
    assert "supervisor-net1: killed by signal 9" in log
    for name in ("dom0", "hypervisor", "supervisor-net2"):
        assert f"{name}: told to end" in log
        assert f"{name}: exit status 143" in log


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_guest_of_a_killed_supervisor_dies_with_it_and_counts_as_crashed(transport: str) -> None:
    with run_directory() as run, started(host(), run, transport) as view:
        pid = view.pid("net1")
        mark = view.mark()
        kill(view, "supervisor-net1")
        view.wait(mark, "party.lost", "supervisor net1")
        assert view.wait(mark, "domain.died", "net1")["pid"] == pid
        view.wait(mark, "domain.destroy", "net1")
        wait_end(run)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_killed_guest_is_reported_at_once_and_restarts_as_a_new_domain(transport: str) -> None:
    with running(host(), transport) as view:
        first, pid = view.wait_up("net1"), view.pid("net1")
        mark = view.mark()
        os.kill(pid, signal.SIGKILL)
        died = view.wait(mark, "domain.died", "net1")
        assert (died["pid"], died["status"]) == (pid, signal.SIGKILL)
        assert died["t"] - mark < WITHIN_S
        assert view.steps(mark, "net1", nic(0))["reset"] == "flr"
        assert view.wait_up("net1", first) > first
        assert view.pid("net1") != pid
        view.use("net1")
        view.use("net2")


def test_a_guest_that_is_killed_while_it_is_asked_is_noticed_before_any_timeout() -> None:
    guests = [guest("slow", nic(0), "scripted", options={"ed_ms": 60_000})]
    with running(flat(guests, timing={"aer_budget_ms": 60_000})) as view:
        mark = view.mark()
        view.dom0("inject", nic(0), 0, COMPLETER_ABORT)
        view.wait(mark, "pciback.ask", nic(0))
        os.kill(view.pid("slow"), signal.SIGKILL)
        assert view.outcome(mark, nic(0)) == "killed"
        assert view.wait(mark, "pciback.answer", nic(0))["situation"] == "guest-dead"
        view.wait(mark, "domain.destroy", "slow")


def test_a_stopped_guest_does_not_keep_the_system_from_ending() -> None:
    with running(host()) as view:
        os.kill(view.pid("net1"), signal.SIGSTOP)


def test_a_guest_that_is_stopped_behind_the_toolstacks_back_runs_out_of_time() -> None:
    guests = [guest("mute", nic(0)), guest("net2", nic(1))]
    with running(flat(guests, timing={"aer_budget_ms": 600})) as view:
        view.system.ctl("hypervisor", "stop-guest", ["mute"])
        mark = view.mark()
        view.dom0("inject", nic(0), 0, COMPLETER_ABORT)
        view.dom0("inject", nic(1), 0, COMPLETER_ABORT)
        assert view.outcome(mark, nic(1)) == "recovered"
        assert view.outcome(mark, nic(0)) == "killed"
        assert view.wait(mark, "pciback.answer", nic(0))["situation"] == "timeout"
        view.use("net2")


# -- the run directory of a system that has ended badly ---------------------------------------------
def test_a_killed_launcher_takes_all_along_and_the_next_up_takes_over() -> None:
    with run_directory() as run:
        with started(host(), run) as first:
            os.kill(first.description["pid"], signal.SIGKILL)
            with started(host(), run) as second:
                assert second.description["pid"] != first.description["pid"]
                second.use("net1")
        assert_nothing_left(run)


def test_down_after_a_killed_launcher_cleans_up() -> None:
    with run_directory() as run:
        with started(host(), run) as view:
            os.kill(view.description["pid"], signal.SIGKILL)
        assert_nothing_left(run)
        assert not (run / "system.json").exists()


def test_a_second_system_in_the_same_run_directory_is_refused_and_the_first_goes_on() -> None:
    with running(host()) as view:
        with pytest.raises(local.RunDirError, match=r"running in .* already"):
            local.up(host(), view.run)
        view.use("net1")


def test_a_system_that_cannot_start_says_why_and_leaves_nothing() -> None:
    bad = host()
    bad.functions[1].parent = "0000:7f:00.0"
    with run_directory() as run:
        with pytest.raises(local.LocalError, match="ended while it started: dom0: fault: ValueError"):
            local.up(bad, run)
        assert_nothing_left(run)


# -- the front door ----------------------------------------------------------------------------------
def test_many_control_clients_at_once_are_all_answered() -> None:
    def client(address: str) -> int:
        with Control(address) as control:
            return sum(control.ctl("net2", "workload", [-1, 1])["0000:00:00.0"] for _ in range(40))

    with running(host()) as view, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(client, [view.system.control.address] * 4)) == [40] * 4
