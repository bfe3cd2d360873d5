"""protocol.channel: credit, coalescing, acknowledgements, violations, and two ends that agree in the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.channel import CREDIT, PENDING_MAX, Channel
from protocol.codec import decode_channel, encode
from protocol.ports import Message
from protocol.sharedinfo import SET, WRITE, SharedPage


class QueueLink:
    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()  # on the way to the peer
        self.sent: list[Message] = []
        self.closed = False
        self.on_message: Callable[[Message], None] = lambda message: None
        self.on_close: Callable[[str], None] = lambda reason: None

    def send(self, message: Message) -> bool:
        assert not self.closed, "nothing is sent on a closed link"
        self.sent.append(message)
        self.queue.append(encode(message))
        return True

    def pause(self, ns: int) -> None: ...

    def close(self) -> None:
        self.closed = True


class End:
    def __init__(self) -> None:
        self.link = QueueLink()
        self.page = SharedPage()
        self.channel = Channel(self.link, self.page)
        self.events = 0
        self.reasons: list[str] = []
        self.channel.on_event = self._event
        self.channel.on_close = self.reasons.append

    def _event(self) -> None:
        self.events += 1

    def hear(self, *message: Any) -> None:
        self.link.on_message(message)


class Pair:
    def __init__(self) -> None:
        self.left, self.right = End(), End()

    def deliver(self, end: End, count: int = 1 << 30) -> int:
        """Hand up to ``count`` messages that are on the way to ``end``."""
        queue = (self.left if end is self.right else self.right).link.queue
        number = 0
        while queue and number < count:
            end.hear(*decode_channel(queue.popleft()))
            number += 1
        return number

    def drain(self) -> None:
        while self.deliver(self.left) + self.deliver(self.right):
            continue


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_one_message_carries_everything_since_the_last(pair: Pair) -> None:
    left, right = pair.left, pair.right
    left.page.write(8, b"abc")
    left.page.set_bit(0)
    left.channel.notify()
    assert left.link.sent == [(1, 0, True, ((WRITE, 8, b"abc"), (SET, 0, b"")))]
    pair.deliver(right)
    assert right.page.data == left.page.data
    assert right.events == 1
    assert right.page.pending == []


def test_a_flush_rings_no_bell(pair: Pair) -> None:
    pair.left.page.set_bit(0)
    pair.left.channel.flush()
    pair.drain()
    assert pair.right.events == 0
    assert pair.right.page.test_bit(0)


def test_an_event_is_seen_after_its_operations(pair: Pair) -> None:
    seen: list[bool] = []
    pair.right.channel.on_event = lambda: seen.append(pair.right.page.test_bit(2))
    pair.left.page.set_bit(2)
    pair.left.channel.notify()
    pair.drain()
    assert seen == [True]


def test_8_1_without_credit_bells_are_one_and_operations_wait(pair: Pair) -> None:
    left, right = pair.left, pair.right
    for number in range(CREDIT + 10):
        left.page.write(8, bytes([number]))
        left.channel.notify()
    assert len(left.link.sent) == CREDIT
    assert len(left.page.pending) == 10
    pair.deliver(right, CREDIT)
    assert right.events == CREDIT
    pair.drain()
    assert right.events == CREDIT + 1
    assert right.page.data == left.page.data
    assert left.page.pending == []


def test_an_acknowledgement_alone_goes_out_at_half_the_credit_and_costs_none(pair: Pair) -> None:
    left, right = pair.left, pair.right
    for _ in range(CREDIT // 2 - 1):
        left.channel.notify()
    pair.deliver(right)
    assert right.link.sent == []
    left.channel.notify()
    pair.deliver(right)
    assert right.link.sent == [(0, CREDIT // 2, False, ())]
    pair.deliver(left)
    assert left.link.sent[-1][0] == CREDIT // 2
    assert left.events == 0


def test_answers_acknowledge_by_themselves(pair: Pair) -> None:
    pair.right.channel.on_event = pair.right.channel.notify
    for _ in range(5 * CREDIT):
        pair.left.channel.notify()
        pair.drain()
    assert len(pair.right.link.sent) == 5 * CREDIT
    assert all(sequence for sequence, *_ in pair.right.link.sent)
    assert pair.left.events == 5 * CREDIT


def test_two_ends_without_credit_start_again(pair: Pair) -> None:
    for end in (pair.left, pair.right):
        for _ in range(2 * CREDIT):
            end.channel.notify()
    pair.drain()
    assert pair.left.events == pair.right.events == CREDIT + 1


def test_a_peer_that_takes_nothing_is_given_up(pair: Pair) -> None:
    for _ in range(CREDIT + PENDING_MAX + 2):
        pair.left.page.set_bit(0)
        pair.left.channel.notify()
    assert pair.left.channel.closed
    assert pair.left.link.closed
    assert pair.left.reasons == ["the peer takes nothing any more"]


@pytest.mark.parametrize(
    "message",
    [
        (1, 1, True, ()),  # acknowledges what was never sent
        (CREDIT + 1, 0, True, ()),  # more than the credit
        (2, 0, True, ()),  # a message is missing
        (1, 0, True, ((WRITE, 570, b"xyz"),)),  # outside the page
        (1, 0, True, ((SET, 32, b""),)),
    ],
)
def test_x48_a_violation_closes_once_and_rings_no_bell(message: Message) -> None:
    end = End()
    end.hear(*message)
    assert end.channel.closed
    assert end.link.closed
    assert len(end.reasons) == 1
    assert end.events == 0


def test_x48_a_message_that_comes_twice_is_a_violation() -> None:
    end = End()
    end.hear(1, 0, True, ())
    end.hear(1, 0, True, ())
    assert end.channel.closed
    assert end.events == 1


def test_x48_a_flood_without_numbers_is_a_violation() -> None:
    """Credit counts messages, so their numbers must be right: else a peer could send without end."""
    end = End()
    for _ in range(CREDIT + 1):
        if not end.channel.closed:
            end.hear(1, 0, True, ())
    assert end.channel.closed


def test_x48_an_acknowledgement_may_not_go_back(pair: Pair) -> None:
    for _ in range(3):
        pair.left.channel.notify()
    pair.left.hear(1, 3, False, ())
    pair.left.hear(2, 1, False, ())
    assert pair.left.channel.closed


def test_a_closed_channel_is_silent(pair: Pair) -> None:
    left = pair.left
    left.channel.close()
    left.channel.close()
    for _ in range(2 * PENDING_MAX):
        left.page.set_bit(0)
        left.channel.notify()
    left.link.on_close("connection lost")
    assert left.link.sent == []
    assert left.reasons == [], "one's own close is no news"


def test_a_lost_link_is_told_once(pair: Pair) -> None:
    left = pair.left
    left.link.on_close("connection lost")
    left.link.on_close("connection lost")
    for _ in range(2 * PENDING_MAX):
        left.page.set_bit(0)
        left.channel.notify()
    assert left.reasons == ["connection lost"]
    assert left.channel.closed


def test_nothing_is_done_after_an_event_that_closes(pair: Pair) -> None:
    right = pair.right
    right.channel.on_event = right.channel.close
    right.page.set_bit(2)
    pair.left.channel.notify()
    pair.left.channel.notify()
    pair.deliver(right, 1)
    assert right.link.sent == []


# -- two ends that keep to who owns what ----------------------------------------------------------
OWN_BITS = {"left": (0, 3, 9), "right": (2, 4, 31)}
OWN_BYTES = {"left": (4, 300), "right": (300, 572)}
_SIDE = st.sampled_from(["left", "right"])
ACTIONS = st.one_of(
    st.tuples(st.just("write"), _SIDE, st.integers(0, 600), st.binary(min_size=1, max_size=6)),
    st.tuples(st.just("set"), _SIDE, st.integers(0, 2)),
    st.tuples(st.just("clear"), _SIDE, st.integers(0, 2)),
    st.tuples(st.just("notify"), _SIDE, st.integers(1, 90)),
    st.tuples(st.just("flush"), _SIDE),
    st.tuples(st.just("deliver"), _SIDE, st.integers(1, 70)),
)


def act(pair: Pair, action: tuple[Any, ...], bells: dict[str, int]) -> None:
    word, side, *rest = action
    end: End = getattr(pair, side)
    if word == "write":
        first, last = OWN_BYTES[side]
        end.page.write(first + rest[0] % (last - first - 6), rest[1])
    elif word in ("set", "clear"):
        getattr(end.page, f"{word}_bit")(OWN_BITS[side][rest[0]])
    elif word == "notify":
        for _ in range(rest[0]):
            end.channel.notify()
            bells[side] += 1
    elif word == "flush":
        end.channel.flush()
    else:
        pair.deliver(end, rest[0])


@given(st.lists(ACTIONS, max_size=60))
@settings(max_examples=300)
def test_any_interleaving_ends_with_equal_pages(actions: list[tuple[Any, ...]]) -> None:
    pair = Pair()
    bells = {"left": 0, "right": 0}
    for action in actions:
        act(pair, action, bells)
        assert len(pair.left.link.queue) <= CREDIT + 2
        assert len(pair.right.link.queue) <= CREDIT + 2
    pair.left.channel.flush()
    pair.right.channel.flush()
    pair.drain()
    assert pair.left.page.data == pair.right.page.data
    assert pair.left.page.pending == pair.right.page.pending == []
    assert not pair.left.reasons + pair.right.reasons
    for side, other in (("left", pair.right), ("right", pair.left)):
        assert min(1, bells[side]) <= other.events <= bells[side], "bells coalesce and are never lost"
