"""One role per foreground process, as containers run them: ``xenaer process hypervisor|dom0|guest``."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes.running import PATIENCE_S, TRANSPORTS, assert_nothing_left, run_directory
from xenaer.boot import ROOT, data_dir
from xenaer.control import Control, ControlError

pytestmark = pytest.mark.processes


def door_of(transport: str, run: Path) -> str:
    """An address for the hypervisor stub."""
    if transport == "ipc":
        return f"ipc://{run}/s/hypervisor"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def process(run: Path, role: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """One role; killed at the end if it still runs."""
    command = [sys.executable, "-m", "xenaer", "process", role, "--run", str(run), *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def ask(run: Path, door: str, target: str, verb: str, *args: Any) -> Any:
    """One control request; a system that is not there yet or refuses gives None."""
    try:
        with Control(door, timeout_s=2.0, run=run) as control:
            return control.ctl(target, verb, list(args))
    except ControlError:
        return None


def until_verified(run: Path, door: str) -> None:
    """The guest's workload is good."""
    deadline = time.monotonic() + PATIENCE_S
    while ask(run, door, "net1", "workload", -1, 4) != {"0000:00:00.0": 4}:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_three_roles_make_a_system_and_end_with_sigterm(transport: str) -> None:
    with run_directory() as run, ExitStack() as stack:
        door = door_of(transport, run)
        host = str(data_dir("hosts") / "one-nic.yaml")
        advertise = ("--advertise", "127.0.0.1") if transport == "tcp" else ()
        stub = stack.enter_context(process(run, "hypervisor", "--host", host, "--listen", door))
        dom0 = stack.enter_context(process(run, "dom0", "--hypervisor", door, *advertise))
        guest = stack.enter_context(process(run, "guest", "--name", "net1", "--hypervisor", door))
        until_verified(run, door)
        assert (run / "ready").exists()
        ask(run, door, "dom0", "touch", "0000:01:00.0")
        until_verified(run, door)
        guest.send_signal(signal.SIGTERM)  # its supervisor takes the guest along
        assert guest.wait(PATIENCE_S) == 0
        stub.send_signal(signal.SIGTERM)
        assert stub.wait(PATIENCE_S) == 0
        assert dom0.wait(PATIENCE_S) == 3  # without the stub there is no host
        assert_nothing_left(run)


def test_an_orderly_stop_ends_every_role_with_status_0() -> None:
    with run_directory() as run, ExitStack() as stack:
        door, host = door_of("ipc", run), str(data_dir("hosts") / "one-nic.yaml")
        roles = [
            stack.enter_context(process(run, "hypervisor", "--host", host, "--listen", door)),
            stack.enter_context(process(run, "dom0", "--hypervisor", door)),
            stack.enter_context(process(run, "guest", "--name", "net1", "--hypervisor", door)),
        ]
        until_verified(run, door)
        with Control(door, run=run) as control:
            control.ctl("hypervisor", "stop", [])
        assert [role.wait(PATIENCE_S) for role in roles] == [0, 0, 0]
        assert_nothing_left(run)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("dom0",), "needs --hypervisor"),
        (("guest", "--hypervisor", "ipc:///x", "--name", "a", "--colour", "red"), "no option --colour"),
        (("dom0", "--hypervisor", "udp://x"), "must begin with ipc:// or tcp://"),
    ],
)
def test_mistakes_are_one_line_with_status_2(words: tuple[str, ...], expected: str) -> None:
    with run_directory() as run:
        (run / "epoch").write_text("0\n")
        with process(run, *words) as role:
            assert role.wait(PATIENCE_S) == 2
            assert role.stderr is not None
            text = role.stderr.read()
        assert expected in text
        assert text.count("\n") == 1
