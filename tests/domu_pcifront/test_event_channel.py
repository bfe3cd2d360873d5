"""domu_pcifront.event_channel: the poll takes events before the handler can (xen-pci.md 3.2, 8.1)."""

from __future__ import annotations

import pytest

from domu_pcifront.event_channel import EventChannel
from kernel_stub.kernel import MS
from protocol.channel import Channel
from protocol.codec import decode_channel
from protocol.sharedinfo import SharedPage
from tests.kernel_stub.world import World


class Rig:
    def __init__(self) -> None:
        self.world = World()
        left, right = self.world.pair(decode_channel)
        self.channel = Channel(left, SharedPage())
        self.peer = Channel(right, SharedPage())
        self.handled = 0
        self.events = EventChannel(self.world.main, self.channel, self._handler)

    def _handler(self) -> None:
        self.handled += 1


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_an_event_runs_the_handler_when_nobody_polls(rig: Rig) -> None:
    rig.peer.notify()
    rig.world.settle()
    assert rig.handled == 1
    assert not rig.events.pending


def test_fe_4_a_poll_swallows_the_event(rig: Rig) -> None:
    task = rig.world.main.spawn(rig.events.poll(3_000 * MS), "poll")
    rig.world.settle(1)
    rig.peer.notify()
    rig.world.settle()
    assert task.done
    assert rig.handled == 0
    assert not rig.events.pending, "the pending bit is cleared after the poll"


def test_two_events_during_one_poll_are_one(rig: Rig) -> None:
    rig.world.main.spawn(rig.events.poll(3_000 * MS), "poll")
    rig.world.settle(1)
    rig.channel.on_event()
    rig.channel.on_event()
    rig.world.settle()
    assert rig.handled == 0
    rig.peer.notify()
    rig.world.settle()
    assert rig.handled == 1


def test_a_poll_ends_at_its_deadline(rig: Rig) -> None:
    rig.world.run(rig.events.poll(3_000 * MS))
    assert rig.world.clock.time == 3_000 * MS
    rig.peer.notify()
    rig.world.settle()
    assert rig.handled == 1


def test_a_poll_does_not_wait_for_a_channel_that_is_closed(rig: Rig) -> None:
    rig.channel.on_close = lambda reason: rig.events.wake()
    task = rig.world.main.spawn(rig.events.poll(3_000 * MS), "poll")
    rig.world.settle(1)
    rig.peer.close()
    rig.world.settle(1)
    assert task.done
    before = rig.world.clock.time
    rig.world.run(rig.events.poll(before + 3_000 * MS))
    assert rig.world.clock.time == before


def test_fe_5_a_process_blocks_in_its_channel_alone(rig: Rig) -> None:
    answers = iter([False, True])
    blocked: list[int] = []

    def block() -> bool:
        blocked.append(rig.world.clock.time)
        return next(answers)

    rig.events.block = block
    rig.world.run(rig.events.poll(3_000 * MS))
    rig.world.run(rig.events.poll(3_000 * MS))
    assert len(blocked) == 2
