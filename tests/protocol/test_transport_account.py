"""protocol.transport_account: messages that never end, on real tcp connections, with and without keys."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

from protocol.limits import LINK_LIMITS
from protocol.transport_account import Account, received
from protocol.transport_door import FrontDoor
from protocol.transport_gate import Gate
from protocol.transport_keys import make_pair
from protocol.transport_loop import ZmqLink
from protocol.transport_zmq import NetEndpoints
from tests.processes.attacker import GREETING
from tests.protocol.test_transport_zmq import DECODERS, Net

MORE = b"\x03" + (60_000).to_bytes(8, "big") + bytes(60_000)  # one frame, and more follow
LENGTHS = (0, 1, 100, 221, 222, 223, 253, 254, 255, 256, 257, 5_000, 60_000)


def ready(kind: bytes) -> bytes:
    """The command that ends a handshake without keys."""
    body = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind + b"\x08Identity" + bytes(4)
    return b"\x04" + bytes([len(body)]) + body


@pytest.fixture
def net() -> Iterator[Net]:
    found = Net("tcp://127.0.0.1")
    yield found
    found.here.loop.close()
    found.there.loop.close()


def refusals(net: Net) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    net.here.loop.refuse = lambda *what: found.append(what)
    return found


def stream(net: Net, address: str, begin: bytes, seconds: float = 10) -> int:
    """Send frames that never end until the connection does; how many bytes were taken."""
    host, port = address.removeprefix("tcp://").rsplit(":", 1)
    sent, end = 0, time.monotonic() + seconds
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(GREETING)
        assert raw.recv(1000)
        raw.sendall(begin)
        raw.setblocking(False)
        waiting = MORE
        while time.monotonic() < end:
            net.here.loop.run_once()
            if not select.select([], [raw], [], 0)[1]:
                continue
            try:
                sent += (count := raw.send(waiting))
            except OSError:
                return sent
            waiting = waiting[count:] or MORE
    raise AssertionError(f"{sent} bytes were taken in {seconds} s")


def test_a_message_without_end_ends_its_connection(net: Net) -> None:
    found = refusals(net)
    address, left = net.here.endpoints.listen("channel", "d1")
    limit = LINK_LIMITS["channel"]
    assert stream(net, address, ready(b"PAIR")) > limit.message * limit.queue
    net.rest()
    assert ("flood", "d1", "a message without end") in found
    assert not left.closed, "a stranger's connection is not the peer's"


def test_a_peer_that_begins_to_send_one_is_lost(net: Net) -> None:
    found = refusals(net)
    address, left = net.here.endpoints.listen("channel", "d1")
    net.here.take(left)
    stream(net, address, ready(b"PAIR") + b"\x00\x00")  # with a greeting: this is the peer
    net.until(lambda: left.closed)
    assert net.here.reasons == ["connection lost"]
    assert found[0] == ("flood", "d1", "a message without end")


def test_the_front_door_too(net: Net) -> None:
    found = refusals(net)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    FrontDoor(net.here.loop, [address], net.here.endpoints, lambda link, user: None)
    stream(net, address, ready(b"DEALER"))
    assert ("flood", "", "a message without end") in found


def open_bytes(link: ZmqLink) -> int:
    """What the peer has sent, less what the account knows to have been taken."""
    account, peer = link.account, link.connections.peer
    assert isinstance(account, Account)
    return received(peer) - account._taken[peer]


@pytest.mark.parametrize("keys", [False, True])
def test_honest_messages_leave_nothing_behind_however_many(net: Net, keys: bool) -> None:
    if keys:
        gate = Gate(net.here.loop)
        net.here.endpoints = NetEndpoints(net.here.loop, "tcp://127.0.0.1", DECODERS, gate, make_pair())
        net.there.endpoints.own = make_pair()
        gate.admit("x", net.there.endpoints.own.public.decode())
    left, right = net.pair()
    left.decode = lambda raw: ("note", 0, len(raw))
    begin = open_bytes(left)
    assert begin < 4096, "a handshake"
    expected = [length for length in LENGTHS for _ in range(30)]
    for length in expected:
        right._send(bytes(length), 0)
    net.until(lambda: len(net.here.got) == len(expected))
    assert [message[2] for message in net.here.got] == expected
    assert open_bytes(left) == begin, "every byte is accounted for"
