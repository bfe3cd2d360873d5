"""Modelled synchronisation: wait queues, completions, mutexes, work items.

Each object belongs to one kernel and is used by its tasks only. Waiters are served in order of arrival;
locks know their owner, so that a double acquisition or a wrong release is found at once (linux-aer.md 4.9,
xen-pci.md 7.1 say which locks exist and in which order they are taken).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from kernel_stub.kernel import Kernel, Task, park


class WaitQueue:
    """``wait_queue_head_t``: tasks sleep until ``wake_all``; the condition is the caller's business."""

    __slots__ = ("kernel", "lost", "name", "waiters")

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.waiters: list[Task] = []
        self.lost: list[Task] = []  # sleep on, and are not on the list any more

    def reinitialise(self) -> None:
        """``init_waitqueue_head`` while tasks sleep here: no wake-up reaches them, only their deadline does."""
        self.lost += self.waiters
        self.waiters = []

    def wake_all(self) -> None:
        """Make every waiter ready; they test their conditions again."""
        if self.waiters:
            waiters, self.waiters = self.waiters, []
            for task in waiters:
                self.kernel.wake(task, True)

    async def wait(self, deadline: int | None = None) -> bool:
        """Sleep until woken (True) or until ``deadline`` in ns (False)."""
        kernel = self.kernel
        task = kernel.current
        assert task is not None
        task.waiting_on = self.name
        self.waiters.append(task)
        if deadline is not None:
            task.timer = kernel.call_at(deadline, lambda: self._expire(task))
        return bool(await park())

    def _expire(self, task: Task) -> None:
        for sleepers in (self.waiters, self.lost):
            if task in sleepers:
                sleepers.remove(task)
                self.kernel.wake(task, False)

    async def wait_until(self, condition: Callable[[], bool], deadline: int | None = None) -> bool:
        """``wait_event_timeout``: sleep until ``condition()`` is true; False if ``deadline`` came first."""
        while not condition():
            if not await self.wait(deadline):
                return condition()
        return True


class Future:
    """One value that one or more tasks wait for (``struct completion`` with a result)."""

    __slots__ = ("_queue", "done", "value")

    def __init__(self, kernel: Kernel, name: str) -> None:
        self._queue = WaitQueue(kernel, name)
        self.done = False
        self.value: Any = None

    def set(self, value: Any = None) -> None:
        """Give the value; the first one counts."""
        if not self.done:
            self.done, self.value = True, value
            self._queue.wake_all()

    async def wait(self, deadline: int | None = None) -> bool:
        """True once the value is there; False if ``deadline`` (ns) came first."""
        return self.done or await self._queue.wait_until(lambda: self.done, deadline)


class Mutex:
    """A sleeping lock with an owner. ``async with lock:`` or ``acquire`` / ``release``."""

    __slots__ = ("kernel", "name", "owner", "waiters")

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.owner: Task | None = None
        self.waiters: deque[Task] = deque()

    async def acquire(self) -> None:
        """Wait for the lock; first come, first served. Asserts that the task does not hold it already."""
        task = self.kernel.current
        assert task is not None
        assert self.owner is not task, f"{task} takes {self.name} twice"
        if self.owner is None:
            self.owner = task
        else:
            if self.kernel.locks is not None:
                self.kernel.locks.waiting(task, self.name)
            await self._wait(task)
        if self.kernel.locks is not None:
            self.kernel.locks.taken(task, self.name)

    async def _wait(self, task: Task) -> None:
        """Until the lock, which somebody else holds, is ``task``'s."""
        assert self.owner is not None
        task.waiting_on = f"{self.name} held by {self.owner.name}"
        self.waiters.append(task)
        await park()
        assert self.owner is task

    def release(self) -> None:
        """Let go of the lock."""
        assert self.owner is not None, f"{self.name} is not held"
        # No task is current while the interpreter ends an abandoned coroutine: its ``finally`` may release.
        assert self.kernel.current in (self.owner, None), f"{self.kernel.current} releases {self.name} of {self.owner}"
        if self.kernel.locks is not None:
            self.kernel.locks.released(self.owner, self.name)
        self.owner = None
        if self.waiters:
            self._pass_on()

    def _pass_on(self) -> None:
        """Hand the lock to the first waiter that lives, if any."""
        while self.waiters:
            task = self.waiters.popleft()
            if not task.done:
                self.owner = task
                self.kernel.wake(task)
                return

    async def __aenter__(self) -> Mutex:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.release()


class StealableMutex(Mutex):
    """``struct mutex`` as the device lock shows it (linux-aer-errata.md 6.2): free for whoever comes.

    A release wakes the first waiter but leaves the lock free, so a task that goes on running may take it
    again. A waiter that finds it taken once more marks itself, and the next release hands the lock to it.
    On several processors the waiter may also be quick enough (``Kernel.choose``).
    """

    __slots__ = ("marked", "woken")

    def __init__(self, kernel: Kernel, name: str) -> None:
        super().__init__(kernel, name)
        self.marked = False  # the first waiter is promised the lock
        self.woken = False  # the first waiter is ready to run

    async def _wait(self, task: Task) -> None:
        self.waiters.append(task)
        self._queued(task)
        while True:
            task.waiting_on = f"{self.name} held by {self.owner.name}" if self.owner else self.name
            await park()
            self.woken = False
            if self.owner is task:
                return
            if self.owner is None:
                self.waiters.remove(task)
                self.owner = task
                return
            late = self.owner.realtime and not task.realtime
            in_time = not (late and self.kernel.choose(f"{task.name} comes too late to be promised {self.name}", 2))
            self.marked = self.waiters[0] is task and in_time

    def _queued(self, task: Task) -> None:
        """``task`` waits from now on; a mutex promises it nothing yet."""

    def _pass_on(self) -> None:
        """The lock is free, or goes to a waiter that was promised it."""
        while self.waiters and self.waiters[0].done:
            self.waiters.popleft()
        if not self.waiters:
            return
        first = self.waiters[0]
        if self.marked or self.kernel.choose(f"{first.name} gets {self.name} at once", 2):
            self.marked = False
            self.owner = self.waiters.popleft()
        if not self.woken:
            self.woken = True
            self.kernel.wake(first)

    async def yield_to_waiter(self) -> None:
        """After ``release``: an interrupt thread that was woken runs before its waker; else the releaser goes on.

        On several processors whoever is ready may be quicker.
        """
        task, kernel = self.kernel.current, self.kernel
        if task is None or kernel.idle:
            return
        next_owner = self.owner or (self.waiters[0] if self.waiters else None)
        preempted = next_owner is not None and next_owner.realtime and not task.realtime
        if preempted != bool(kernel.choose(f"order after {task.name} released {self.name}", 2)):
            await kernel.cond_resched()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.release()
        await self.yield_to_waiter()


class RwSem(StealableMutex):
    """``struct rw_semaphore`` taken for writing only: an interrupt thread is promised it as soon as it is first.

    A waiter that was handed the lock and has not run yet still stands before whoever comes (xen-pci-errata.md ORD-2).
    """

    __slots__ = ()

    def _queued(self, task: Task) -> None:
        if task.realtime and self.waiters[0] is task and not self.woken:
            self.marked = True


class NoLock:
    """Nobody waits: what takes the place of a lock that a profile does without."""

    __slots__ = ()

    async def __aenter__(self) -> NoLock:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass


class ReadersLock:
    """``struct rw_semaphore`` whose writers only ever hold it for an instant: readers never wait."""

    __slots__ = ("_queue", "readers")

    def __init__(self, kernel: Kernel, name: str) -> None:
        self._queue = WaitQueue(kernel, name)
        self.readers = 0

    def down_read(self) -> None:
        """``down_read``."""
        self.readers += 1

    def up_read(self) -> None:
        """``up_read``; the last reader lets the writers go on."""
        self.readers -= 1
        if not self.readers:
            self._queue.wake_all()

    async def down_write(self) -> None:
        """Wait until nobody reads. The caller changes what is protected before its next ``await``."""
        await self._queue.wait_until(lambda: not self.readers)


class Work:
    """``struct work_struct``: queued any number of times while it runs, it runs once more afterwards."""

    __slots__ = ("_again", "_running", "function", "kernel", "name")

    def __init__(self, kernel: Kernel, name: str, function: Callable[[], Awaitable[None]]) -> None:
        self.kernel = kernel
        self.name = name
        self.function = function
        self._running = False
        self._again = False

    @property
    def pending(self) -> bool:
        """Queued or running."""
        return self._running

    def queue(self) -> None:
        """``queue_work``."""
        if self._running:
            self._again = True
        else:
            self._running = True
            self.kernel.spawn(self._run(), self.name)

    async def _run(self) -> None:
        try:
            while True:
                self._again = False
                await self.function()
                if not self._again:
                    return
                await self.kernel.cond_resched()  # queued again: behind everything else that is ready
        finally:
            self._running = False
