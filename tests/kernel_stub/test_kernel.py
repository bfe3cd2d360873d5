"""kernel_stub.kernel: order of tasks, timers, sleep, join, oops; nothing happens outside ``run``."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kernel_stub.kernel import ERR, MS, Halted, Kernel, park
from tests.kernel_stub.world import ListJournal, ManualClock, World


class Box:
    def __init__(self, *, panic: bool = True) -> None:
        self.clock = ManualClock()
        self.journal = ListJournal()
        self.kernel = Kernel("k", self.clock, self.journal, panic_on_oops=panic)
        self.seen: list[Any] = []

    async def note(self, *words: Any) -> None:
        for word in words:
            self.seen.append(word)
            await self.kernel.cond_resched()


def test_tasks_run_first_in_first_out_and_switch_at_each_await() -> None:
    box = Box()
    box.kernel.spawn(box.note("a1", "a2"), "a")
    box.kernel.spawn(box.note("b1", "b2"), "b")
    assert box.seen == []
    box.kernel.run()
    assert box.seen == ["a1", "b1", "a2", "b2"]
    assert box.kernel.idle
    assert not box.kernel.tasks


def test_wake_hands_a_value_to_park_and_names_no_wait_any_more() -> None:
    box = Box()

    async def body() -> None:
        box.seen.append(await park())

    task = box.kernel.spawn(body(), "parked")
    box.kernel.run()
    task.waiting_on = "a door"
    assert repr(task) == "<task parked waiting for a door>"
    box.kernel.wake(task, 17)
    assert task.waiting_on is None
    box.kernel.run()
    assert box.seen == [17]
    box.kernel.wake(task, 18)
    assert box.kernel.idle, "a task that has ended cannot be woken"


def test_on_wake_tells_the_world_of_tasks_and_timers() -> None:
    box = Box()
    calls: list[int] = []
    box.kernel.on_wake = lambda: calls.append(1)
    box.kernel.spawn(box.note(), "a")
    box.kernel.call_at(5, lambda: None)
    assert len(calls) == 2
    box.kernel.run()


def test_timers_run_in_order_of_time_then_of_arming_outside_tasks() -> None:
    box = Box()
    kernel = box.kernel
    for when, word in ((20, "late"), (10, "first"), (10, "second")):
        kernel.call_at(when, lambda word=word: box.seen.append((word, kernel.current)))  # type: ignore[misc]
    assert kernel.next_timer() == 10
    kernel.run()
    assert box.seen == []
    box.clock.time = 10
    kernel.run()
    assert box.seen == [("first", None), ("second", None)]
    assert kernel.next_timer() == 20
    box.clock.time = 100
    kernel.run()
    assert box.seen[2:] == [("late", None)]
    assert kernel.next_timer() is None


def test_a_cancelled_timer_neither_runs_nor_shows() -> None:
    box = Box()
    timer = box.kernel.call_at(10, lambda: box.seen.append("no"))
    box.kernel.call_at(30, lambda: box.seen.append("yes"))
    timer.cancel()
    timer.cancel()
    assert box.kernel.next_timer() == 30
    box.clock.time = 40
    box.kernel.run()
    assert box.seen == ["yes"]


@pytest.mark.parametrize("ns", [0, -5])
def test_sleep_of_nothing_is_a_switch_point(ns: int) -> None:
    box = Box()

    async def body() -> None:
        await box.kernel.sleep(ns)
        box.seen.append("slept")

    box.kernel.spawn(body(), "a")
    box.kernel.spawn(box.note("other"), "b")
    box.kernel.run()
    assert box.seen == ["other", "slept"]


def test_sleep_ends_at_its_time_and_not_before() -> None:
    box = Box()

    async def body() -> None:
        await box.kernel.sleep(3 * MS)
        box.seen.append(box.kernel.now())

    task = box.kernel.spawn(body(), "a")
    box.kernel.run()
    assert task.waiting_on == "time"
    box.clock.time = 3 * MS - 1
    box.kernel.run()
    assert box.seen == []
    box.clock.time = 3 * MS
    box.kernel.run()
    assert box.seen == [3 * MS]


def test_a_task_woken_early_is_not_woken_again_by_its_timer() -> None:
    box = Box()

    async def body() -> None:
        await box.kernel.sleep(100)
        box.seen.append("woken")
        box.seen.append(await park())

    task = box.kernel.spawn(body(), "a")
    box.kernel.run()
    box.kernel.wake(task)
    box.kernel.run()
    box.clock.time = 200
    box.kernel.run()
    assert box.seen == ["woken"]


def test_join_returns_the_result_before_and_after_the_end() -> None:
    world = World()
    kernel = world.main

    async def child() -> int:
        await kernel.sleep(MS)
        return 42

    task = kernel.spawn(child(), "child")
    assert world.run(kernel.join(task)) == 42
    assert world.run(kernel.join(task)) == 42
    assert task.done
    assert task.result == 42


def test_join_of_a_task_that_died_returns_none() -> None:
    world = World()
    guest = world.kernel("guest", panic_on_oops=False)
    task = guest.spawn(_boom(guest), "child")
    assert world.run(guest.join(task), guest) is None
    assert isinstance(task.error, ZeroDivisionError)


async def _boom(kernel: Kernel) -> None:
    await kernel.cond_resched()
    raise ZeroDivisionError("division by zero, says the test")


def test_oops_without_panic_ends_the_task_only_and_is_logged() -> None:
    box = Box(panic=False)
    box.kernel.spawn(_boom(box.kernel), "worker")
    box.kernel.spawn(box.note("one", "two", "three"), "other")
    box.kernel.run()
    assert box.seen == ["one", "two", "three"]
    records = [record[1:] for record in box.journal.records]
    assert ("worker", "printk", "", 1, "BUG: ZeroDivisionError: division by zero, says the test") in records
    assert any(r[1] == "printk" and r[4].startswith("RIP: _boom (test_kernel.py:") for r in records)
    oops = ("worker", "kernel.oops", "worker", "ZeroDivisionError", "division by zero, says the test")
    assert oops in [record[:-1] for record in records]
    assert all(re.fullmatch(r"test_kernel\.py:\d+ in _boom", r[-1]) for r in records if r[1] == "kernel.oops")


def test_oops_with_panic_ends_the_party() -> None:
    box = Box(panic=True)
    task = box.kernel.spawn(_boom(box.kernel), "worker")
    with pytest.raises(ZeroDivisionError):
        box.kernel.run()
    assert task.done
    assert box.kernel.current is None


def test_halted_passes_through_as_it_is() -> None:
    box = Box(panic=False)

    async def body() -> None:
        raise Halted("stands still")

    task = box.kernel.spawn(body(), "a")
    with pytest.raises(Halted):
        box.kernel.run()
    assert task.done
    assert not [r for r in box.journal.records if r[2] == "kernel.oops"]


def test_trace_is_written_in_the_name_of_the_running_task_or_of_the_interrupt() -> None:
    box = Box()

    async def body() -> None:
        box.kernel.trace("some.label", "subject", 1, 2)

    box.clock.time = 7
    box.kernel.spawn(body(), "worker")
    box.kernel.run()
    box.kernel.printk(ERR, "hello")
    assert box.journal.records == [(7, "worker", "some.label", "subject", 1, 2), (7, "irq", "printk", "", ERR, "hello")]
