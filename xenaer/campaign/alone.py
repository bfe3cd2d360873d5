"""One case by itself: in this process under a guard, or in a worker. What it plays may never return."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Outcome, Task
from xenaer.campaign.chunk import Player, pack_assignment, play_chunk
from xenaer.campaign.run.dispatch import Dispatcher
from xenaer.campaign.run.executors import LOCAL, open_crew
from xenaer.campaign.run.playing import failed
from xenaer.campaign.run.rows import to_result

PRELOAD = ("xenaer.campaign.chunk", "xenaer.campaign.worlds.play_simulated")
PlayAlone = Callable[[Campaign, Task], CaseResult]


class OverdueError(BaseException):
    """The case took too long. No ``Exception``: a kernel would take it for a bug of the task that was running."""


@contextmanager
def lone_worker(world: str, limit_s: float) -> Iterator[PlayAlone]:
    """Plays cases of any campaign one after the other, each as a run plays it; it may end the worker."""
    with open_crew(LOCAL, 1, case_limit_s=limit_s, preload=PRELOAD) as crew:

        def play(campaign: Campaign, task: Task) -> CaseResult:
            dispatcher = Dispatcher(crew, play_chunk, pack_assignment(campaign, world))
            (row,) = (row for rows in dispatcher.play([task]) for row in rows)
            return replace(to_result(row), journal=row.journal)

        yield play


def play_alone(campaign: Campaign, world: str, task: Task) -> CaseResult:
    """The result of one case."""
    with lone_worker(world, campaign.form.case_limit_s) as play:
        return play(campaign, task)


def play_guarded(player: Player, task: Task, limit_s: float) -> CaseResult:
    """The result of a case; ``hang`` if there is none within ``limit_s`` seconds of real time."""
    try:
        with guarded(limit_s * (2 if task.twice else 1)):
            return player.play(task)
    except OverdueError:
        return failed(task, Outcome.HANG, f"no result within {limit_s:g} s of real time")


@contextmanager
def guarded(limit_s: float) -> Iterator[None]:
    """Raise OverdueError in what runs inside, after ``limit_s`` seconds; in the main thread only, others cannot be."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def overdue(number: int, frame: FrameType | None) -> None:
        raise OverdueError

    begin_s, before = time.monotonic(), signal.signal(signal.SIGALRM, overdue)
    left_s, _ = signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left_s:  # somebody else's alarm goes on
            signal.setitimer(signal.ITIMER_REAL, max(left_s - (time.monotonic() - begin_s), 0.001))
