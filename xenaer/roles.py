"""One party in the foreground: what containers run (``xenaer process hypervisor|dom0|guest``).

The hypervisor stub has the host file; the others learn everything from it. All of them share the run
directory, where their journals are and where the stub leaves the zero of the system's clock.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from protocol.transport_keys import KeyRing
from protocol.transport_zmq import TransportError
from xenaer.control import run_dir
from xenaer.run_files import SYSFS, clean, system_file

EPOCH_TIMEOUT_S = 30.0
USAGE = 2

# role -> (options that it needs, options that it may have)
OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hypervisor": (("host", "listen"), ("run", "advertise")),
    "dom0": (("hypervisor",), ("run", "advertise")),
    "guest": (("name", "hypervisor"), ("run",)),
}


class RoleError(Exception):
    """A role cannot run as it was asked to; the text says why and what is allowed."""


def run_process(role: str, options: dict[str, str]) -> int:
    """Run ``role`` until it ends; returns its exit status. Raises RoleError."""
    _check(role, options)
    run = run_dir(Path(options["run"]) if "run" in options else None)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    runners: dict[str, Callable[[dict[str, str], Path], int]] = {
        "hypervisor": _hypervisor,
        "dom0": _dom0,
        "guest": _guest,
    }
    try:
        return runners[role](options, run)
    except TransportError as error:
        raise RoleError(str(error)) from None


def _check(role: str, options: dict[str, str]) -> None:
    needed, allowed = OPTIONS[role]
    for name in needed:
        if name not in options:
            raise RoleError(f"process {role} needs --{name}")
    for name in options:
        if name not in needed + allowed:
            words = ", ".join(f"--{each}" for each in needed + allowed)
            raise RoleError(f"process {role} has no option --{name}; allowed: {words}")


def _hypervisor(options: dict[str, str], run: Path) -> int:
    from hypervisor_stub.process import HypervisorOptions, main_hypervisor  # noqa: PLC0415 - one role per process
    from xenaer.host import load_host  # noqa: PLC0415

    host = load_host(options["host"])
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    (run / "journal").mkdir(exist_ok=True)
    clean(run)
    for old in [run / "epoch", *(run / "journal").glob("*.mpk")]:
        old.unlink(missing_ok=True)
    shutil.rmtree(run / SYSFS, ignore_errors=True)
    (run / "s").mkdir(mode=0o700, exist_ok=True)
    epoch = time.monotonic_ns()
    door = options["listen"]
    if door.startswith("tcp://"):
        KeyRing(run).create()  # before the epoch, for which the others wait
    (run / "epoch").write_text(f"{epoch}\n")
    base = "tcp://*" if door.startswith("tcp://") else f"ipc://{run}/s"
    _announce(run, door, options.get("advertise") or socket.gethostname(), host.name)
    try:
        return main_hypervisor(HypervisorOptions(host, [door], base, run, epoch, console=True))
    finally:
        clean(run)


def _announce(run: Path, door: str, hostname: str, name: str) -> None:
    """Say in the run directory where the system is, for ``xenaer run --attach`` and the other commands."""
    address = f"tcp://{hostname}:{door.rsplit(':', 1)[1]}" if door.startswith("tcp://") else door
    system_file(run).write_text(json.dumps({"address": address, "pid": os.getpid(), "host": name}))


def _dom0(options: dict[str, str], run: Path) -> int:
    from dom0_pciback.process import Dom0Options, main  # noqa: PLC0415

    advertise = options.get("advertise")
    base = f"tcp://{advertise}" if advertise else f"ipc://{run}/s"
    return main(Dom0Options(options["hypervisor"], base, run, _epoch(run), console=True))


def _guest(options: dict[str, str], run: Path) -> int:
    from domu_pcifront.process import main as guest_main  # noqa: PLC0415
    from hypervisor_stub.process import SupervisorOptions, main_supervisor  # noqa: PLC0415

    return main_supervisor(
        SupervisorOptions(options["hypervisor"], options["name"], run, _epoch(run), guest_main, console=True)
    )


def _epoch(run: Path) -> int:
    """The zero of the system's clock, which the stub writes when it starts."""
    deadline = time.monotonic() + EPOCH_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            return int((run / "epoch").read_text())
        except (OSError, ValueError):
            time.sleep(0.05)
    raise RoleError(f"no hypervisor stub has started in {run}: {run / 'epoch'} is not there")
