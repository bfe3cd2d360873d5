"""dom0_pciback.pciback.events: what an event means (4.4), late EOI (8.2), X12, X13, I4 to I6, H4."""

from __future__ import annotations

import pytest

from dom0_pciback.pciback.events import DELAY_MAX, JIFFY
from kernel_stub.kernel import MS
from protocol.sharedinfo import PCIF_ACTIVE, PciOp
from tests.dom0_pciback.pciback.pair import DEVFN, Answering, Hostile, Pair


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.fixture
def guest(pair: Pair) -> Hostile:
    return Hostile(pair)


def test_8_2_one_spurious_event_costs_nothing(pair: Pair, guest: Hostile) -> None:
    guest.ring()
    assert pair.events.statistics() == {
        "events": 1, "spurious_events": 1, "jiffies_eoi_delayed": 0, "aer_reply_equals_request": 0,
    }  # fmt: skip
    assert not pair.events.eoi_pending
    guest.request(PciOp.CONF_READ, 0, 0, 0, DEVFN, 0, 4, 0, 0)
    pair.world.settle()
    assert pair.worker.served == 1


def test_8_2_the_delay_doubles_up_to_a_second(pair: Pair, guest: Hostile) -> None:
    delays: list[int] = []
    for _ in range(14):
        begin = pair.world.clock.time
        guest.ring(2)  # the second one is held until the first has its end
        pair.world.settle(1_100)
        delays.append(pair.events.statistics()["jiffies_eoi_delayed"])
        assert pair.world.clock.time - begin <= 1_100 * MS
    steps = [after - before for before, after in zip([0, *delays], delays, strict=False)]
    assert max(steps) <= 2 * DELAY_MAX // JIFFY
    assert steps[-1] == DELAY_MAX // JIFFY, "in the end every event waits for a second"


def test_8_2_delays_are_1_2_4_jiffies(pair: Pair, guest: Hostile) -> None:
    seen = []
    for _ in range(5):
        before = pair.events.jiffies_delayed
        guest.ring()
        seen.append(pair.events.jiffies_delayed - before)
        pair.world.settle(2_000)
    assert seen == [0, 1, 2, 4, 8]


def test_8_2_a_normal_end_forgives(pair: Pair, guest: Hostile) -> None:
    for _ in range(6):
        guest.ring()
        pair.world.settle(1_000)
    guest.request(PciOp.CONF_READ, 0, 0, 0, DEVFN, 0, 4, 0, 0)
    pair.world.settle(1_000)
    before = pair.events.jiffies_delayed
    guest.ring()
    assert pair.events.jiffies_delayed == before


def test_x13_a_storm_is_throttled_and_counted(pair: Pair, guest: Hostile) -> None:
    for _ in range(1_000):
        guest.channel.notify()
        pair.world.settle(1)
    assert pair.events.events < 50
    assert pair.events.statistics()["spurious_events"] == pair.events.events
    assert pair.read(devfn=DEVFN) != 0xFFFFFFFF, "the guest is slow now, and served"


def test_8_1_an_event_during_the_delay_is_delivered_once_afterwards(pair: Pair, guest: Hostile) -> None:
    guest.ring(3)
    count = pair.events.events
    guest.request(PciOp.CONF_READ, 0, 0, 0, DEVFN, 0, 4, 0, 0)
    guest.ring(5)
    assert pair.events.events == count, "masked"
    pair.world.settle(2_000)
    assert pair.events.events == count + 1
    assert pair.worker.served == 1


def test_x12_a_flag_without_a_bell_is_served_at_the_next_event(pair: Pair, guest: Hostile) -> None:
    guest.request(PciOp.CONF_READ, 0, 0, 0, DEVFN, 0, 4, 0, 0, notify=False)
    pair.world.settle()
    assert pair.worker.served == 0
    assert pair.channel.page.test_bit(PCIF_ACTIVE)
    guest.ring()
    assert pair.worker.served == 1


def test_i4_an_answer_and_a_request_in_one_event(pair: Pair, guest: Hostile) -> None:
    task = pair.asking()
    pair.world.settle(1)
    guest.page.write_aer_err(2)
    guest.page.clear_bit(2)
    guest.request(PciOp.CONF_READ, 0, 0, 0, DEVFN, 0, 4, 0, 0)
    pair.world.settle(1)
    assert task.result[1] == 2
    assert pair.worker.served == 1
    assert pair.events.spurious_events == 0
    pair.rest()


def test_i5_an_answer_that_comes_while_an_operation_owes_its_end_is_not_lost(pair: Pair, guest: Hostile) -> None:
    task = pair.asking()
    pair.world.settle(1)
    guest.request(PciOp.CONF_READ, 0, 0, 0, DEVFN, 0, 4, 0, 0)
    guest.answer(5)
    while pair.world.wire:  # both arrive before the worker has run
        end, raw = pair.world.wire.popleft()
        end.deliver(raw)
    pair.world.settle(1)
    assert task.result[1] == 5
    assert pair.worker.served == 1
    pair.rest()


def test_be_3_an_operation_is_served_while_an_answer_is_awaited(pair: Pair) -> None:
    driver = pair.front.bind(DEVFN, Answering())
    driver.sleep_ms = 100
    task = pair.asking()
    pair.world.settle(10)
    begin = pair.world.clock.time
    assert pair.read() != 0xFFFFFFFF
    assert pair.world.clock.time - begin < MS
    assert not task.done
    pair.world.settle(200)
    assert task.result[1] == 2
    pair.rest()


def test_h4_after_a_time_out_a_late_answer_gets_its_end(pair: Pair, guest: Hostile) -> None:
    """I10, D4: nothing stays masked, operations are served at once."""
    assert pair.ask(budget=pair.budget(1_000))[0] == "timeout"
    assert not pair.events.op_pending
    guest.answer(2)
    pair.world.settle(10)
    assert not pair.events.eoi_pending
    guest.request(PciOp.CONF_READ, 0, 0, 0, DEVFN, 0, 4, 0, 0)
    pair.world.settle(1)
    assert pair.worker.served == 1


def test_x18_an_answer_when_nothing_was_asked_is_a_spurious_event(pair: Pair, guest: Hostile) -> None:
    guest.answer(3)
    pair.world.settle()
    assert pair.events.spurious_events == 1
    pair.rest()
