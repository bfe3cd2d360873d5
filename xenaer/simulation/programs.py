"""Interleavings of xen-pci.md 7.5 that concern the shared page alone, as programs of ``duo``."""

from __future__ import annotations

from typing import Any, NamedTuple

from dom0_pciback.pciback.profile import Profile
from kernel_stub.kernel import MS
from protocol.topology import TimingSpec
from xenaer.simulation.arena import NOBODY
from xenaer.simulation.duo import ED, MM, RS, Duo, Program, play
from xenaer.simulation.explore import UNBOUNDED, Report, explore

GUEST_RACES, DOM0_RACES = frozenset({"guest"}), frozenset({"dom0"})
SHORT_NS = 10 * MS
SHORT = TimingSpec(config_timeout_ms=2, config_poll_ms=3)


def request_while_polling(duo: Duo) -> None:
    """I1, and I2 when the timers race."""
    duo.front_task(duo.read(0x10), "config read")
    duo.back_task(duo.ask(0, ED), "recovery")


def handler_reads(duo: Duo) -> None:
    """I3."""
    duo.inside = 0x20
    duo.back_task(duo.ask(0, ED), "recovery")


def answer_and_request(duo: Duo) -> None:
    """I4, I5: requests and answers meet in one event."""
    duo.front_task(duo.read(0x10, 0x14), "config reads")
    duo.back_task(duo.ask(0, ED, RS), "recovery")


def two_devices(duo: Duo) -> None:
    """I7: the next request is posted as soon as the last one is answered."""
    duo.back_task(duo.ask(0, ED), "recovery of 0")
    duo.back_task(duo.ask(1, ED), "recovery of 1")


def late_answer(duo: Duo) -> None:
    """I9, I10: the time is short, and so a guest that answers may be too late."""
    duo.slow_ns = SHORT_NS
    duo.back_task(duo.ask(0, ED, MM, budget_ns=SHORT_NS), "recovery")


def the_guest_stops(duo: Duo) -> None:
    """I11: at any moment of a question the guest is stopped."""
    duo.back_task(duo.ask(0, ED, MM), "recovery")
    duo.back_task(_stop(duo), "domain_stopped")


def a_detach(duo: Duo) -> None:
    """I13, I16: at any moment of a question the device is being detached."""
    duo.back_task(duo.ask(0, ED, MM), "recovery")
    duo.back_task(_detach(duo), "detach")


def late_config_answer(duo: Duo) -> None:
    """I30: an operation times out, and the next one is posted while its answer is under way."""
    duo.front_task(duo.read(0x10, 0x14), "config reads")


async def _stop(duo: Duo) -> None:
    duo.pdev.guest_stopped("test")


async def _detach(duo: Duo) -> None:
    psdev = next(iter(duo.psdevs.values()))
    psdev.detaching = True
    assert duo.pdev.worker is not None
    duo.pdev.worker.events.answered.wake_all()


class Small(NamedTuple):
    """A row: timers of the ``racing`` parties may be due at any moment."""

    program: Program
    racing: frozenset[str] = NOBODY
    timing: TimingSpec = TimingSpec()


# fmt: off
PROGRAMS: dict[str, Small] = {
    "I1":  Small(request_while_polling),
    "I2":  Small(request_while_polling, GUEST_RACES, SHORT),
    "I3":  Small(handler_reads),
    "I4":  Small(answer_and_request),
    "I5":  Small(answer_and_request),
    "I7":  Small(two_devices),
    "I9":  Small(late_answer, DOM0_RACES),
    "I10": Small(late_answer, DOM0_RACES),
    "I11": Small(the_guest_stops),
    "I13": Small(a_detach),
    "I16": Small(a_detach),
    "I30": Small(late_config_answer, GUEST_RACES, SHORT),
}
# fmt: on


def explore_program(name: str, profile: Profile, bound: int = UNBOUNDED, limit: int = UNBOUNDED) -> Report:
    """All orders of a program, or those with up to ``bound`` deviations."""
    small = PROGRAMS[name]
    options: dict[str, Any] = {"racing": small.racing, "timing": small.timing}
    return explore(lambda pick: play(small.program, profile, pick, **options), bound, limit)
