"""Rules FE-* of xen-pci.md 3.2 to 3.5 that no other test is named after."""

from __future__ import annotations

import gc

import pytest

from domu_pcifront.device import GuestPciDev
from protocol.ers import ChannelState, Phase
from protocol.sharedinfo import PCIB_ACTIVE, PCIF_ACTIVE
from tests.dom0_pciback.pciback.host import CARD, Host, make_host
from tests.dom0_pciback.pciback.pair import CARD_1, DEVFN, ID, Answering, Pair

COMP_ABORT = 1 << 15
COMMAND = 4


@pytest.mark.parametrize("crossing", [True, False])
def test_fe_3_d6_a_late_answer_completes_the_next_operation_in_linux_only(crossing: bool) -> None:
    """Nothing in the page tells whose answer it is: A's value is B's result, and B is never executed."""
    pair = Pair()
    world, front = pair.world, pair.front
    front.channel.crossing = crossing
    front.kernel.spawn(front.ops.read(DEVFN, 0, 4), "A")
    front.kernel.run()
    end, raw = world.wire.popleft()
    end.deliver(raw)
    pair.dom0.run()
    late = list(world.wire)
    world.wire.clear()
    world.settle(3_001)
    second = front.kernel.spawn(front.ops.read(DEVFN, COMMAND, 2), "B")
    front.kernel.run()
    world.wire.extendleft(reversed(late))
    world.settle(10)
    command = pair.psdev.conf.read(COMMAND, 2)[1]
    assert command != ID
    assert second.result == (ID if crossing else command)


def test_fe_10_an_operation_and_the_aer_work_do_not_wait_for_each_other() -> None:
    """Two slots: the handler answers while an operation is still without answer, which gets its own later."""
    pair = Pair()
    front, world = pair.front, pair.world
    driver = front.bind(DEVFN, Answering())
    driver.sleep_ms = 50
    asking = pair.asking()
    world.settle(10)
    held: list[bytes | None] = []  # the backend is slow from here on
    pair.link.deliver = held.append  # type: ignore[method-assign,assignment]
    reading = front.kernel.spawn(front.ops.read(DEVFN, 0, 4), "read")
    world.settle(100)
    assert (front.page.test_bit(PCIF_ACTIVE), front.page.test_bit(PCIB_ACTIVE)) == (True, False)
    assert not reading.done
    del pair.link.deliver
    world.wire.extend((pair.link, raw) for raw in held)
    world.settle(10)
    assert (reading.result, asking.result[1]) == (ID, 2)
    pair.rest()


@pytest.mark.parametrize(("crossing", "command"), [(True, "mmio_enabled()"), (False, "error_detected(1)")])
def test_fe_12_the_request_is_read_once_before_the_handler_runs(crossing: bool, command: str) -> None:
    """A request that replaces another one meanwhile is served as what it is, with a device of its own."""
    pair = Pair(*(["D10"] if crossing else []))
    first, second = (pair.front.bind(DEVFN + n, Answering()) for n in (0, 1))
    first.sleep_ms = 50
    pair.asking(budget=pair.budget(20))
    pair.world.settle(30)
    pair.pdev.mute = False
    phase = Phase.MMIO_ENABLED if crossing else Phase.ERROR_DETECTED
    pair.asking(phase, sbdf=CARD_1)
    pair.world.settle(100)
    assert first.calls == ["error_detected(1)"], "not called for the device that came after it"
    assert second.calls == [command]


@pytest.mark.parametrize("profile", ["linux", "hardened"])
def test_fe_21_none_after_resume_is_the_normal_answer(profile: str) -> None:
    host = Host(make_host(profile=profile), real=True)
    host.ctl("dom0", "inject", CARD, 0, COMP_ABORT)
    host.settle(3_000)
    answers = [fields[1:] for fields in host.world.traced("pciback.answer")]
    assert answers[-1] == (Phase.RESUME, 1, "answer-none")
    assert not host.world.traced("pciback.kill")
    assert host.dom0.recoveries == 1


@pytest.mark.parametrize("linux", [True, False])
def test_fe_22_missing_callbacks_crash_in_linux_and_are_skipped_in_hardened(linux: bool) -> None:
    pair = Pair(call_missing=linux)
    pair.front.bind(DEVFN, Answering()).missing = {Phase.MMIO_ENABLED, Phase.SLOT_RESET, Phase.RESUME}
    answers = [pair.ask(phase, budget=pair.budget(100))[1] for phase in Phase]
    assert answers == ([2, 0, 0, 0] if linux else [2, 5, 5, 1])


def test_fe_22_only_the_function_that_is_named_is_asked_and_its_lock_is_not_taken() -> None:
    pair = Pair()
    first, second = (pair.front.bind(DEVFN + n, Answering()) for n in (0, 1))
    pair.recover(*Phase, state=ChannelState.FROZEN)
    assert len(first.calls) == 4
    assert second.calls == []


@pytest.mark.parametrize("profile", ["linux", "hardened"])
def test_fe_23_d14_each_call_leaks_a_reference_in_linux_only(profile: str) -> None:
    """After a recovery the removed device is never freed."""
    host = Host(make_host(profile=profile), real=True)
    host.ctl("dom0", "inject", CARD, 0, COMP_ABORT)
    host.settle(3_000)
    kernel = host.guest.kernel
    host.world.run(host.guest.domu.bus.remove(0), kernel)
    gc.collect()
    left = [thing for thing in gc.get_objects() if isinstance(thing, GuestPciDev) and thing.kernel is kernel]
    assert len(left) == (profile == "linux")
