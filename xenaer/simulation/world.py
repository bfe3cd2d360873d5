"""Virtual time: one thread, a heap of events, and a kernel per party.

Everything that can happen next is either a ready task of some kernel, which runs now, or an event of the
heap: a message that arrives, a timer that is due. Ties are broken by the seed, and by nothing else.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from kernel_stub.kernel import Halted, Kernel


class World:
    """The clock of a simulation (``protocol.ports.Clock``) and its event loop."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._now = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = 0
        self._runnable: dict[Kernel, None] = {}
        self._timer: dict[Kernel, int] = {}

    def now(self) -> int:
        """Virtual nanoseconds since the start."""
        return self._now

    def random(self, name: str) -> random.Random:
        """A stream of chance of its own for ``name``, fixed by the seed."""
        return random.Random(f"{self.seed}/{name}")

    def at(self, time: int, callback: Callable[[], None]) -> None:
        """Have ``callback`` happen at ``time`` (ns)."""
        self._serial += 1
        heapq.heappush(self._heap, (time, self._serial, callback))

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
        while not condition():
            if not self.step(deadline):
                return condition()
        return True

    def step(self, deadline: int) -> bool:
        """Run what is ready, or let the next event happen; False if there is none up to ``deadline``."""
        if self._runnable:
            self._run_ready()
            return True
        heap = self._heap
        if not heap or heap[0][0] > deadline:
            self._now = max(self._now, deadline)
            return False
        self._now = max(self._now, heap[0][0])
        heapq.heappop(heap)[2]()
        return True

    def _run_ready(self) -> None:
        kernel = next(iter(self._runnable))
        del self._runnable[kernel]
        try:
            kernel.run()
        except Halted:
            self.drop(kernel)
            return
        self._watch_timer(kernel)

    def _watch_timer(self, kernel: Kernel) -> None:
        """Make sure that the heap knows of the kernel's earliest timer; one that was cancelled does no harm."""
        due = kernel.next_timer()
        if due is not None and self._timer.get(kernel, 1 << 62) > due:
            self._timer[kernel] = due
            self.at(due, lambda: self._timer_due(kernel, due))

    def _timer_due(self, kernel: Kernel, due: int) -> None:
        if self._timer.get(kernel) == due:
            del self._timer[kernel]
            self._runnable[kernel] = None
