"""Before the first case: the system that all cases share must come up, or none of them can be played.

A worker does it, under the same guard as a case: a user's driver may do anything. Where the host differs from case to
case nothing is rehearsed, and a host that does not come up makes a ``harness-error`` of its cases alone.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from xenaer.campaign.case import CaseResult, Outcome, Task
from xenaer.campaign.chunk import player_for
from xenaer.campaign.run.dispatch import Crew, ExecutorError
from xenaer.campaign.run.playing import failed
from xenaer.campaign.run.pool_errors import WorkerDiedError
from xenaer.campaign.run.rows import unpack
from xenaer.campaign.worlds.machine import SetupError

TASK = Task(0, {})


def rehearse(crew: Crew, payload: bytes) -> None:
    """Have a worker start what all cases share. Raises SetupError, ExecutorError."""
    try:
        (data,) = crew.submit(rehearse_chunk, payload, [TASK]).result()
    except WorkerDiedError as error:
        raise SetupError(f"the system does not start: {error}") from None
    except (BrokenExecutor, RuntimeError) as error:
        raise ExecutorError(f"the executor is broken: {error or type(error).__name__}") from error
    row = unpack(data)
    if not row.good:
        raise SetupError(row.text)


def rehearse_chunk(payload: bytes, tasks: list[Task]) -> list[CaseResult]:
    """``playing.PlayChunk``: start the system, and keep it for the first case."""
    try:
        player_for(payload).rehearse()
    except SetupError as error:
        return [failed(task, Outcome.HARNESS_ERROR, str(error)) for task in tasks]
    return [CaseResult(task.number, "", "", Outcome.NO_EFFECT) for task in tasks]
