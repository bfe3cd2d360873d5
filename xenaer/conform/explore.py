"""Interleavings of one case: what may go either way on several processors is tried in both ways.

Runs with fewer deviations from the one-processor order come first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

from kernel_stub.kernel import Choose

Result = TypeVar("Result")


class Recorder:
    """Takes the ways of ``prefix`` and then always the first one; ``ways`` notes how many there were each time."""

    def __init__(self, prefix: tuple[int, ...]) -> None:
        self.prefix = prefix
        self.ways: list[int] = []

    def choose(self, label: str, ways: int) -> int:
        """``Kernel.choose``."""
        index = len(self.ways)
        self.ways.append(ways)
        return self.prefix[index] if index < len(self.prefix) else 0


def explore(run: Callable[[Choose], Result], limit: int) -> Iterator[Result]:
    """Results of up to ``limit`` runs, each in another order."""
    waiting: deque[tuple[int, ...]] = deque([()])
    for _ in range(limit):
        if not waiting:
            return
        recorder = Recorder(waiting.popleft())
        yield run(recorder.choose)
        prefix = recorder.prefix
        for index in range(len(prefix), len(recorder.ways)):
            for way in range(1, recorder.ways[index]):
                waiting.append((*prefix, *[0] * (index - len(prefix)), way))
