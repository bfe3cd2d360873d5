"""One case played in this process, under a guard: what it plays may never return."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Outcome, Task
from xenaer.campaign.chunk import Player, make_player
from xenaer.campaign.run.playing import failed


class OverdueError(BaseException):
    """The case took too long. No ``Exception``: a kernel would take it for a bug of the task that was running."""


def play_alone(campaign: Campaign, world: str, task: Task) -> CaseResult:
    """The result of a case, played by a player of its own."""
    player = make_player(campaign, world)
    try:
        return play_guarded(player, task, campaign.form.case_limit_s)
    finally:
        player.close()


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
