"""protocol.limits: the bounds hold, and are what docs/SECURITY.md says."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import zmq

from protocol.codec import Decoder
from protocol.limits import GUEST_LINKS, GUEST_MEMORY, LINK_LIMITS, MIB, Bucket
from protocol.transport_zmq import NetEndpoints
from tests.protocol.test_transport_zmq import DECODERS, Party

SECOND = 1_000_000_000
MESSAGES = 3000
DECODE = Decoder({"note": (bytes,)}).decode


def test_a_bucket_gives_its_burst_at_once_and_its_rate_in_the_long_run() -> None:
    bucket = Bucket(10, 5)
    assert [bucket.take(0) for _ in range(5)] == [0] * 5
    wait = bucket.take(0)
    assert wait == SECOND // 10
    assert bucket.take(wait) == 0
    assert bucket.take(wait) > 0
    assert sum(bucket.take(now) == 0 for now in range(SECOND, 11 * SECOND, SECOND // 100)) == pytest.approx(105, abs=2)


def test_a_bucket_is_full_again_after_a_while_and_no_fuller() -> None:
    bucket = Bucket(1000, 3)
    assert sum(bucket.take(100 * SECOND) == 0 for _ in range(10)) == 3
    assert sum(bucket.take(200 * SECOND) == 0 for _ in range(10)) == 3


def test_what_a_guest_can_make_the_host_hold() -> None:
    assert GUEST_LINKS == ("party", "channel", "devbus")
    assert 16 * MIB + 8 * MIB + int(8.5 * MIB) == GUEST_MEMORY


@pytest.mark.processes
@pytest.mark.parametrize("kind", GUEST_LINKS)
def test_a_link_that_is_not_read_holds_no_more_than_its_row_says(kind: str, tmp_path: Path) -> None:
    """The peer, another process, sends the longest messages there may be, for as long as it can."""
    party, limit = Party(f"ipc://{tmp_path}"), LINK_LIMITS[kind]
    party.endpoints = NetEndpoints(party.loop, f"ipc://{tmp_path}", {kind: lambda raw: ("note", 0)} | DECODERS)
    address, link = party.endpoints.listen(kind, "x")
    link.decode = lambda raw: ("note", 0)
    party.take(link)
    pid = os.fork()
    if pid == 0:
        _flood(address, limit.message)
    end = time.monotonic() + 10
    while not party.got:
        assert time.monotonic() < end
        party.loop.run_once()
    link.pause(3600 * SECOND)
    before = _resident()
    time.sleep(1)
    grown = _resident() - before
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    party.loop.close()
    assert grown <= limit.message * (limit.queue + 2) + 4 * MIB, f"{grown / MIB:.1f} MiB"


def _flood(address: str, size: int) -> None:
    try:
        socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.PAIR)
        socket.sndhwm = 10
        socket.connect(address)
        for _ in range(MESSAGES):
            socket.send(bytes(size - 64))
    finally:
        os._exit(0)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
