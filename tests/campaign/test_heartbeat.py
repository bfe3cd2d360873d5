"""heartbeat: which case a process is in, and what it has finished, seen from another one after its death."""

from __future__ import annotations

import os
import signal
import time

import pytest

from xenaer.campaign.run import heartbeat
from xenaer.campaign.run.heartbeat import Memory


@pytest.fixture(name="memory")
def fixture_memory() -> Memory:
    return Memory.make()


def test_a_case_is_under_way_until_its_result_is_kept(memory: Memory) -> None:
    before = time.monotonic()
    memory.clear()
    assert memory.beat() is None
    memory.begin(41, 2)
    beat = memory.beat()
    assert beat is not None
    assert (beat.number, beat.runs) == (41, 2)
    assert before <= beat.begin_s <= time.monotonic()
    memory.keep(b"result of 41")
    memory.idle()
    assert memory.beat() is None
    assert memory.kept(1) == [b"result of 41"]
    memory.close()


def test_results_of_another_call_are_not_of_this_one(memory: Memory) -> None:
    """A worker that dies before it has looked at its call has kept nothing for it."""
    memory.clear()
    memory.keep(b"one")
    assert memory.kept(2) == []
    memory.clear()
    assert memory.kept(2) == []
    memory.keep(b"two")
    assert memory.kept(2) == [b"two"]
    memory.close()


def test_half_a_result_does_not_count(memory: Memory) -> None:
    memory.clear()
    memory.keep(b"whole")
    memory.keep(b"cut off")
    os.ftruncate(memory.fd, os.fstat(memory.fd).st_size - 1)
    assert memory.kept(1) == [b"whole"]
    memory.close()


def test_it_outlives_a_sigkill(memory: Memory) -> None:
    pid = os.fork()
    if not pid:
        heartbeat.attach(memory)
        memory.clear()
        heartbeat.begin(7)
        heartbeat.keep(b"seven")
        heartbeat.begin(8, 2)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    beat = memory.beat()
    assert beat is not None
    assert (beat.number, beat.runs) == (8, 2)
    assert memory.kept(1) == [b"seven"]
    memory.close()


def test_outside_a_worker_nothing_happens() -> None:
    heartbeat.begin(1)
    heartbeat.keep(b"nobody asks")
