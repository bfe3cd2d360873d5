"""kernel_stub.rpc: requests, answers, events, refusals, and every way in which a peer can go."""

from __future__ import annotations

from typing import Any

import pytest

from kernel_stub.kernel import MS
from kernel_stub.rpc import Rpc, RpcError
from protocol.codec import Decoder
from protocol.ports import Message
from tests.kernel_stub.world import WireLink, World

TABLE: dict[str, tuple[Any, ...]] = {"add": (int, int), "slow": (int,), "note": (str,)}


class Pair:
    def __init__(self) -> None:
        self.world = World()
        decode = Decoder(TABLE).decode
        self.here, self.there = self.world.pair(decode)
        self.client = Rpc(self.world.main, self.here, "server")
        self.server = Rpc(self.world.kernel("server"), self.there, "client")
        self.notes: list[str] = []
        self.server.handlers.update(add=self._add, slow=self._slow)
        self.server.events["note"] = self.notes.append

    async def _add(self, a: int, b: int) -> int:
        if a < 0:
            raise RpcError("EINVAL")
        return a + b

    async def _slow(self, ms: int) -> int:
        await self.server.kernel.sleep(ms * MS)
        return ms

    def call(self, *args: Any, **options: Any) -> Any:
        return self.world.run(self.client.call(*args, **options))


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_a_call_returns_the_answer(pair: Pair) -> None:
    assert pair.call("add", 2, 3) == 5
    assert pair.here.sent == [("add", 1, 2, 3)]
    assert pair.there.sent == [("ok", 1, 5)]


def test_a_refusal_is_an_error_with_the_text(pair: Pair) -> None:
    with pytest.raises(RpcError, match=r"^EINVAL$"):
        pair.call("add", -1, 3)


def test_an_operation_that_nobody_serves_is_refused(pair: Pair) -> None:
    del pair.server.handlers["add"]
    with pytest.raises(RpcError, match="add: not available here"):
        pair.call("add", 1, 1)


def test_a_request_that_waits_does_not_delay_the_next(pair: Pair) -> None:
    seen: list[int] = []

    async def ask(ms: int) -> None:
        seen.append(await pair.client.call("slow", ms))

    for ms in (30, 10, 20):
        pair.world.main.spawn(ask(ms), f"ask {ms}")
    pair.world.settle(100)
    assert seen == [10, 20, 30]


def test_events_are_carried_out_at_once_in_order_and_not_answered(pair: Pair) -> None:
    for text in "abc":
        pair.client.post("note", text)
    pair.client.post("add", 1, 2)
    pair.world.settle()
    assert pair.notes == ["a", "b", "c"]
    assert pair.there.sent == []


def test_a_deadline_ends_the_wait_and_a_late_answer_is_ignored(pair: Pair) -> None:
    with pytest.raises(RpcError, match="no answer to slow"):
        pair.call("slow", 50, deadline=10 * MS)
    assert pair.world.clock.time == 10 * MS
    pair.world.settle(100)
    assert pair.call("add", 1, 1) == 2


def test_losing_the_peer_fails_what_waits_and_what_comes(pair: Pair) -> None:
    reasons: list[str] = []
    pair.client.on_close = reasons.append
    task = pair.world.main.spawn(_error(pair.client.call("slow", 50)), "ask")
    pair.world.settle(1)
    pair.there.close()
    pair.world.settle(1)
    assert task.result == "server: connection lost"
    assert reasons == ["connection lost"]
    assert pair.world.run(_error(pair.client.call("add", 1, 1))) == "server: connection lost"
    pair.client.post("note", "nobody hears this")


async def _error(call: Any) -> str:
    try:
        await call
    except RpcError as error:
        return str(error)
    return ""


def test_a_request_that_cannot_be_sent_fails_and_does_not_hang(pair: Pair) -> None:
    pair.here.close()
    assert pair.world.run(_error(pair.client.call("add", 1, 1))) == "server: add could not be sent"


def test_requests_wait_for_release_while_held(pair: Pair) -> None:
    pair.server.hold()
    task = pair.world.main.spawn(pair.client.call("add", 1, 2), "ask")
    pair.client.post("note", "events pass")
    pair.world.settle(50)
    assert not task.done
    assert pair.notes == ["events pass"]
    pair.server.release()
    pair.world.settle()
    assert task.result == 3
    assert pair.call("add", 4, 4) == 8


def test_an_answer_to_a_question_that_was_never_asked_is_ignored(pair: Pair) -> None:
    for message in (("ok", 77, 1), ("error", 78, "no"), ("ok", 0, 1)):
        pair.there.send(message)
    pair.world.settle()
    assert pair.call("add", 1, 1) == 2


@pytest.mark.parametrize(
    "raw", [b"", b"\xc1", b"\x93\xa3add\x01\x02", b"\x94\xa3add\x01\xc3\x02", b"\x92\xa3xyz\x01", b"\x81\xa1a\x01"]
)
def test_x48_wrong_bytes_end_the_connection_and_nothing_else(pair: Pair, raw: bytes) -> None:
    reasons: list[str] = []
    pair.server.on_close = reasons.append
    pair.here.send_raw(raw)
    pair.world.settle()
    assert len(reasons) == 1
    assert reasons[0].startswith("protocol violation: ")
    assert pair.world.run(_error(pair.client.call("add", 1, 1))).startswith("server: ")


def test_an_answer_after_the_peer_has_gone_is_not_sent(pair: Pair) -> None:
    pair.world.main.spawn(_error(pair.client.call("slow", 5)), "ask")
    pair.world.settle(1)
    pair.here.close()
    pair.world.settle(20)
    assert pair.there.sent == []
    assert pair.server.closed == "connection lost"


def test_a_fault_in_a_handler_is_an_oops_of_the_server(pair: Pair) -> None:
    async def broken() -> None:
        raise KeyError("bug")

    pair.server.handlers["add"] = lambda a, b: broken()
    pair.world.main.spawn(_error(pair.client.call("add", 1, 1)), "ask")
    with pytest.raises(KeyError):
        pair.world.settle()


def test_links_carry_plain_messages() -> None:
    world = World()
    got: list[Message] = []
    left, right = world.pair(Decoder(TABLE).decode)
    assert isinstance(right, WireLink)
    right.on_message = got.append
    left.send(("note", 0, "x"))
    world.settle()
    assert got == [("note", 0, "x")]
