"""A small kernel: tasks, timers, printk and trace, driven from outside.

Everything that decides which task runs next is in this file. A party's logic is coroutines; each
``await`` ends in :func:`park`, which hands control back to :meth:`Kernel.run`. Whoever owns the kernel
(a process shell with a real clock, or the simulation with a virtual one) calls ``run`` when something
may be ready and asks ``next_timer`` how long it may wait. Time never passes inside ``run``.
"""

from __future__ import annotations

import heapq
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, Protocol

from kernel_stub.places import place_of, said
from protocol.ports import Clock, Journal

EMERG, ALERT, CRIT, ERR, WARNING, NOTICE, INFO, DEBUG = range(8)  # printk levels

MS = 1_000_000  # nanoseconds
TIMERS_KEPT = 256  # cancelled timers that may stay in the heap


class Task:
    """A kernel thread. ``waiting_on`` names what it waits for, for deadlock reports.

    ``realtime`` is the priority of interrupt threads: on one processor they go on at once when woken.
    """

    __slots__ = ("coro", "done", "error", "name", "on_done", "realtime", "result", "timer", "value", "waiting_on")

    def __init__(self, coro: Coroutine[Any, Any, Any], name: str, realtime: bool = False) -> None:
        self.coro = coro
        self.name = name
        self.realtime = realtime
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.waiting_on: str | None = None
        self.value: Any = None
        self.timer: Timer | None = None
        self.on_done: list[Callable[[Task], None]] = []

    def __repr__(self) -> str:
        return f"<task {self.name}{' waiting for ' + self.waiting_on if self.waiting_on else ''}>"


class Timer:
    """A one-shot timer; ``cancel`` is always allowed. The callback runs outside every task."""

    __slots__ = ("callback", "deadline")

    def __init__(self, deadline: int, callback: Callable[[], None] | None) -> None:
        self.deadline = deadline
        self.callback = callback

    def cancel(self) -> None:
        """The callback will not run any more."""
        self.callback = None


@types.coroutine
def park() -> Generator[None, Any, Any]:
    """Give control to the kernel until somebody calls ``Kernel.wake``; returns the value given there."""
    return (yield)


Choose = Callable[[str, int], int]  # a label and how many ways there are -> which one is taken


def first_choice(label: str, ways: int) -> int:
    """One processor: always the way that is listed first."""
    return 0


class LockWatch(Protocol):
    """Hears of every lock of a kernel."""

    def waiting(self, task: Task, lock: str) -> None:
        """``task`` begins to wait for the lock, which somebody else has."""

    def taken(self, task: Task, lock: str) -> None:
        """``task`` has the lock now."""

    def released(self, task: Task, lock: str) -> None:
        """``task`` has let go."""


class Halted(BaseException):
    """Raised through a party's code when its (simulated) machine stops for good."""


class Kernel:
    """One party's scheduler. ``name`` is the party in the journal: ``dom0``, ``hypervisor``, ``guest1``.

    ``panic_on_oops`` makes an exception in a task end the whole party (dom0, the stub: a bug of ours);
    a guest only loses the task, as a Linux worker dies with an oops (xen-pci-errata.md S11).
    """

    def __init__(self, name: str, clock: Clock, journal: Journal, *, panic_on_oops: bool = True) -> None:
        self.name = name
        self.journal = journal
        self.panic_on_oops = panic_on_oops
        self.now = clock.now
        self.current: Task | None = None
        self.tasks: dict[Task, None] = {}
        self.on_wake: Callable[[], None] | None = None  # the world wants to know that work appeared
        self.choose: Choose = first_choice  # what may go either way on several processors
        self.locks: LockWatch | None = None  # who wants to know about every lock that is taken
        self.hurried = 0  # how many of those that are ready must run before anything else anywhere does
        self.at_close: list[Callable[[], None]] = []  # what the party has outside of itself is given back
        self._ready: deque[Task | Callable[[], None]] = deque()
        self._timers: list[tuple[int, int, Timer]] = []
        self._cancelled = 0  # timers in the heap that will never fire, at most
        self._serial = 0
        self._append = journal.append

    # -- tasks ---------------------------------------------------------------------------------
    def spawn(self, coro: Coroutine[Any, Any, Any], name: str, *, realtime: bool = False, first: bool = False) -> Task:
        """Start a task; it runs at the next ``run``, after those that are ready already, or before them (``first``)."""
        task = Task(coro, name, realtime)
        self.tasks[task] = None
        self.wake(task)
        if first:
            self._ready.rotate(1)
            self.hurried += 1
        return task

    def wake(self, task: Task, value: Any = None) -> None:
        """Make a parked task ready; ``value`` is what its ``park`` returns."""
        if task.done:
            return
        task.value = value
        task.waiting_on = None
        if task.timer is not None:
            task.timer.callback = None
            task.timer = None
            self._cancelled += 1
        self._ready.append(task)
        if self.on_wake is not None:
            self.on_wake()

    def run(self) -> None:
        """Run due timers and every ready task, first in, first out, until nothing is ready."""
        if self._timers:
            self.run_timers()
        ready, step = self._ready, self._step
        while ready:
            item = ready.popleft()
            if item.__class__ is Task:
                step(item)
            else:
                item()  # type: ignore[operator]
        self.hurried = 0

    def ready(self) -> list[str]:
        """Names of what is ready, in its order, numbered from the second on: what several processors could run next."""
        found: list[str] = []
        for item in self._ready:
            name: str = item.name if item.__class__ is Task else item.__qualname__  # type: ignore[union-attr]
            found.append(f"{name} #{len(found)}" if found else name)
        return found

    def run_one(self, index: int = 0) -> None:
        """Run one of the things that are ready, out of turn if ``index`` is not 0."""
        ready = self._ready
        self.hurried = max(self.hurried - 1, 0)
        if index:
            ready.rotate(-index)
            item = ready.popleft()
            ready.rotate(index)
        else:
            item = ready.popleft()
        if item.__class__ is Task:
            self._step(item)
        else:
            item()  # type: ignore[operator]

    def close(self) -> None:
        """The party is given up: tasks that never began end here, or Python would complain about them."""
        while self.at_close:
            self.at_close.pop()()
        for task in self.tasks:
            if getcoroutinestate(task.coro) == CORO_CREATED:
                task.coro.close()

    def schedule(self, tasklet: Callable[[], None]) -> None:
        """``tasklet_schedule``: call a function that never waits, after everything that is ready now."""
        self._ready.append(tasklet)
        if self.on_wake is not None:
            self.on_wake()

    def interrupt(self, callback: Callable[[], None]) -> None:
        """Call a function that never waits as soon as the running task waits, before everything that is ready."""
        self._ready.appendleft(callback)
        self.hurried += 1
        if self.on_wake is not None:
            self.on_wake()

    def write_to(self, journal: Journal) -> None:
        """Use another journal from now on."""
        self.journal = journal
        self._append = journal.append

    @property
    def idle(self) -> bool:
        """No task is ready to run."""
        return not self._ready

    def _step(self, task: Task) -> None:
        self.current = task
        value, task.value = task.value, None
        try:
            task.coro.send(value)
        except StopIteration as stop:
            self._finish(task, stop.value)
        except Halted:
            task.done = True
            raise
        except Exception as error:  # an oops: the one place where a party's fault ends
            self._oops(task, error)
        finally:
            self.current = None

    def _finish(self, task: Task, result: Any) -> None:
        task.done, task.result = True, result
        self.tasks.pop(task, None)
        for callback in task.on_done:
            callback(task)

    def _oops(self, task: Task, error: Exception) -> None:
        task.error = error
        name, line = place_of(error)
        text = said(error)
        self.printk(ALERT, f"BUG: {type(error).__name__}: {text}")
        self.printk(ALERT, f"RIP: {name} ({line})")
        self.trace("kernel.oops", task.name, type(error).__name__, text, f"{line} in {name}")
        self._finish(task, None)
        if self.panic_on_oops:
            raise error

    async def die(self, text: str) -> None:
        """An oops of the running task alone: it never goes on, and what it has locked stays locked."""
        task = self.current
        assert task is not None
        self.printk(ALERT, f"BUG: {text}")
        self.trace("kernel.oops", task.name, "oops", text, "")
        while True:
            task.waiting_on = "nothing, it has died"
            await park()

    async def join(self, task: Task) -> Any:
        """Wait until ``task`` has ended; returns its result (None if it died)."""
        if not task.done:
            me = self.current
            assert me is not None
            me.waiting_on = f"end of {task.name}"
            task.on_done.append(lambda _: self.wake(me))
            await park()
        return task.result

    # -- time ----------------------------------------------------------------------------------
    def call_at(self, deadline: int, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` at ``deadline`` (ns), outside every task, as a timer interrupt would."""
        if self._cancelled > TIMERS_KEPT:
            self._forget_cancelled()
        timer = Timer(deadline, callback)
        self._serial += 1
        heapq.heappush(self._timers, (deadline, self._serial, timer))
        if self.on_wake is not None:
            self.on_wake()
        return timer

    def _forget_cancelled(self) -> None:
        """Waits that ended early leave their timers behind; they must not pile up until they are due."""
        self._timers = [entry for entry in self._timers if entry[2].callback is not None]
        heapq.heapify(self._timers)
        self._cancelled = 0

    def run_timers(self) -> None:
        """Run the callbacks of all timers that are due."""
        timers = self._timers
        while timers and (timers[0][2].callback is None or timers[0][0] <= self.now()):
            callback = heapq.heappop(timers)[2].callback
            if callback is not None:
                callback()

    def next_timer(self) -> int | None:
        """When the earliest live timer is due (ns), or None."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    async def sleep(self, ns: int) -> None:
        """``msleep``: the task sleeps for ``ns`` nanoseconds; 0 or less is a switch point."""
        task = self.current
        assert task is not None
        if ns <= 0:
            self.wake(task)
        else:
            task.waiting_on = "time"
            task.timer = self.call_at(self.now() + ns, lambda: self.wake(task))
        await park()

    async def cond_resched(self) -> None:
        """An explicit switch point: every other ready task may run first."""
        await self.sleep(0)

    # -- what is left behind -------------------------------------------------------------------
    def trace(self, label: str, subject: str = "", *fields: Any) -> None:
        """Write one journal record in the name of the running task. Labels: protocol/labels.py."""
        task = self.current
        self._append((self.now(), task.name if task else "irq", label, subject) + fields)  # noqa: RUF005 - a third faster

    def printk(self, level: int, text: str) -> None:
        """A line of this domain's kernel log; ``level`` 0 (emergency) to 7 (debug)."""
        task = self.current
        self._append((self.now(), task.name if task else "irq", "printk", "", level, text))
