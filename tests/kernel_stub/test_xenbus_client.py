"""kernel_stub.xenbus_client against the real XenStore of the stub: BUS-1, BUS-2, BUS-4, BUS-6."""

from __future__ import annotations

from typing import Any

import pytest

from hypervisor_stub.xenbus_requests import XenbusRequests
from hypervisor_stub.xenstore import XenStore
from kernel_stub.kernel import MS
from kernel_stub.rpc import Rpc, RpcError
from kernel_stub.xenbus_client import Xenbus, XenbusDevice, relative
from protocol.codec import Decoder
from protocol.messages import TO_DOM0, TO_HYPERVISOR
from protocol.xenbus import XenbusState as S
from protocol.xenbus import backend_dir, frontend_dir
from tests.kernel_stub.world import World

BE, FE = backend_dir(7), frontend_dir(7)
STATE = f"{BE}/state"


class Rig:
    def __init__(self) -> None:
        self.world = World()
        self.store = XenStore()
        here, self.there = self.world.pair(Decoder(TO_DOM0).decode, Decoder(TO_HYPERVISOR).decode)
        self.rpc = Rpc(self.world.main, here, "hypervisor")
        server = self.server = Rpc(self.world.kernel("hypervisor"), self.there, "dom0")
        server.handlers.update(XenbusRequests(self.store, 0, server.post).handlers())
        self.xenbus = Xenbus(self.world.main, self.rpc)
        self.dev = XenbusDevice(self.xenbus, BE, FE)
        self.events: list[str] = []

    def run(self, coro: Any) -> Any:
        return self.world.run(coro)

    def requests(self, op: str) -> list[tuple[Any, ...]]:
        return [message[2:] for message in self.rpc.link.sent if message[0] == op]  # type: ignore[attr-defined]

    async def note(self, path: str) -> None:
        self.events.append(path)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_values_are_text_and_a_missing_node_is_none(rig: Rig) -> None:
    assert rig.run(rig.xenbus.read("/tool/a")) is None
    rig.run(rig.xenbus.write("/tool/a", 17))
    assert rig.run(rig.xenbus.read("/tool/a")) == "17"
    rig.run(rig.xenbus.write("/tool/b", "\xb2\xff"))
    assert rig.run(rig.xenbus.read("/tool/b")) == "\xb2\xff"
    assert rig.run(rig.xenbus.directory("/tool")) == ["a", "b"]
    assert rig.run(rig.xenbus.directory("/nowhere")) == []
    rig.run(rig.xenbus.remove("/tool/a"))
    assert rig.run(rig.xenbus.read("/tool/a")) is None


def test_other_errors_than_a_missing_node_pass(rig: Rig) -> None:
    for call in (rig.xenbus.read("/tool/bad*name"), rig.xenbus.directory("/tool/bad*name")):
        with pytest.raises(RpcError, match="EINVAL"):
            rig.run(call)


def test_bus_1_a_state_that_is_cached_is_not_written(rig: Rig) -> None:
    rig.run(rig.xenbus.write(STATE, 7))
    rig.dev.state = int(S.CONNECTED)
    rig.run(rig.dev.switch_state(S.CONNECTED))
    assert rig.run(rig.xenbus.read(STATE)) == "7", "the toolstack wrote behind the driver's back"
    assert rig.run(rig.dev.read_state()) == 7
    assert rig.dev.state == S.CONNECTED


def test_bus_1_a_node_that_is_gone_is_not_written(rig: Rig) -> None:
    rig.run(rig.dev.switch_state(S.INIT_WAIT))
    assert rig.run(rig.xenbus.read(STATE)) is None
    assert rig.run(rig.dev.read_state()) == 0


def test_bus_1_the_switch_is_a_transaction_and_is_retried(rig: Rig) -> None:
    rig.run(rig.xenbus.write(STATE, 1))
    original = rig.server.handlers["xs_end"]
    refusals = iter([True, True])

    async def end(tx: int, commit: bool) -> Any:
        if commit and next(refusals, False):
            await original(tx, False)
            raise RpcError("EAGAIN")
        return await original(tx, commit)

    rig.server.handlers["xs_end"] = end
    rig.run(rig.dev.switch_state(S.INIT_WAIT))
    assert rig.run(rig.xenbus.read(STATE)) == "2"
    assert len(rig.requests("xs_start")) == 3
    assert rig.dev.state == S.INIT_WAIT


def test_a_transaction_whose_body_fails_is_given_up(rig: Rig) -> None:
    async def body(tx: int) -> None:
        await rig.xenbus.write("/tool/a", 1, tx)
        raise KeyError("in the middle")

    with pytest.raises(KeyError):
        rig.run(rig.xenbus.transaction(body))
    assert rig.requests("xs_end")[-1][1] is False
    assert rig.run(rig.xenbus.read("/tool/a")) is None


def test_a_commit_that_is_refused_for_good_is_an_error(rig: Rig) -> None:
    async def body(tx: int) -> None:
        rig.server.handlers["xs_end"] = _refuse

    with pytest.raises(RpcError, match="EQUOTA"):
        rig.run(rig.xenbus.transaction(body))


async def _refuse(*args: Any) -> None:
    raise RpcError("EQUOTA")


def test_bus_2_a_watch_fires_once_at_first_and_for_every_write(rig: Rig) -> None:
    rig.run(rig.xenbus.write(STATE, 4))
    rig.run(rig.xenbus.watch(STATE, rig.note))
    rig.world.settle()
    assert rig.events == [STATE]
    for _ in range(2):
        rig.run(rig.xenbus.write(STATE, 4))
    rig.world.settle()
    assert rig.events == [STATE] * 3


def test_bus_4_callbacks_run_one_after_the_other(rig: Rig) -> None:
    order: list[str] = []

    async def slow(path: str) -> None:
        order.append("slow+")
        await rig.world.main.sleep(10 * MS)
        order.append("slow-")

    async def quick(path: str) -> None:
        order.append("quick")

    rig.run(rig.xenbus.watch("/tool/a", slow))
    rig.run(rig.xenbus.watch("/tool/b", quick))
    rig.world.settle(50)
    assert order == ["slow+", "slow-", "quick"]


def test_a_watch_that_has_ended_is_not_called_for_events_in_the_queue(rig: Rig) -> None:
    token = rig.run(rig.xenbus.watch("/tool/a", rig.note))
    rig.world.settle()
    rig.events.clear()
    rig.run(rig.xenbus.write("/tool/a", 1))

    async def end() -> None:
        await rig.xenbus.unwatch("/tool/a", token)
        await rig.xenbus.unwatch("/tool/a", token)

    rig.rpc.events["xs_event"]("/tool/a", "no such token")
    rig.run(end())
    rig.run(rig.xenbus.write("/tool/a", 2))
    rig.world.settle()
    assert len(rig.events) <= 1
    assert len(rig.requests("xs_unwatch")) == 1


def test_a_watch_that_the_store_refuses_leaves_nothing_behind(rig: Rig) -> None:
    rig.server.handlers["xs_watch"] = _refuse
    with pytest.raises(RpcError, match="EQUOTA"):
        rig.run(rig.xenbus.watch("/tool/a", rig.note))
    rig.rpc.events["xs_event"]("/tool/a", "1")
    rig.world.settle()
    assert rig.events == []


def test_bus_6_a_peer_whose_directory_is_gone_has_state_0(rig: Rig) -> None:
    assert rig.run(rig.dev.otherend_state()) == 0
    rig.run(rig.xenbus.write(f"{FE}/state", 3))
    assert rig.run(rig.dev.otherend_state()) == 3
    rig.run(rig.xenbus.remove(FE))
    assert rig.run(rig.dev.otherend_state()) == 0


def test_b14_a_fatal_error_writes_the_error_node_then_closing(rig: Rig) -> None:
    rig.run(rig.xenbus.write(STATE, 3))
    rig.run(rig.dev.fatal(22, "Error reading number of devices"))
    path = "/local/domain/0/error/backend/pci/7/0/error"
    assert rig.run(rig.xenbus.read(path)) == "22 Error reading number of devices"
    assert rig.run(rig.xenbus.read(STATE)) == "5"


@pytest.mark.parametrize(
    ("nodename", "expected"),
    [(BE, "backend/pci/7/0"), (FE, "device/pci/0"), ("device/pci/0", "device/pci/0")],
)
def test_error_nodes_are_relative_to_the_domain(nodename: str, expected: str) -> None:
    assert relative(nodename) == expected
