"""domu_pcifront.aer_service against the real backend: 3.4, 3.5 (errata 3.2), H12, A.2 to A.4."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.ers import ChannelState, Phase
from protocol.sharedinfo import PCIB_ACTIVE
from tests.dom0_pciback.pciback.pair import CARD_1, DEVFN, Answering, Pair

ED, MM, SR, RS = Phase
ALL = (ED, MM, SR, RS)


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.fixture
def driver(pair: Pair) -> Answering:
    return pair.front.bind(DEVFN, Answering())


def guest_log(pair: Pair) -> list[str]:
    return [line for line in pair.world.log if line.startswith(("pcifront", "answering"))]


def test_a_2_non_fatal_error_that_the_driver_recovers_from(pair: Pair, driver: Answering) -> None:
    assert pair.recover(ED, MM, RS) == [2, 5, 1]
    assert driver.calls == ["error_detected(1)", "mmio_enabled()", "resume()"]
    pair.rest()


def test_a_3_fatal_error_with_reset(pair: Pair, driver: Answering) -> None:
    driver.votes[ED] = 3
    assert pair.recover(ED, SR, RS, state=ChannelState.FROZEN) == [3, 5, 1]
    assert driver.calls == ["error_detected(2)", "slot_reset()", "resume()"]
    pair.rest()


def test_be_13_later_phases_carry_state_normal_in_the_order_6_8_9_7(pair: Pair, driver: Answering) -> None:
    seen: list[Any] = []

    async def look() -> None:
        seen.append(pair.front.page.aer_op())

    driver.inside = look
    pair.recover(*ALL, state=ChannelState.FROZEN)
    assert [op[:2] for op in seen] == [(6, 2), (8, 1), (9, 1), (7, 1)]
    assert {op[2:] for op in seen} == {(0, 0, DEVFN)}


def test_errata_3_2_what_the_guest_logs(pair: Pair, driver: Answering) -> None:
    pair.ask(ED, ChannelState.FROZEN)
    assert guest_log(pair)[:4] == [
        "pcifront pci-0: schedule aer frontend job",
        "pcifront pci-0: pcifront service aer bus 0 devfn 0",
        "pcifront pci-0: pcifront AER process: cmd 6 (bus:0, devfn0)",
        "answering 0000:00:00.0: trying to call AER service",
    ]


@pytest.mark.parametrize("phase", ALL)
def test_3_5_no_device_or_no_driver_answers_none(pair: Pair, phase: Phase) -> None:
    assert pair.ask(phase)[1] == 1
    assert "pcifront pci-0: device or AER driver is NULL" in pair.world.log


@pytest.mark.parametrize("phase", ALL)
def test_fe_20_a_driver_without_handlers_answers_none(pair: Pair, driver: Answering, phase: Phase) -> None:
    driver.no_err_handler = True
    assert pair.ask(phase)[1] == 1
    assert driver.calls == []
    assert not any("trying to call" in line for line in pair.world.log)


@pytest.mark.parametrize("phase", ALL)
def test_3_5_without_error_detected_every_phase_answers_none(pair: Pair, driver: Answering, phase: Phase) -> None:
    driver.missing = {ED}
    assert pair.ask(phase)[1] == 1
    assert driver.calls == []


@pytest.mark.parametrize(("phase", "answer"), [(MM, 5), (SR, 5), (RS, 1)])
def test_h12_a_missing_callback_is_skipped_as_the_native_core_does(
    pair: Pair, driver: Answering, phase: Phase, answer: int
) -> None:
    driver.missing = {phase}
    assert pair.ask(phase)[1] == answer
    assert driver.calls == []
    assert pair.ask(ED)[1] == 2, "the service works on"


@pytest.mark.parametrize("phase", [MM, SR, RS])
def test_d14_a_missing_callback_kills_the_worker_for_good(phase: Phase) -> None:
    pair = Pair(call_missing=True)
    pair.front.bind(DEVFN, Answering()).missing = {phase}
    assert pair.ask(phase, budget=pair.budget(1_000))[0] == "timeout"
    pair.pdev.mute = False
    assert pair.ask(ED, budget=pair.budget(1_000))[0] == "timeout"
    assert len(pair.world.traced("kernel.oops")) == 1


@pytest.mark.parametrize("cmd", [0, 5, 10, 0x80000000])
def test_3_5_an_unknown_command_answers_none(pair: Pair, driver: Answering, cmd: int) -> None:
    page = pair.channel.page
    page.write_aer(cmd, 1, 0, 0, DEVFN)
    page.set_bit(PCIB_ACTIVE)
    pair.channel.notify()
    pair.world.settle()
    assert not page.test_bit(PCIB_ACTIVE)
    assert page.aer_err() == 1
    assert driver.calls == []
    assert "pcifront pci-0: bad request in aer recovery operation!" in pair.world.log


@pytest.mark.parametrize("vote", [0, 6, 99, -1, 0x7FFFFFFF])
def test_fe_25_answers_are_forwarded_unchecked(pair: Pair, driver: Answering, vote: int) -> None:
    driver.votes[ED] = vote
    assert pair.ask(ED) == ("answer-invalid", vote)


@pytest.mark.parametrize("vote", ["RECOVERED", None, True, 2**40])
def test_what_is_no_number_is_no_vote(pair: Pair, driver: Answering, vote: Any) -> None:
    driver.votes[ED] = vote
    assert pair.ask(ED)[1] == 0
    pair.rest()


def test_an_exception_in_a_handler_is_an_oops_and_silence(pair: Pair, driver: Answering) -> None:
    """S11, errata 9.2 no. 7: a guest whose worker oopses is a mute guest; its other parts live on."""
    driver.votes[ED] = RuntimeError("bad driver")
    assert pair.ask(ED, budget=pair.budget(1_000))[0] == "timeout"
    assert len(pair.world.traced("kernel.oops")) == 1
    assert pair.read() != 0xFFFFFFFF


def test_i7_a_request_that_comes_between_the_answer_and_the_end_is_served(pair: Pair, driver: Answering) -> None:
    """The next question is in the page before the work item has ended: it is looked for again."""
    pair.front.service.channel = _Quick(pair)  # type: ignore[assignment]
    pair.asking(ED)
    pair.world.settle(1)
    assert driver.calls == ["error_detected(1)", "mmio_enabled()"]


class _Quick:
    """The channel of the service to a backend that has its next question there before ``notify`` returns."""

    closed = False

    def __init__(self, pair: Pair) -> None:
        self.page = pair.front.page
        self._real = pair.front.channel
        self._asked = False

    def notify(self) -> None:
        self._real.notify()
        if not self._asked:
            self._asked = True
            self.page.apply(((0, 552, bytes([8, 0, 0, 0, 1]) + bytes(15)), (1, PCIB_ACTIVE, b"")))


def test_fe_24_one_work_item_for_all_devices_of_a_guest(pair: Pair, driver: Answering) -> None:
    other = pair.front.bind(DEVFN + 1, Answering())
    driver.sleep_ms = 50
    first, second = pair.asking(ED), pair.asking(ED, sbdf=CARD_1)
    pair.world.settle(40)
    assert driver.calls
    assert not other.calls
    pair.world.settle(40)
    assert first.done
    assert second.done
    assert other.calls == ["error_detected(1)"]


def test_an_event_without_a_request_starts_nothing(pair: Pair, driver: Answering) -> None:
    pair.channel.notify()
    pair.world.settle()
    assert driver.calls == []
    assert pair.front.service.served == 0


def test_d10_no_answer_to_a_request_that_was_given_up(pair: Pair, driver: Answering) -> None:
    """The backend has cleared the flag meanwhile: the answer of the slow handler is thrown away."""
    driver.sleep_ms = 2_000
    assert pair.ask(ED, budget=pair.budget(1_000))[0] == "timeout"
    before = len(pair.front.link.sent)
    pair.world.settle(5_000)
    assert len(pair.front.link.sent) == before
    pair.rest()


def test_h11_the_answer_of_a_withdrawn_request_is_not_taken_for_another(pair: Pair, driver: Answering) -> None:
    """Function 0 is detached while its handler runs; function 1 is asked next and must answer for itself."""
    other = pair.front.bind(DEVFN + 1, Answering({ED: 3}))
    driver.sleep_ms = 50
    first = pair.asking(ED)
    pair.world.settle(10)
    second = pair.asking(ED, sbdf=CARD_1)
    pair.world.settle(10)
    pair.psdev.detaching = True
    pair.events.answered.wake_all()
    pair.world.settle(500)
    assert first.result[0] == "detached"
    assert other.calls == ["error_detected(1)"]
    assert second.result == ("answer-valid", 3)


def test_the_journal_is_safe_before_the_guests_own_code_runs(pair: Pair, driver: Answering) -> None:
    before = pair.world.journal.flushed
    pair.ask(ED)
    assert pair.world.journal.flushed > before


def test_a_channel_that_closes_in_the_middle_hurts_nobody(pair: Pair, driver: Answering) -> None:
    driver.sleep_ms = 20
    pair.asking(ED)
    pair.world.settle(5)
    pair.link.close()
    pair.world.settle(100)
    assert driver.calls == ["error_detected(1)"]
    assert not pair.world.traced("kernel.oops")
