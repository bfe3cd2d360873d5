"""protocol.transport_zmq: real sockets in one process, two loops that are run in turn."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from protocol import transport_door
from protocol.channel import Channel
from protocol.codec import Decoder, decode_channel, encode
from protocol.ports import Journal, Link, Message
from protocol.sharedinfo import SharedPage
from protocol.transport_door import FrontDoor
from protocol.transport_loop import Loop, RealClock, ZmqLink
from protocol.transport_zmq import (
    PATH_MAX,
    NetEndpoints,
    TransportError,
    check_address,
    connect_pair,
    open_party_link,
)

TABLE: dict[str, tuple[Any, ...]] = {"note": (int,)}
DECODE = Decoder(TABLE).decode
DECODERS = {"party": DECODE, "channel": decode_channel}


class NullJournal:
    def __init__(self) -> None:
        self.flushed = 0

    def append(self, record: Any) -> None: ...

    def flush(self) -> None:
        self.flushed += 1


class Driven:
    """What a loop needs of a kernel: timers only. It asks to be run at least every 5 ms, so no test can hang."""

    def __init__(self) -> None:
        self.journal: Journal = NullJournal()
        self.now = RealClock(time.monotonic_ns()).now
        self.runs = 0
        self.timers: list[tuple[int, Callable[[], None]]] = []

    def run(self) -> None:
        self.runs += 1
        due = [timer for timer in self.timers if timer[0] <= self.now()]
        self.timers = [timer for timer in self.timers if timer not in due]
        for _, callback in due:
            callback()

    def call_at(self, deadline: int, callback: Callable[[], None]) -> object:
        self.timers.append((deadline, callback))
        return None

    def next_timer(self) -> int | None:
        return self.now() + 5_000_000


class Party:
    def __init__(self, base: str) -> None:
        self.driven = Driven()
        self.loop = Loop(self.driven)
        self.endpoints = NetEndpoints(self.loop, base, DECODERS)
        self.got: list[Message] = []
        self.reasons: list[str] = []

    def take(self, link: Link) -> Any:
        link.on_message = self.got.append
        link.on_close = self.reasons.append
        return link


class Net:
    def __init__(self, base: str) -> None:
        self.here, self.there = Party(base), Party(base)

    def until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it never happened"
            self.here.loop.run_once()
            self.there.loop.run_once()

    def rest(self, rounds: int = 6) -> None:
        """Let whatever is on its way arrive."""
        for _ in range(rounds):
            self.here.loop.run_once()
            self.there.loop.run_once()

    def pair(self, kind: str = "party") -> tuple[ZmqLink, ZmqLink]:
        address, left = self.here.endpoints.listen(kind, "x")
        right = self.there.endpoints.connect(kind, address)
        self.here.take(left)
        self.there.take(right)
        right.send((0, 0, False, ()) if kind == "channel" else ("note", 0, 0))
        self.until(lambda: bool(self.here.got))  # they have met
        self.here.got.clear()
        return left, right


@pytest.fixture(params=["ipc", "tcp"])
def net(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    where = tmp_path_factory.mktemp("s", numbered=True)
    found = Net(f"ipc://{where}" if request.param == "ipc" else "tcp://127.0.0.1")
    yield found
    found.here.loop.close()
    found.there.loop.close()


def test_messages_arrive_in_order_in_both_directions(net: Net) -> None:
    left, right = net.pair()
    for number in range(200):
        assert left.send(("note", 0, number))
        assert right.send(("note", 0, -number))
    net.until(lambda: len(net.here.got) == len(net.there.got) == 200)
    assert [message[2] for message in net.there.got] == list(range(200))
    assert [message[2] for message in net.here.got] == [-number for number in range(200)]


def test_each_endpoint_is_new(net: Net) -> None:
    addresses = {net.here.endpoints.listen("party", "x")[0] for _ in range(5)}
    assert len(addresses) == 5


def test_a_closed_peer_is_noticed_after_its_last_message(net: Net) -> None:
    left, right = net.pair()
    left.send(("note", 0, 1))
    net.until(lambda: bool(net.there.got))
    right.send(("note", 0, 2))
    right.send(("note", 0, 3))
    right.close()
    net.until(lambda: bool(net.here.reasons))
    assert net.here.reasons == ["connection lost"]
    assert [message[2] for message in net.here.got] == [2, 3]
    assert left.closed
    assert not left.send(("note", 0, 4))
    assert not right.send(("note", 0, 4))
    net.rest()
    assert net.there.reasons == [], "one's own close is no news"


def test_x48_wrong_bytes_close_the_link_and_say_why(net: Net) -> None:
    left, right = net.pair()
    left.send(("note", 0, 1))
    net.until(lambda: bool(net.there.got))
    right.socket.send(b"\xc1")
    net.until(lambda: bool(net.here.reasons))
    assert net.here.reasons[0].startswith("protocol violation: ")
    net.until(lambda: bool(net.there.reasons))
    assert net.there.reasons == ["connection lost"]


def test_a_channel_works_over_a_real_link(net: Net) -> None:
    left, right = net.pair("channel")
    front, back = Channel(left, SharedPage()), Channel(right, SharedPage())
    events: list[int] = []
    back.on_event = lambda: events.append(1)
    for number in range(300):
        front.page.write(4, number.to_bytes(4, "little"))
        front.notify()
    net.until(lambda: back.page.data == front.page.data)
    assert 1 <= len(events) <= 300


def test_what_is_sent_before_the_peer_connects_is_not_lost(net: Net) -> None:
    """dom0 may have a question for a guest that has been told the address and is on its way."""
    address, left = net.here.endpoints.listen("party", "x")
    net.here.take(left)
    assert left.send(("note", 0, 1))
    net.there.take(net.there.endpoints.connect("party", address))
    net.until(lambda: net.there.got == [("note", 0, 1)])
    assert net.here.reasons == []


def test_blocking_in_one_link_takes_one_message_or_gives_up_after_a_while(net: Net) -> None:
    left, right = net.pair()
    right.send(("note", 0, 1))
    right.send(("note", 0, 2))
    assert left.block()
    assert net.here.got == [("note", 0, 1)]
    assert left.block()
    assert not left.block()


def test_a_reader_is_called_until_it_is_removed(net: Net) -> None:
    read, write = os.pipe()
    seen: list[bytes] = []
    net.here.loop.add_reader(read, lambda: seen.append(os.read(read, 10)))
    os.write(write, b"a")
    net.until(lambda: seen == [b"a"])
    net.here.loop.remove_reader(read)
    net.here.loop.remove_reader(read)
    os.write(write, b"b")
    net.rest()
    assert seen == [b"a"]
    os.close(read)
    os.close(write)


def test_a_loop_stops_after_the_current_step(net: Net) -> None:
    net.here.loop.stop()
    net.here.loop.run()
    assert net.here.driven.runs == 0
    net.here.loop.run_once()
    assert net.here.driven.runs == 1


# -- the front door ------------------------------------------------------------------------------
class Door:
    def __init__(self, net: Net, address: str) -> None:
        self.links: list[Link] = []
        self.address = address
        self.door = FrontDoor(net.here.loop, [address], net.here.endpoints, self.accept)
        self.net = net

    def accept(self, link: Link, user: str) -> None:
        self.links.append(self.net.here.take(link))


@pytest.fixture
def door(net: Net) -> Door:
    base = net.here.endpoints.base
    return Door(net, f"{base}/door" if base.startswith("ipc") else f"{base}:{_free_port()}")


def _free_port() -> int:
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        return int(socket.bind_to_random_port("tcp://127.0.0.1"))


def test_a_control_client_is_served_at_the_door(net: Net, door: Door) -> None:
    with net.there.loop.context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(door.address)
        client.send(encode(("note", 1, 5)))
        net.until(lambda: bool(net.here.got))
        door.links[0].send(("ok", 1, 6))
        assert DECODE(client.recv()) == ("ok", 1, 6)
        client.send(b"\xc1 nonsense")
        net.rest()
        assert DECODE(client.recv())[0] == "error"
        client.send(encode(("note", 2, 6)))
        net.until(lambda: len(net.here.got) == 2)
        assert len(door.links) == 1, "one client is one link"


def test_the_door_remembers_the_clients_heard_of_last(net: Net, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_door, "CLIENTS_MAX", 2)
    with contextlib.ExitStack() as stack:
        one, two, three = (stack.enter_context(net.there.loop.context.socket(zmq.DEALER)) for _ in range(3))
        for number, client in enumerate((one, two, one, three, one, two), 1):
            client.linger = 0
            if number in (1, 2, 4):
                client.connect(door.address)
            client.send(encode(("note", number, 5)))
            net.until(lambda number=number: len(net.here.got) == number)  # type: ignore[misc]
        assert len(door.links) == 4, "two was forgotten when three came, and is new when it comes again"


def test_a_second_door_at_the_same_place_is_refused(net: Net, door: Door) -> None:
    with pytest.raises(TransportError, match="already"):
        FrontDoor(net.there.loop, [door.address], net.there.endpoints, lambda link, user: None)


def test_nobody_at_the_door_is_an_error(net: Net, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="no hypervisor stub answers"):
        open_party_link(net.there.loop, "tcp://127.0.0.1:9", DECODE, timeout_ms=50)


@pytest.mark.processes
def test_a_party_gets_a_link_of_its_own(net: Net, door: Door) -> None:
    """The party knocks and waits in its own process, as all parties do."""
    pid = os.fork()
    if pid == 0:
        _knock(door.address)
    net.until(lambda: bool(door.links))
    net.until(lambda: bool(net.here.got))
    assert net.here.got == [("note", 0, 42)]
    net.until(lambda: bool(net.here.reasons))
    assert net.here.reasons == ["connection lost"], "its death is noticed"
    assert os.waitpid(pid, 0)[1] == 0


def _knock(address: str) -> None:
    status = 1
    try:
        loop = Loop(Driven())
        link = open_party_link(loop, address, DECODE)
        link.send(("note", 0, 42))
        time.sleep(0.2)
        status = 0
    finally:
        os._exit(status)


@pytest.mark.processes
def test_both_ends_may_close_at_the_same_moment() -> None:
    """In a process of its own: what this looks for stops ZeroMQ's thread and ours for ever."""
    pid = os.fork()
    if pid == 0:
        _close_both(400)
    end = time.monotonic() + 30
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert ended == (pid, 0)


def _close_both(times: int) -> None:
    status = 1
    try:
        with tempfile.TemporaryDirectory() as folder:
            net = Net(f"ipc://{folder}")
            for _ in range(times):
                left, right = net.pair()
                ready = threading.Barrier(2)
                other = threading.Thread(target=_close_at, args=(ready, right))
                other.start()
                _close_at(ready, left)
                other.join()
        status = 0
    finally:
        os._exit(status)


def _close_at(ready: threading.Barrier, link: ZmqLink) -> None:
    ready.wait()
    link.close()


# -- addresses -----------------------------------------------------------------------------------
def test_addresses_are_checked() -> None:
    check_address("ipc:///" + "x" * (PATH_MAX - 1))
    check_address("tcp://host:1")
    with pytest.raises(TransportError, match=f"{PATH_MAX + 1} bytes long"):
        check_address("ipc:///" + "x" * PATH_MAX)
    with pytest.raises(TransportError, match=r"ipc:// or tcp://"):
        check_address("inproc://x")
    with pytest.raises(TransportError, match="bytes long"):
        check_address("ipc:///" + "\u00e4" * 60)


def test_a_path_that_is_too_long_is_refused_at_once(net: Net) -> None:
    with pytest.raises(TransportError):
        connect_pair(net.here.loop, "ipc:///" + "x" * 200, DECODE)


def test_clock_counts_from_its_epoch() -> None:
    clock = RealClock(time.monotonic_ns())
    first = clock.now()
    assert 0 <= first <= clock.now() < 10**10
