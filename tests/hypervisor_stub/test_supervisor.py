"""hypervisor_stub.supervisor: one process at a time, orders of the right incarnation only (KILL-2, KILL-4.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hypervisor_stub.supervisor import Supervisor
from kernel_stub.kernel import MS
from kernel_stub.rpc import Rpc, RpcError
from protocol.codec import Decoder
from protocol.messages import TO_HYPERVISOR, TO_SUPERVISOR
from tests.kernel_stub.world import World


class FakeRunner:
    def __init__(self, world: World) -> None:
        self.world = world
        self.on_death: Callable[[int, int], None] = lambda pid, status: None
        self.calls: list[tuple[Any, ...]] = []
        self.pid = 100
        self.start_ms = 0
        self.fails = ""

    async def start(self, domid: int, token: str, name: str) -> int:
        self.calls.append(("start", domid, token, name))
        if self.start_ms:
            await self.world.main.sleep(self.start_ms * MS)
        if self.fails:
            raise RpcError(self.fails)
        self.pid += 1
        return self.pid

    def kill(self, pid: int) -> None:
        self.calls.append(("kill", pid))

    def pause(self, pid: int, *, on: bool) -> None:
        self.calls.append(("pause" if on else "unpause", pid))


class Rig:
    def __init__(self) -> None:
        self.world = World()
        here, there = self.world.pair(Decoder(TO_SUPERVISOR).decode, Decoder(TO_HYPERVISOR).decode)
        self.runner = FakeRunner(self.world)
        self.supervisor = Supervisor(self.world.main, here, self.runner, "guest1")
        self.stub = Rpc(self.world.kernel("hypervisor"), there, "supervisor")
        self.hellos: list[tuple[Any, ...]] = []
        self.deaths: list[tuple[Any, ...]] = []
        self.stub.handlers["hello"] = self._hello
        self.stub.events["died"] = lambda *args: self.deaths.append(args)
        self.world.settle()

    async def _hello(self, *args: Any) -> dict[str, Any]:
        self.hellos.append(args)
        return {}

    def call(self, *args: Any) -> Any:
        return self.world.run(self.stub.call(*args), self.stub.kernel)

    def post(self, *args: Any) -> None:
        self.stub.post(*args)
        self.world.settle()

    def die(self, pid: int, status: int) -> None:
        self.runner.on_death(pid, status)
        self.world.settle()


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_it_says_hello_with_the_name_of_its_guest(rig: Rig) -> None:
    assert rig.hellos == [("supervisor", "guest1")]


def test_start_gives_the_pid_and_a_second_one_is_refused(rig: Rig) -> None:
    assert rig.call("start", 7, "token", "guest1") == 101
    with pytest.raises(RpcError, match="runs already, pid 101"):
        rig.call("start", 8, "token", "guest1")


def test_two_starts_at_the_same_time_are_one_process(rig: Rig) -> None:
    rig.runner.start_ms = 10
    first = rig.stub.kernel.spawn(rig.stub.call("start", 7, "t", "guest1"), "first")
    rig.world.settle(1)
    with pytest.raises(RpcError, match="guest1"):
        rig.call("start", 8, "t", "guest1")
    rig.world.settle(20)
    assert first.result == 101
    assert [call for call in rig.runner.calls if call[0] == "start"] == [("start", 7, "t", "guest1")]


def test_a_start_that_fails_may_be_tried_again(rig: Rig) -> None:
    rig.runner.fails = "no memory"
    with pytest.raises(RpcError, match="no memory"):
        rig.call("start", 7, "t", "guest1")
    rig.runner.fails = ""
    assert rig.call("start", 7, "t", "guest1") == 101


def test_kill_2_only_the_domain_that_runs_is_killed(rig: Rig) -> None:
    rig.post("kill", 7)
    rig.call("start", 7, "t", "guest1")
    rig.post("kill", 6)
    assert ("kill", 101) not in rig.runner.calls
    rig.post("kill", 7)
    assert ("kill", 101) in rig.runner.calls


def test_a_kill_during_the_start_is_not_forgotten(rig: Rig) -> None:
    rig.runner.start_ms = 10
    rig.stub.kernel.spawn(rig.stub.call("start", 7, "t", "guest1"), "start")
    rig.world.settle(1)
    rig.post("kill", 7)
    rig.world.settle(20)
    assert ("kill", 101) in rig.runner.calls


def test_kill_4_2_a_death_is_reported_once_with_its_status(rig: Rig) -> None:
    rig.call("start", 7, "t", "guest1")
    rig.die(101, 9)
    rig.die(101, 9)
    rig.die(55, 0)
    assert rig.deaths == [(7, 101, 9)]
    assert rig.call("start", 8, "t", "guest1") == 102


@pytest.mark.parametrize("op", ["pause", "unpause"])
def test_pause_and_unpause(rig: Rig, op: str) -> None:
    with pytest.raises(RpcError, match="does not run here"):
        rig.call(op, 7)
    rig.call("start", 7, "t", "guest1")
    with pytest.raises(RpcError, match="domain 6 does not run here"):
        rig.call(op, 6)
    rig.call(op, 7)
    assert rig.runner.calls[-1] == (op, 101)


def test_the_end_takes_the_guest_along(rig: Rig) -> None:
    rig.supervisor.end()
    assert rig.runner.calls == []
    rig.call("start", 7, "t", "guest1")
    rig.supervisor.end()
    assert rig.runner.calls[-1] == ("kill", 101)
    rig.die(101, 9)
    assert rig.deaths == []


def test_stop_is_the_owners_business(rig: Rig) -> None:
    stops: list[int] = []
    rig.supervisor.on_stop = lambda: stops.append(1)
    rig.post("stop")
    assert stops == [1]
