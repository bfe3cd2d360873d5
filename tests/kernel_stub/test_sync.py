"""kernel_stub.sync: wait queues, futures, mutexes, work items."""

from __future__ import annotations

from typing import Any

import pytest

from kernel_stub.kernel import MS, Kernel
from kernel_stub.sync import Future, Mutex, NoLock, ReadersLock, RwSem, StealableMutex, WaitQueue, Work
from tests.kernel_stub.world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def kernel(world: World) -> Kernel:
    return world.main


# -- WaitQueue ---------------------------------------------------------------------------------
def test_wake_all_wakes_everybody_in_order_of_arrival(world: World, kernel: Kernel) -> None:
    queue, seen = WaitQueue(kernel, "q"), []

    async def waiter(name: str) -> None:
        seen.append((name, await queue.wait()))

    tasks = [kernel.spawn(waiter(name), name) for name in "abc"]
    world.settle()
    assert [task.waiting_on for task in tasks] == ["q"] * 3
    queue.wake_all()
    world.settle()
    assert seen == [("a", True), ("b", True), ("c", True)]
    assert queue.waiters == []


def test_wait_ends_at_its_deadline_with_false(world: World, kernel: Kernel) -> None:
    queue = WaitQueue(kernel, "q")
    assert world.run(queue.wait(5 * MS)) is False
    assert world.clock.time == 5 * MS
    assert queue.waiters == []


def test_a_wake_before_the_deadline_disarms_it(world: World, kernel: Kernel) -> None:
    queue = WaitQueue(kernel, "q")
    seen: list[int] = []

    async def waiter() -> None:
        seen.append(await queue.wait(5 * MS))
        await kernel.sleep(20 * MS)
        seen.append(kernel.now())

    kernel.spawn(waiter(), "w")
    world.settle(1)
    queue.wake_all()
    world.settle(100)
    assert seen == [True, 21 * MS], "the old deadline must not cut the sleep short"


def test_wake_and_deadline_at_the_same_moment_wake_once(world: World, kernel: Kernel) -> None:
    queue = WaitQueue(kernel, "q")
    seen: list[int] = []
    kernel.call_at(5 * MS, queue.wake_all)

    async def waiter() -> None:
        seen.append(await queue.wait(5 * MS))
        await kernel.sleep(MS)
        seen.append(kernel.now())

    kernel.spawn(waiter(), "w")
    world.settle(100)
    assert seen == [True, 6 * MS]


def test_wait_until_tests_its_condition_at_each_wake(world: World, kernel: Kernel) -> None:
    queue, state = WaitQueue(kernel, "q"), {"ready": False}
    task = kernel.spawn(queue.wait_until(lambda: state["ready"], 10 * MS), "w")
    world.settle(1)
    queue.wake_all()
    world.settle(1)
    assert not task.done
    state["ready"] = True
    queue.wake_all()
    world.settle()
    assert task.result is True
    assert world.run(queue.wait_until(lambda: True)) is True


def test_wait_until_gives_the_last_word_to_the_condition(world: World, kernel: Kernel) -> None:
    queue = WaitQueue(kernel, "q")
    assert world.run(queue.wait_until(lambda: False, 3 * MS)) is False
    assert world.run(queue.wait_until(lambda: world.clock.time >= 6 * MS, 6 * MS)) is True


# -- Future ------------------------------------------------------------------------------------
def test_future_gives_its_first_value_to_all_waiters(world: World, kernel: Kernel) -> None:
    future, seen = Future(kernel, "f"), []

    async def waiter() -> None:
        seen.append((await future.wait(), future.value))

    kernel.spawn(waiter(), "a")
    kernel.spawn(waiter(), "b")
    world.settle()
    future.set("first")
    future.set("second")
    world.settle()
    assert seen == [(True, "first")] * 2
    assert world.run(future.wait()) is True


def test_future_that_nobody_sets_times_out(world: World, kernel: Kernel) -> None:
    future = Future(kernel, "f")
    assert world.run(future.wait(2 * MS)) is False
    assert not future.done


# -- Mutex -------------------------------------------------------------------------------------
def test_mutex_is_handed_over_first_come_first_served(world: World, kernel: Kernel) -> None:
    lock, seen = Mutex(kernel, "lock"), []

    async def holder(name: str) -> None:
        async with lock:
            seen.append(f"{name}+")
            await kernel.sleep(MS)
            seen.append(f"{name}-")

    tasks = [kernel.spawn(holder(name), name) for name in "abc"]
    kernel.run()
    assert lock.owner is tasks[0]
    assert tasks[1].waiting_on == "lock held by a"
    world.settle(10)
    assert seen == ["a+", "a-", "b+", "b-", "c+", "c-"]
    assert lock.owner is None


def test_mutex_cannot_be_overtaken_between_release_and_hand_over(world: World, kernel: Kernel) -> None:
    lock, seen = Mutex(kernel, "lock"), []

    async def holder(name: str, times: int) -> None:
        for _ in range(times):
            await lock.acquire()
            seen.append(name)
            await kernel.cond_resched()
            lock.release()

    kernel.spawn(holder("greedy", 3), "greedy")
    kernel.spawn(holder("modest", 1), "modest")
    world.settle()
    assert seen == ["greedy", "modest", "greedy", "greedy"]


# -- StealableMutex (linux-aer-errata.md 6.2) ----------------------------------------------------
class Struggle:
    """``greedy`` takes the lock three times, asleep while it holds it; ``modest`` wants it once."""

    def __init__(self, world: World, kernel: Kernel, *, realtime: str = "") -> None:
        self.lock = StealableMutex(kernel, "lock")
        self.kernel = kernel
        self.seen: list[str] = []
        kernel.spawn(self.take("greedy", 3), "greedy", realtime=realtime == "greedy")
        kernel.spawn(self.take("modest", 1), "modest", realtime=realtime == "modest")
        world.settle(100)

    async def take(self, name: str, times: int) -> None:
        for _ in range(times):
            async with self.lock:
                self.seen.append(f"{name}+")
                await self.kernel.sleep(MS)
            self.seen.append(f"{name}-")


def test_a_released_lock_is_stolen_once_and_then_promised(world: World, kernel: Kernel) -> None:
    struggle = Struggle(world, kernel)
    assert struggle.seen == ["greedy+", "greedy-", "greedy+", "greedy-", "modest+", "modest-", "greedy+", "greedy-"]
    assert struggle.lock.owner is None
    assert not struggle.lock.waiters


def test_a_waiter_on_another_processor_may_get_it_at_once(world: World, kernel: Kernel) -> None:
    kernel.choose = lambda label, ways: int("gets lock at once" in label)
    assert Struggle(world, kernel).seen[:4] == ["greedy+", "greedy-", "modest+", "modest-"]


def test_an_interrupt_thread_runs_before_the_task_that_woke_it(world: World, kernel: Kernel) -> None:
    seen = Struggle(world, kernel, realtime="modest").seen
    assert seen[:3] == ["greedy+", "modest+", "greedy-"]


def test_a_lock_is_not_given_to_a_task_that_is_gone(world: World, kernel: Kernel) -> None:
    lock = StealableMutex(kernel, "lock")
    seen: list[str] = []

    async def hold(name: str, ms: int) -> None:
        async with lock:
            seen.append(name)
            await kernel.sleep(ms * MS)

    kernel.spawn(hold("first", 2), "first")
    dead = kernel.spawn(hold("dead", 1), "dead")
    kernel.spawn(hold("third", 1), "third")
    kernel.run()
    dead.done = True
    world.settle(50)
    assert seen == ["first", "third"]


def test_readers_are_waited_for_and_never_wait(world: World, kernel: Kernel) -> None:
    lock, seen = ReadersLock(kernel, "bus_sem"), []
    lock.down_read()
    lock.down_read()

    async def write() -> None:
        await lock.down_write()
        seen.append("written")

    kernel.spawn(write(), "writer")
    kernel.run()
    lock.up_read()
    kernel.run()
    assert not seen
    lock.up_read()
    kernel.run()
    assert seen == ["written"]


def test_double_acquisition_is_found_at_once(world: World, kernel: Kernel) -> None:
    lock = Mutex(kernel, "dev_lock")

    async def twice() -> None:
        async with lock, lock:
            pass

    with pytest.raises(AssertionError, match="takes dev_lock twice"):
        world.run(twice())
    assert lock.owner is None


def test_release_of_a_lock_that_is_free_is_found_at_once(kernel: Kernel) -> None:
    with pytest.raises(AssertionError, match="dev_lock is not held"):
        Mutex(kernel, "dev_lock").release()


def test_release_by_another_task_is_found_at_once(world: World, kernel: Kernel) -> None:
    lock = Mutex(kernel, "dev_lock")
    kernel.spawn(lock.acquire(), "owner")
    world.settle()

    async def thief() -> None:
        lock.release()

    with pytest.raises(AssertionError, match="dev_lock"):
        world.run(thief())


def test_a_lock_is_released_when_its_holder_fails(world: World, kernel: Kernel) -> None:
    lock = Mutex(kernel, "lock")

    async def fails() -> None:
        async with lock:
            raise ValueError

    with pytest.raises(ValueError):
        world.run(fails())
    assert lock.owner is None


def test_a_dead_waiter_does_not_get_the_lock(world: World) -> None:
    guest = world.kernel("guest", panic_on_oops=False)
    lock = Mutex(guest, "lock")

    async def holder() -> None:
        async with lock:
            await guest.sleep(MS)

    guest.spawn(holder(), "a")
    dead = guest.spawn(lock.acquire(), "dead")
    last = guest.spawn(lock.acquire(), "last")
    guest.run()
    dead.done = True
    world.settle(5)
    assert lock.owner is last


# -- Work --------------------------------------------------------------------------------------
class Counter:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.runs: list[Any] = []
        self.work = Work(kernel, "work", self.function)

    async def function(self) -> None:
        self.runs.append(self.kernel.now())
        await self.kernel.sleep(MS)


def test_work_queued_many_times_before_it_runs_runs_once(world: World, kernel: Kernel) -> None:
    counter = Counter(kernel)
    counter.work.queue()
    assert counter.work.pending
    world.settle(0.5)
    assert len(counter.runs) == 1
    world.settle(5)
    assert len(counter.runs) == 1
    assert not counter.work.pending


def test_work_queued_while_it_runs_runs_once_more(world: World, kernel: Kernel) -> None:
    counter = Counter(kernel)
    counter.work.queue()
    world.settle(0.5)
    for _ in range(3):
        counter.work.queue()
    world.settle(10)
    assert counter.runs == [0, MS]


def test_work_that_queues_itself_lets_other_tasks_run_between(world: World, kernel: Kernel) -> None:
    """A work item that is queued again goes to the end of its queue (X14, X41: fairness rests on it)."""
    seen: list[str] = []

    async def function() -> None:
        seen.append("work")
        if len(seen) < 6:
            work.queue()

    async def other() -> None:
        seen.append("other")

    work = Work(kernel, "work", function)
    work.queue()
    kernel.spawn(other(), "other")
    world.settle()
    assert seen[:3] == ["work", "other", "work"]


def test_work_that_oopses_can_be_queued_again(world: World) -> None:
    guest = world.kernel("guest", panic_on_oops=False)

    async def function() -> None:
        raise RuntimeError("bad handler")

    work = Work(guest, "work", function)
    work.queue()
    world.settle()
    assert not work.pending
    work.queue()
    world.settle()
    assert len(world.traced("kernel.oops")) == 2


# -- what the profile linux needs ------------------------------------------------------------------
def test_a_queue_that_is_initialised_anew_wakes_its_old_sleepers_at_their_deadline_only(
    world: World, kernel: Kernel
) -> None:
    queue = WaitQueue(kernel, "reply")
    woken: list[tuple[str, int, bool]] = []

    async def sleeper(name: str) -> None:
        result = await queue.wait(100 * MS)
        woken.append((name, kernel.now(), result))

    kernel.spawn(sleeper("old"), "old")
    world.settle()
    queue.reinitialise()
    kernel.spawn(sleeper("new"), "new")
    world.settle()
    queue.wake_all()
    world.settle()
    assert woken == [("new", 0, True)]
    world.settle(200)
    assert woken[1:] == [("old", 100 * MS, False)]


def conversation(kernel: Kernel, lock: RwSem | StealableMutex, name: str, order: list[str]) -> None:
    """Three phases under one lock, the first of them longer, as an interrupt thread holds them."""

    async def talk() -> None:
        for phase in ("6", "8", "7"):
            async with lock:
                order.append(f"{phase}({name})")
                await kernel.sleep(500 * MS if phase == "6" else MS)

    kernel.spawn(talk(), name, realtime=True)


def test_ord_2_phases_of_two_interrupt_threads_alternate(world: World, kernel: Kernel) -> None:
    """As recorded in two-devices-both."""
    order: list[str] = []
    lock = RwSem(kernel, "pcistub_sem")
    conversation(kernel, lock, "a", order)
    conversation(kernel, lock, "b", order)
    world.settle(5_000)
    assert order == ["6(a)", "6(b)", "8(b)", "8(a)", "7(a)", "7(b)"]


def test_a_mutex_promises_an_interrupt_thread_nothing_before_it_was_woken_in_vain(world: World, kernel: Kernel) -> None:
    order: list[str] = []
    lock = StealableMutex(kernel, "device_lock")
    conversation(kernel, lock, "a", order)
    conversation(kernel, lock, "b", order)
    world.settle(5_000)
    assert order[:3] == ["6(a)", "8(a)", "6(b)"]


def test_no_lock_lets_everybody_in(world: World, kernel: Kernel) -> None:
    inside: list[str] = []

    async def enter(name: str) -> None:
        async with lock:
            inside.append(name)
            await kernel.sleep(MS)

    lock = NoLock()
    for name in ("a", "b"):
        kernel.spawn(enter(name), name)
    world.settle()
    assert inside == ["a", "b"]


def test_a_task_that_dies_keeps_its_locks_and_nobody_else_dies(world: World, kernel: Kernel) -> None:
    lock = Mutex(kernel, "device_lock")

    async def fail() -> None:
        async with lock:
            await kernel.die("unable to handle page fault")

    async def wait() -> None:
        async with lock:
            raise AssertionError("the lock was free")

    dead = kernel.spawn(fail(), "irq")
    waiter = kernel.spawn(wait(), "waiter")
    world.settle(1_000)
    assert (dead.done, waiter.done) == (False, False)
    assert str(dead) == "<task irq waiting for nothing, it has died>"
    assert str(waiter) == "<task waiter waiting for device_lock held by irq>"
