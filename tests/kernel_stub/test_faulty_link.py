"""kernel_stub.faulty_link and protocol.renumber: what becomes of the messages, and of both ends that count them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_stub.faulty_link import Direction, Does, FaultyLink
from kernel_stub.kernel import MS, Kernel
from protocol.channel import Channel
from protocol.ports import Message
from protocol.sharedinfo import SharedPage
from xenaer.simulation.links import SimLink, pair
from xenaer.simulation.parties import MemoryJournal
from xenaer.simulation.world import World

OPS = st.lists(st.integers(0, 3), min_size=1, max_size=4)


class Wire:
    """Two ends of a link; ``near`` is behind the faults. Messages are ``(n,)``."""

    def __init__(self, *, stream: bool = False) -> None:
        self.world = World(1)
        self.kernel = Kernel("dom0", self.world, MemoryJournal("dom0", []))
        self.world.adopt(self.kernel)
        self.here, self.there = pair(self.world, "link")
        self.noted: list[tuple[str, str]] = []
        self.inward: list[Message] = []
        self.outward: list[Message] = []
        self.closed: list[str] = []
        self.here.on_message, self.here.on_close = self.inward.append, self.closed.append
        self.there.on_message = self.outward.append
        self.near = FaultyLink(self.kernel, self.here, lambda *note: self.noted.append(note), stream=stream)

    def run(self, ms: float = 1_000) -> None:
        """Let time pass."""
        self.world.run_until(lambda: False, self.world.now() + int(ms * MS))

    def say(self, *numbers: int, way: str = "in") -> list[int]:
        """Send messages, and see in which order they arrive."""
        for number in numbers:
            (self.there if way == "in" else self.near).send((number,))
        self.run()
        return [message[0] for message in (self.inward if way == "in" else self.outward)]


@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize(
    ("does", "count", "arrive"),
    [
        ("drop", 1, [2, 3]),
        ("drop", 2, [3]),
        ("duplicate", 1, [1, 1, 2, 3]),
        ("reorder", 1, [2, 1, 3]),
        ("reorder", 2, [2, 1, 3]),
        ("delay", 1, [1, 2, 3]),
        ("delay", 3, [1, 2, 3]),
    ],
)
def test_what_arrives(does: Does, count: int, arrive: list[int], way: Direction) -> None:
    wire = Wire()
    wire.near.arm(does, way, 5 * MS if does != "duplicate" else 0, count)
    assert wire.say(1, 2, 3, way=way) == arrive
    assert set(wire.noted) == {(does, way)}


def test_a_late_duplicate_makes_the_others_wait() -> None:
    wire = Wire()
    wire.near.arm("duplicate", "in", 5 * MS, 1)
    assert wire.say(1, 2) == [1, 1, 2]


def test_who_is_never_overtaken_comes_after_its_time() -> None:
    wire = Wire()
    wire.near.arm("reorder", "in", 50 * MS, 1)
    wire.there.send((1,))
    wire.run(49)
    assert wire.inward == []
    wire.run(2)
    assert wire.inward == [(1,)]


def test_what_waits_is_lost_with_the_link() -> None:
    wire = Wire()
    wire.near.arm("delay", "in", 50 * MS, 1)
    wire.there.send((1,))
    wire.run(10)
    wire.near.close()
    wire.run()
    assert wire.inward == []


def test_the_peer_that_goes_is_told_on() -> None:
    wire = Wire()
    wire.near.arm("delay", "in", 50 * MS, 1)
    wire.there.send((1,))
    wire.there.close()
    wire.run()
    assert (wire.inward, wire.closed) == ([], ["connection lost"])


class Ends:
    """Two channels over a link whose near end is behind the faults."""

    def __init__(self) -> None:
        self.wire = Wire(stream=True)
        self.here = Channel(self.wire.near, SharedPage())
        self.there = Channel(self.wire.there, SharedPage())
        self.breaches: list[str] = []
        self.bells = [0, 0]
        for number, end in enumerate((self.here, self.there)):
            end.on_close = self.breaches.append
            end.on_event = lambda number=number: self.rung(number)  # type: ignore[misc]

    def rung(self, number: int) -> None:
        self.bells[number] += 1

    def speak(self, end: Channel, ops: list[int]) -> None:
        for op in ops:
            end.page.write(8 + 4 * op, bytes([op + 1] * 4))
        end.notify()


@given(st.lists(st.tuples(st.booleans(), OPS, st.booleans()), max_size=120), st.integers(0, 80))
def test_a_torn_stream_is_the_same_stream(said: list[tuple[bool, list[int], bool]], count: int) -> None:
    """Whatever both say, in whatever order: both pages are alike, every bell rings once, nobody sees a breach."""
    ends = Ends()
    if count:
        ends.wire.near.arm("torn", "both", 0, count)
    for here, ops, wait in said:
        ends.speak(ends.here if here else ends.there, ops)
        if wait:
            ends.wire.run(1)
    ends.wire.run()
    assert ends.breaches == []
    assert ends.here.page.data == ends.there.page.data
    spoken = [sum(1 for here, _, _ in said if here == end) for end in (True, False)]
    assert ends.bells[1] <= spoken[0]
    assert ends.bells[0] <= spoken[1]
    assert all(bool(bells) == bool(number) for bells, number in zip(ends.bells[::-1], spoken, strict=True))


@pytest.mark.parametrize("does", ["drop", "duplicate", "reorder"])
@pytest.mark.parametrize("way", ["in", "out"])
def test_a_stream_with_a_gap_is_a_breach(does: Does, way: Direction) -> None:
    ends = Ends()
    ends.wire.near.arm(does, way, 0 if does == "duplicate" else 50 * MS, 1)
    speaker = ends.there if way == "in" else ends.here
    for op in (0, 1, 2):
        ends.speak(speaker, [op])
    ends.wire.run()
    assert ends.breaches[0].startswith("message ")
    assert ends.here.closed
    assert ends.there.closed


def test_an_acknowledgement_is_no_message_of_the_stream() -> None:
    ends = Ends()
    ends.wire.near.arm("drop", "out", 0, 1)
    for _ in range(40):  # enough to be acknowledged by a message of its own
        ends.speak(ends.there, [0])
    ends.wire.run()
    assert ends.wire.noted == []
    assert ends.there._acked > 0


def test_a_single_operation_cannot_be_torn() -> None:
    ends = Ends()
    ends.wire.near.arm("torn", "in", 0, 1)
    ends.speak(ends.there, [1])
    ends.wire.run()
    assert ends.wire.noted == []
    ends.speak(ends.there, [1, 2])
    ends.wire.run()
    assert ends.wire.noted == [("torn", "in")]


def test_links_are_of_one_kind() -> None:
    wire = Wire()
    assert isinstance(wire.near.link, SimLink)
    wire.near.pause(5 * MS)
    assert wire.say(1) == [1]
