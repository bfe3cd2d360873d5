"""What an executor runs: a chunk of cases, one after the other, whose results survive the worker that plays them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from itertools import starmap

from xenaer.campaign.case import CaseResult, Outcome, Recipe, Task, case_id, recipe_stratum, recipe_text
from xenaer.campaign.run import heartbeat
from xenaer.campaign.run.rows import pack, to_row

BareTask = tuple[int, Recipe, bool, bool]  # a Task that is pickled in a tenth of the time
PlayChunk = Callable[[bytes, list[Task]], list[CaseResult]]


def bare(tasks: Iterable[Task]) -> list[BareTask]:
    """Tasks for ``play_tasks``."""
    return [(task.number, task.recipe, task.twice, task.keep) for task in tasks]


def play_tasks(play_chunk: PlayChunk, payload: bytes, tasks: Sequence[BareTask]) -> list[bytes]:
    """The packed rows of tasks. One that ``play_chunk`` fails on is a ``harness-error``; nothing is raised.

    ``play_chunk`` is called for one case at a time, so that it is known which one a worker is in.
    """
    packed = []
    for task in starmap(Task, tasks):
        heartbeat.begin(task.number, 2 if task.twice else 1)
        packed.append(_play(play_chunk, payload, task))
        heartbeat.keep(packed[-1])
    return packed


def _play(play_chunk: PlayChunk, payload: bytes, task: Task) -> bytes:
    begin_s = time.perf_counter()
    try:
        (result,) = play_chunk(payload, [task])
        if result.number != task.number:
            raise ValueError(f"the result of case {task.number} says that it is of case {result.number}")
        result.wall_s = time.perf_counter() - begin_s
        return pack(to_row(result, task.recipe, task.twice))
    except BaseException as error:  # also SystemExit: a driver that escapes must not end the worker unnoticed
        result = failed(task, Outcome.HARNESS_ERROR, f"{type(error).__name__}: {error}", _where(error))
    result.wall_s = time.perf_counter() - begin_s
    return pack(to_row(result, task.recipe, task.twice))


def _where(error: BaseException) -> str:
    """The innermost line of ours or the user's that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""


def failed(task: Task, outcome: Outcome, *problems: str) -> CaseResult:
    """The result of a case that has none of its own, because of ``problems``."""
    name = case_id(task.number, recipe_text(task.recipe))
    said = [problem for problem in problems if problem]
    return CaseResult(task.number, name, recipe_stratum(task.recipe), outcome, False, said[0], said)
