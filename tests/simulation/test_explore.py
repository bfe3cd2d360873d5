"""Interleavings of both ends of the page, every one, and what their invariants find (xen-pci.md 7.1, 7.3, 7.5)."""

from __future__ import annotations

import pytest

from dom0_pciback.pciback.profile import make_profile
from kernel_stub.kernel import Kernel
from kernel_stub.sync import Mutex
from xenaer.conform.explore import explore as every_order
from xenaer.simulation.arena import Arena
from xenaer.simulation.duo import Duo
from xenaer.simulation.explore import Lane, Report, explore
from xenaer.simulation.locks import LockOrder, deadlocks
from xenaer.simulation.programs import PROGRAMS, explore_program


@pytest.mark.parametrize("name", PROGRAMS)
def test_hardened_shows_nothing_in_any_order(name: str) -> None:
    report = explore_program(name, make_profile("hardened"))
    assert not report.findings
    assert not report.cut


@pytest.mark.parametrize(
    ("defect", "name", "text"),
    [
        ("D6", "I30", "a config operation has the answer of another one"),
        ("D7", "I2", "lost wake-up: a request of pciback is never served"),
        ("D10", "I9", "answer taken for the wrong phase"),
    ],
)
def test_a_defect_is_found_with_one_deviation(defect: str, name: str, text: str) -> None:
    report = explore_program(name, make_profile("hardened", [defect]))
    assert list(report.findings) == [text]
    assert len(report.findings[text].schedule) == 1
    assert 0 < report.findings[text].count < report.complete


@pytest.mark.parametrize(("name", "text"), [("I9", "wrong phase"), ("I30", "answer of another one")])
def test_linux_shows_what_is_known(name: str, text: str) -> None:
    report = explore_program(name, make_profile("linux"))
    assert [found for found in report.findings if text in found]


# -- the explorer itself -----------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["I1", "I7", "I11", "I16", "I30"])
def test_no_inequivalent_order_is_left_out(name: str) -> None:
    """Brute force without any pruning finds as many orders per party as the explorer has complete ones."""
    seen = set(every_order(lambda choose: _strands(name, choose), limit=50_000))
    assert len(seen) == explore_program(name, make_profile("hardened")).complete


def _strands(name: str, choose: object) -> tuple[tuple[Lane, ...], ...]:
    small, taken = PROGRAMS[name], list[Lane]()
    duo = Duo(make_profile("hardened"), racing=small.racing, timing=small.timing)
    small.program(duo)

    def pick(lanes: list[Lane]) -> int:
        way = choose("", len(lanes)) if len(lanes) > 1 else 0  # type: ignore[operator]
        taken.append(lanes[way])
        return int(way)

    duo.arena.run(pick)
    return tuple(tuple(lane for lane in taken if lane[0] == party) for party in ("dom0", "guest"))


def test_a_bound_and_a_limit_end_the_search() -> None:
    profile = make_profile("hardened")
    assert explore_program("I4", profile, bound=0).complete == 1
    assert explore_program("I4", profile, bound=1).complete < explore_program("I4", profile).complete
    assert explore_program("I4", profile, limit=5).cut


def two_locks(one: str, other: str) -> Report:
    """Two tasks of one party that take two locks."""

    def run(pick: object) -> list[str]:
        arena = Arena()
        kernel, order = arena.kernel("dom0"), LockOrder()
        kernel.locks = order
        locks = {name: Mutex(kernel, name) for name in ("dev_lock of guest 1", "device_lock of 01:00.0")}
        for number, names in enumerate((one, other)):
            kernel.spawn(_take(kernel, [locks[name] for name in names.split(", ")]), f"task {number}")
        arena.run(pick)  # type: ignore[arg-type]
        return [*order.inversions(), *deadlocks([kernel])]

    return explore(run)


async def _take(kernel: Kernel, locks: list[Mutex]) -> None:
    for lock in locks:
        await lock.acquire()
        await kernel.cond_resched()
    for lock in reversed(locks):
        lock.release()


def test_7_1_an_inversion_and_its_deadlock_are_named() -> None:
    right, wrong = "dev_lock of guest 1, device_lock of 01:00.0", "device_lock of 01:00.0, dev_lock of guest 1"
    assert not two_locks(right, right).findings
    found = two_locks(right, wrong).findings
    assert "lock-order inversion: dev_lock taken with device_lock held" in found
    assert "deadlock: task 0 waits for task 1 waits for task 0" in found
