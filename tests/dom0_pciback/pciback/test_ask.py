"""dom0_pciback.pciback.ask: common_process() and H1 to H13, WIRE-6, WIRE-7, X16 to X23, X33, X48, I8 to I18."""

from __future__ import annotations

import pytest

from dom0_pciback.pciback.ask import END_KNOWN
from dom0_pciback.pciback.profile import Situation
from kernel_stub.kernel import MS
from protocol.ers import ChannelState, Phase
from protocol.sharedinfo import AER_OP, PCIB_ACTIVE, PCIB_AERHANDLER
from tests.dom0_pciback.pciback.pair import CARD_1, DEVFN, GRACE, Answering, Hostile, Pair

ED, MM, SR, RS = Phase
NORMAL, FROZEN, PERM = ChannelState


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.fixture
def guest(pair: Pair) -> Hostile:
    return Hostile(pair)


def asks(pair: Pair) -> int:
    """How many questions have gone out to the guest."""
    return len(pair.world.traced("pciback.ask"))


# -- the question --------------------------------------------------------------------------------
@pytest.mark.parametrize(("phase", "cmd"), [(ED, 6), (RS, 7), (MM, 8), (SR, 9)])
def test_4_5_the_request_in_the_page(pair: Pair, guest: Hostile, phase: Phase, cmd: int) -> None:
    pair.asking(phase, FROZEN)
    pair.world.settle(1)
    assert guest.page.aer_op() == (cmd, 2, 0, 0, DEVFN)
    assert guest.page.test_bit(PCIB_ACTIVE)
    assert guest.events == 1
    assert pair.world.traced("pciback.ask") == [("0000:01:00.0", phase, 2)]


def test_wire_3_payload_then_flag_then_bell(pair: Pair, guest: Hostile) -> None:
    pair.asking()
    pair.world.settle(1)
    ((_, _, bell, ops),) = pair.link.sent
    assert bell
    assert [(op[0], op[1]) for op in ops] == [(0, AER_OP), (1, PCIB_ACTIVE)]


def test_errata_3_1_what_dom0_logs(pair: Pair, guest: Hostile) -> None:
    pair.asking(sbdf=CARD_1)
    pair.world.settle(1)
    assert any(line.endswith("xen_pciback: aer_op 6 dom 0 bus 0 devfn 1") for line in pair.world.log)


@pytest.mark.parametrize(("value", "situation"), [(1, Situation.ANSWER_NONE), (4, Situation.ANSWER_DISCONNECT)])
def test_h8_none_and_disconnect(pair: Pair, guest: Hostile, value: int, situation: Situation) -> None:
    task = pair.asking()
    pair.world.settle(1)
    guest.answer(value)
    pair.world.settle(1)
    assert task.result == (situation, value)
    pair.rest()


def test_h9_an_answer_equal_to_the_request_is_taken_and_counted(pair: Pair, guest: Hostile) -> None:
    for value, count in ((ChannelState.FROZEN, 1), (3, 1), (ChannelState.FROZEN, 2)):
        task = pair.asking(ED, FROZEN)
        pair.world.settle(1)
        guest.answer(value)
        pair.world.settle(1)
        assert task.result == (Situation.ANSWER_VALID, value)
        assert pair.events.statistics()["aer_reply_equals_request"] == count


@pytest.mark.parametrize("value", [2, 3, 5])
def test_h8_valid_answers(pair: Pair, guest: Hostile, value: int) -> None:
    task = pair.asking(SR)
    pair.world.settle(1)
    guest.answer(value)
    pair.world.settle(1)
    assert task.result == (Situation.ANSWER_VALID, value)


@pytest.mark.parametrize("value", [0, 6, 7, -1, 0x7FFFFFFF, -(2**31)])
def test_x17_wire_7_any_other_number_is_invalid(pair: Pair, guest: Hostile, value: int) -> None:
    task = pair.asking()
    pair.world.settle(1)
    guest.answer(value)
    pair.world.settle(1)
    assert task.result == (Situation.ANSWER_INVALID, value)


@pytest.mark.parametrize(("state", "value"), [(NORMAL, 1), (FROZEN, 2), (PERM, 3)])
def test_x16_h9_a_flag_cleared_alone_answers_with_the_state(
    pair: Pair, guest: Hostile, state: ChannelState, value: int
) -> None:
    task = pair.asking(ED, state)
    pair.world.settle(1)
    guest.answer(None)
    pair.world.settle(1)
    assert task.result[1] == value


def test_x22_the_backend_does_not_read_the_address_back(pair: Pair, guest: Hostile) -> None:
    task = pair.asking()
    pair.world.settle(1)
    guest.page.write_aer(0xFFFFFFFF, 2, 9, 9, 0xFFFFFFFF)
    guest.answer(2)
    pair.world.settle(1)
    assert task.result == (Situation.ANSWER_VALID, 2)


def test_x21_a_flag_that_the_guest_sets_itself_means_nothing(pair: Pair, guest: Hostile) -> None:
    guest.page.set_bit(PCIB_ACTIVE)
    guest.channel.notify()
    pair.world.settle(10)
    task = pair.asking()
    pair.world.settle(10)
    assert not task.done
    guest.answer(5)
    pair.world.settle(1_000)
    assert task.result == (Situation.ANSWER_VALID, 5)


def test_x18_a_second_answer_does_not_answer_the_next_question(pair: Pair, guest: Hostile) -> None:
    """It was sent before the guest can have seen that question: the acknowledgement in the message says so."""
    first = pair.asking(ED)
    pair.world.settle(1)
    guest.answer(2)
    guest.answer(5)
    (one, two) = pair.world.wire
    pair.world.wire.clear()
    one[0].deliver(one[1])
    pair.dom0.run()
    assert first.result == (Situation.ANSWER_VALID, 2)
    second = pair.asking(MM)
    pair.dom0.run()
    two[0].deliver(two[1])
    pair.world.settle(20)
    assert not second.done, "the second answer is older than the second question"
    guest.answer(3)
    pair.world.settle(2_000)
    assert second.result == (Situation.ANSWER_VALID, 3)


# -- silence -------------------------------------------------------------------------------------
def test_x19_h3_silence_ends_with_the_budget(pair: Pair, guest: Hostile) -> None:
    assert pair.ask() == (Situation.TIMEOUT, 0)
    assert pair.world.clock.time == 300_000 * MS
    assert not pair.channel.page.test_bit(PCIB_ACTIVE)
    assert pair.channel.page.aer_err() == 1
    pair.rest()


def test_h25_x20_one_budget_for_all_phases(pair: Pair, guest: Hostile) -> None:
    budget = pair.budget(1_000)
    for phase in (ED, MM):
        task = pair.asking(phase, budget=budget)
        pair.world.settle(400)
        guest.answer(5)
        pair.world.settle(1)
        assert task.done
    assert budget.left < 250 * MS
    assert pair.ask(SR, budget=budget)[0] == Situation.TIMEOUT
    assert pair.world.clock.time <= 1_010 * MS


def test_h10_after_a_time_out_the_guest_is_not_asked_again(pair: Pair, guest: Hostile) -> None:
    pair.ask(budget=pair.budget(100))
    for phase, sbdf in ((MM, CARD_1), (ED, CARD_1)):
        assert pair.ask(phase, sbdf=sbdf)[0] == Situation.TIMEOUT
    assert asks(pair) == 1
    assert pair.world.clock.time <= 101 * MS


def test_i9_d10_with_the_defect_a_late_answer_acknowledges_the_next_phase() -> None:
    pair = Pair("D10")
    guest = Hostile(pair)
    pair.ask(budget=pair.budget(100))
    second = pair.asking(MM)
    pair.world.settle(1)
    guest.answer(2)
    pair.world.settle(1)
    assert second.result == (Situation.ANSWER_VALID, 2)


def test_a_pause_by_the_operator_is_no_silence(pair: Pair, guest: Hostile) -> None:
    """Errata 9.2 no. 15."""
    task = pair.asking(budget=pair.budget(1_000))
    pair.world.settle(500)
    pair.pdev.set_paused(True)
    pair.world.settle(900)
    assert not task.done
    pair.pdev.set_paused(False)
    pair.world.settle(400)
    assert not task.done
    pair.world.settle(200)
    assert task.result[0] == Situation.TIMEOUT


# -- death, detach, disconnect -------------------------------------------------------------------
def test_h2_i11_the_death_of_the_guest_ends_the_wait_at_once(pair: Pair, guest: Hostile) -> None:
    task = pair.asking()
    pair.world.settle(10)
    pair.pdev.guest_stopped("killed")
    pair.world.settle(1)
    assert task.result == (Situation.GUEST_DEAD, 0)
    assert asks(pair) == 1
    assert pair.ask(MM)[0] == Situation.GUEST_DEAD
    assert asks(pair) == 1


def test_i11_a_guest_that_dies_is_not_waited_for(pair: Pair, guest: Hostile) -> None:
    """Its channel goes first, then the supervisor tells of its death: no reason to kill it once more."""
    task = pair.asking()
    pair.world.settle(10)
    guest.channel.close()
    pair.world.settle(5)
    assert not task.done
    pair.pdev.guest_stopped("dead")
    pair.world.settle(5)
    assert task.result == (Situation.GUEST_DEAD, 0)


def test_i12_x33_a_guest_that_closes_its_end_and_lives_on_has_no_page(pair: Pair, guest: Hostile) -> None:
    task = pair.asking()
    pair.world.settle(10)
    guest.channel.close()
    pair.world.settle(END_KNOWN // MS + 5)
    assert task.result == (Situation.CHANNEL_LOST, 0)
    assert pair.ask() == (Situation.NO_SHARED_PAGE, 0)


@pytest.mark.parametrize("raw", [b"\xc1", b"", b"\x94\x01\x00\xc3\x91\x93\x00\xcd\x02\x3b\xc4\x02ab"])
def test_x48_wrong_bytes_while_it_is_asked_are_a_disconnect(pair: Pair, guest: Hostile, raw: bytes) -> None:
    task = pair.asking()
    pair.world.settle(10)
    pair.front.link.send_raw(raw)
    pair.world.settle(END_KNOWN // MS + 5)
    assert task.result == (Situation.CHANNEL_LOST, 0)
    assert pair.channel.closed


def test_h11_i16_a_detach_ends_the_wait_at_once_and_nothing_is_asked_any_more(pair: Pair, guest: Hostile) -> None:
    task = pair.asking()
    pair.world.settle(10)
    pair.psdev.detaching = True
    pair.events.answered.wake_all()
    pair.world.settle(1)
    assert task.result == (Situation.DETACHED, 0)
    assert not guest.page.test_bit(PCIB_ACTIVE)
    assert pair.ask(MM)[0] == Situation.DETACHED
    assert asks(pair) == 1
    other = pair.ask(sbdf=CARD_1, budget=pair.budget(10))
    assert other[0] == Situation.TIMEOUT, "the other function is still the guest's"


def test_h11_who_waits_for_the_slot_sees_a_detach_too(pair: Pair, guest: Hostile) -> None:
    first, second = pair.asking(), pair.asking(sbdf=CARD_1)
    pair.world.settle(10)
    pair.slots[CARD_1].detaching = True
    guest.answer(2)
    pair.world.settle(10)
    assert first.result == (Situation.ANSWER_VALID, 2)
    assert second.result == (Situation.DETACHED, 0)
    assert asks(pair) == 1


def test_h1_devices_of_one_guest_take_turns(pair: Pair) -> None:
    driver, other = pair.front.bind(DEVFN, Answering()), pair.front.bind(DEVFN + 1, Answering({ED: 3}))
    driver.sleep_ms = other.sleep_ms = 20
    first, second = pair.asking(), pair.asking(sbdf=CARD_1)
    pair.world.settle(30)
    assert first.done
    assert not second.done
    pair.world.settle(30)
    assert (first.result[1], second.result[1]) == (2, 3)
    pair.rest()


# -- before the question -------------------------------------------------------------------------
def test_4_5_a_device_that_nobody_has(pair: Pair) -> None:
    pair.psdev.pdev = None
    assert pair.ask() == (Situation.NOT_ASSIGNED, 0)
    assert asks(pair) == 0


def young(pair: Pair) -> None:
    """The device has just been exported, and the guest has never been connected."""
    pair.psdev.young_since = pair.world.clock.time
    pair.pdev.introduced = False
    pair.pdev.channel = pair.pdev.worker = None


def test_h13_i19_a_guest_that_is_still_connecting_is_not_asked(pair: Pair) -> None:
    young(pair)
    assert pair.ask()[0] == Situation.NO_SHARED_PAGE_YOUNG
    pair.world.settle(GRACE / MS + 1)
    assert pair.ask()[0] == Situation.NO_SHARED_PAGE


def test_a_5_an_hvm_guest_never_connects(pair: Pair) -> None:
    young(pair)
    pair.pdev.pciback.may_connect = lambda domid: False  # type: ignore[method-assign]
    assert pair.ask()[0] == Situation.NO_SHARED_PAGE


def test_a_guest_that_has_disconnected_is_not_young(pair: Pair) -> None:
    pair.pdev.channel = pair.pdev.worker = None
    assert pair.ask()[0] == Situation.NO_SHARED_PAGE


def test_a_7_a_guest_without_aer_code(pair: Pair) -> None:
    pair.pdev.aer_handler = False
    assert pair.ask()[0] == Situation.NO_AER_HANDLER
    assert asks(pair) == 0


def test_x23_the_aer_flag_is_latched_at_connect(pair: Pair, guest: Hostile) -> None:
    guest.page.clear_bit(PCIB_AERHANDLER)
    guest.channel.notify()
    pair.world.settle(1)
    task = pair.asking()
    pair.world.settle(1)
    guest.answer(2)
    pair.world.settle(10)
    assert task.result == (Situation.ANSWER_VALID, 2)


def test_be_23_a_device_without_a_guest_address(pair: Pair) -> None:
    pair.pdev.vbus.remove(pair.psdev.dev.sbdf)
    assert pair.ask()[0] == Situation.NO_GUEST_ADDRESS
    assert asks(pair) == 0


def test_h16_a_guest_that_is_about_to_be_stopped_is_not_asked(pair: Pair) -> None:
    pair.pdev.condemned = True
    assert pair.ask()[0] == Situation.GUEST_DEAD
    assert asks(pair) == 0


def test_every_question_has_its_answer_in_the_journal(pair: Pair) -> None:
    pair.front.bind(DEVFN, Answering())
    pair.recover(ED, MM, RS)
    answers = pair.world.traced("pciback.answer")
    assert [(phase, answer) for _, phase, answer, _ in answers] == [(ED, 2), (MM, 5), (RS, 1)]
    assert asks(pair) == 3
