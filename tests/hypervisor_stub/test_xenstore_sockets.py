"""The shell of XenStore's sockets without a system: doors that cannot be opened, leftovers, the end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor_stub.machine import Machine
from hypervisor_stub.xenstore_sockets import XenStoreSockets
from kernel_stub.kernel import Kernel
from protocol.topology import GuestSpec, HostSpec
from protocol.transport_loop import Loop, RealClock
from tests.kernel_stub.world import ListJournal

NAME = "g" * 90  # fits nowhere


@pytest.fixture(name="kernel")
def _kernel() -> Kernel:
    return Kernel("hypervisor", RealClock(0), ListJournal())


@pytest.fixture(name="loop")
def _loop(kernel: Kernel) -> Iterator[Loop]:
    loop = Loop(kernel)
    yield loop
    loop.close()


@pytest.fixture(name="machine")
def _machine(kernel: Kernel) -> Machine:
    return Machine(kernel, HostSpec("h", [], [GuestSpec("g"), GuestSpec(NAME)]), lambda: "token")


def born(machine: Machine, spec: GuestSpec) -> int:
    """A domain that is known to the store."""
    domain = machine.domains.add(spec, "token")
    machine.store.introduce_domain(domain.domid)
    return domain.domid


def test_a_path_that_is_too_long_costs_that_socket_only(
    loop: Loop, machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sockets = XenStoreSockets(loop, machine, tmp_path / "xs")
    for spec in machine.host.guests:
        born(machine, spec)
    assert sorted(path.parent.name for path in tmp_path.rglob("socket")) == ["guest-g", "xs"]
    problem = capsys.readouterr().err
    assert problem.startswith(f"hypervisor: no XenStore socket {tmp_path}/xs/guest-{NAME}/socket: socket path ")
    assert problem.endswith("107 are allowed\n")
    sockets.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_system_left_is_no_obstacle(loop: Loop, machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "xs" / "guest-g"
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(folder / "socket"))
    sockets = XenStoreSockets(loop, machine, tmp_path / "xs")
    assert not folder.exists()
    domid = born(machine, machine.host.guests[0])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(folder / "socket"))
    machine.store.release_domain(domid)
    assert not folder.exists()
    sockets.close()
