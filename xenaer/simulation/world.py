"""Virtual time: one thread, a heap of events, and a kernel per party.

Everything that can happen next is either a ready task of some kernel, which runs now, or an event of the
heap: a message that arrives, a timer that is due. Ties are broken by the seed, and by nothing else.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from functools import partial

from kernel_stub.kernel import Halted, Kernel

Lane = tuple[str, str]  # the party that something happens to, and where it comes from
Event = tuple[int, int, Callable[[], None], Lane]
Pick = Callable[[list[Lane]], int]
EVENTS_LOOKED_AT = 24
SUPERVISOR = "supervisor-"
TIMER = "timer"


def party_of(name: str) -> str:
    """The party whose state a kernel changes: a supervisor's is that of its guest, which it starts and kills."""
    return name.removeprefix(SUPERVISOR)


class World:
    """The clock of a simulation (``protocol.ports.Clock``) and its event loop."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._now = 0
        self._streams: dict[str, random.Random] = {}
        self._heap: list[tuple[int, int, Callable[[], None], Lane]] = []
        self.pick: Pick | None = None  # who decides what happens next; None: the first in time, in order
        self.window = 0  # how much later than the first event another one may overtake it (ns)
        self._serial = 0
        self._runnable: dict[Kernel, None] = {}
        self._timer: dict[Kernel, int] = {}

    def now(self) -> int:
        """Virtual nanoseconds since the start."""
        return self._now

    def random(self, name: str) -> random.Random:
        """A stream of chance of its own for ``name``, fixed by the seed."""
        stream = self._streams[name] = random.Random(f"{self.seed}/{name}")
        return stream

    def reseed(self, seed: int) -> None:
        """Go on as if the world had been made with ``seed``: every stream of chance begins anew."""
        self.seed = seed
        for name, stream in self._streams.items():
            stream.seed(f"{seed}/{name}")

    @property
    def quiet(self) -> bool:
        """Nothing is under way: no message, no timer that has not been cancelled."""
        timers = all(kernel.next_timer() is None for kernel in self._timer)
        return timers and all(event[3][1] == TIMER for event in self._heap)

    def at(self, time: int, callback: Callable[[], None], lane: Lane = ("", "")) -> None:
        """Have ``callback`` happen at ``time`` (ns). Events of one lane, (party, origin), stay in order."""
        self._serial += 1
        heapq.heappush(self._heap, (time, self._serial, callback, lane))

    def adopt(self, kernel: Kernel) -> None:
        """Drive ``kernel`` from now on."""
        kernel.on_wake = lambda: self._runnable.__setitem__(kernel, None)
        self._runnable[kernel] = None

    def drop(self, kernel: Kernel) -> None:
        """Drive ``kernel`` no more: its party has stopped."""
        kernel.on_wake = None
        self._runnable.pop(kernel, None)
        self._timer.pop(kernel, None)

    # -- running -------------------------------------------------------------------------------
    def run_until(self, condition: Callable[[], bool], deadline: int) -> bool:
        """Let things happen until ``condition`` holds (True), or until ``deadline`` (ns) has been reached."""
        heap = self._heap
        while not condition():
            if self.pick is not None:
                if not self._step_picked(self.pick, deadline):
                    return condition()
            elif self._runnable:
                self._run_ready()
            elif heap and heap[0][0] <= deadline:
                time, _, happen, _ = heapq.heappop(heap)
                self._now = max(self._now, time)
                happen()
            else:
                self._now = max(self._now, deadline)
                return condition()
        return True

    # -- running in an order that somebody picks ----------------------------------------------------
    def _step_picked(self, pick: Pick, deadline: int) -> bool:
        """Let one thing happen: any ready task, or any event within the window; False if there is none."""
        ways: list[tuple[Lane, Callable[[], None]]] = []
        for kernel in list(self._runnable):
            if kernel.hurried:
                self._run_one(kernel, 0)
                return True
            kernel.run_timers()
            names = kernel.ready()
            if not names:
                del self._runnable[kernel]
                self._watch_timer(kernel, kernel.next_timer())
            party = party_of(kernel.name)
            ways += [((party, name), partial(self._run_one, kernel, n)) for n, name in enumerate(names)]
        events = self._eligible(deadline, self._now if ways else None)
        ways += [(event[3], partial(self._happen, event)) for event in events]
        if not ways:
            if self._runnable or (self._heap and self._heap[0][0] <= deadline):
                return True
            self._now = max(self._now, deadline)
            return False
        ways[pick([lane for lane, _ in ways])][1]()
        return True

    def _eligible(self, deadline: int, begin: int | None) -> list[Event]:
        """The first event of each lane, if it is not much later than ``begin`` (None: than the first of all)."""
        if not self._heap:
            return []
        limit = min(deadline, (max(self._now, self._heap[0][0]) if begin is None else begin) + self.window)
        found: dict[Lane, Event] = {}
        for event in sorted(self._heap)[:EVENTS_LOOKED_AT]:
            if event[0] <= limit and (event[3] not in found):
                found[event[3]] = event
        return list(found.values())

    def _happen(self, event: Event) -> None:
        self._heap.remove(event)
        heapq.heapify(self._heap)
        self._now = max(self._now, event[0])
        event[2]()

    def _run_one(self, kernel: Kernel, index: int) -> None:
        try:
            kernel.run_one(index)
        except Halted:
            self.drop(kernel)
            return
        if kernel.idle:
            self._runnable.pop(kernel, None)
            self._watch_timer(kernel, kernel.next_timer())

    def _run_ready(self) -> None:
        kernel = next(iter(self._runnable))
        del self._runnable[kernel]
        try:
            kernel.run()
        except Halted:
            self.drop(kernel)
            return
        due = kernel.next_timer()
        if due is None or due > self._now:
            self._runnable.pop(kernel, None)  # what it made ready itself has run already
        self._watch_timer(kernel, due)

    def _watch_timer(self, kernel: Kernel, due: int | None) -> None:
        """Make sure that the heap knows of the kernel's earliest timer; one that was cancelled does no harm."""
        if due is not None and self._timer.get(kernel, 1 << 62) > due:
            self._timer[kernel] = due
            self.at(due, lambda: self._timer_due(kernel, due), (party_of(kernel.name), TIMER))

    def _timer_due(self, kernel: Kernel, due: int) -> None:
        if self._timer.get(kernel) == due:
            del self._timer[kernel]
            self._runnable[kernel] = None
