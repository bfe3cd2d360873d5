"""Plays cases on an executor: in chunks of a fitting size, again when a worker has died, until each has a result."""

from __future__ import annotations

import queue
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass

from xenaer.campaign.case import Outcome, Task
from xenaer.campaign.run.chunks import ChunkSizer
from xenaer.campaign.run.playing import PlayChunk, bare, failed, play_tasks
from xenaer.campaign.run.pool_errors import CaseHangError, WorkerDiedError
from xenaer.campaign.run.rows import Row, to_row, unpack

CHUNK_S = 0.15
AHEAD = 2  # chunks per slot that have been handed over: one is played, one waits, so that nobody is idle
DEATHS_MAX = 2  # of workers that played a case alone
FAILURES_MAX = 5  # of chunks that were this case alone, for reasons that need have nothing to do with it
FRUITLESS_MAX = 20  # chunks in a row that failed so
TICK_S = 0.25  # the caller hears from the dispatcher at least so often


class ExecutorError(Exception):
    """Cases cannot be played any more (or at all); the text says why and what to do."""


class Crew:
    """An executor that plays ``slots`` chunks at a time, which are to take about ``chunk_s`` seconds each."""

    def __init__(self, executor: Executor, slots: int, chunk_s: float = CHUNK_S) -> None:
        self.executor = executor
        self.chunk_s = chunk_s
        self._slots = slots

    @property
    def slots(self) -> int:
        """How many chunks are played at a time."""
        return self._slots

    def submit(self, play_chunk: PlayChunk, payload: bytes, tasks: list[Task]) -> Future[list[bytes]]:
        """Have a chunk played; the future's result are packed rows (``playing.play_tasks``)."""
        return self.executor.submit(play_tasks, play_chunk, payload, bare(tasks))

    def close(self, now: bool = False) -> None:
        """End the executor; ``now``: without waiting for chunks that are being played."""
        self.executor.shutdown(wait=not now, cancel_futures=True)


@dataclass(slots=True)
class _Round:
    """What is still to be played: new tasks, and chunks that are to be played again."""

    tasks: Iterator[Task]
    left: int
    again: deque[list[Task]]


class Dispatcher:
    """Plays cases on ``crew``. ``stop`` may be called from a signal handler."""

    def __init__(self, crew: Crew, play_chunk: PlayChunk, payload: bytes) -> None:
        self._crew = crew
        self._play_chunk = play_chunk
        self._payload = payload
        self._sizer = ChunkSizer(crew.chunk_s)
        self._flying: dict[Future[list[bytes]], list[Task]] = {}
        self._done: queue.SimpleQueue[Future[list[bytes]] | None] = queue.SimpleQueue()
        self._failures: Counter[int] = Counter()
        self._fruitless = 0
        self._stopped = False

    def stop(self) -> None:
        """Hand out nothing more; ``play`` ends after what is finished already."""
        if not self._stopped:
            self._stopped = True
            self._done.put(None)

    def play(self, tasks: Sequence[Task]) -> Iterator[list[Row]]:
        """Rows of all ``tasks``, as they are finished; nothing now and then. Raises ExecutorError."""
        round_ = _Round(iter(tasks), len(tasks), deque())
        try:
            while not self._stopped:
                self._hand_out(round_)
                if not self._flying:
                    return
                yield self._collect(round_, TICK_S)
            while not self._done.empty():
                yield self._collect(round_, 0)
        finally:
            for future in list(self._flying):
                future.cancel()
            self._flying.clear()

    def _hand_out(self, round_: _Round) -> None:
        while len(self._flying) < self._crew.slots * AHEAD:
            chunk = round_.again.popleft() if round_.again else self._new_chunk(round_)
            if not chunk:
                return
            try:
                future = self._crew.submit(self._play_chunk, self._payload, chunk)
            except RuntimeError as error:  # it was shut down, or is broken
                raise ExecutorError(f"the executor takes no more work: {error}") from error
            self._flying[future] = chunk
            future.add_done_callback(self._done.put)

    def _new_chunk(self, round_: _Round) -> list[Task]:
        size = min(self._sizer.size(round_.left, self._crew.slots), round_.left)
        round_.left -= size
        return [next(round_.tasks) for _ in range(size)]

    def _collect(self, round_: _Round, timeout_s: float) -> list[Row]:
        """The rows of the next chunk that ends; none if none ends in time."""
        try:
            future = self._done.get(timeout=timeout_s)
        except queue.Empty:
            return []
        chunk = self._flying.pop(future, None) if future is not None else None
        if future is None or chunk is None:  # ``stop``, or a chunk of a round that was given up
            return []
        try:
            rows = [unpack(data) for data in future.result()]
        except (BrokenExecutor, CancelledError) as error:
            raise ExecutorError(f"the executor is broken: {error or type(error).__name__}") from error
        except WorkerDiedError as death:
            rows = self._after_death(round_, chunk, death)
        except Exception as error:  # nothing that a case does gets here: what failed is the way to it
            rows = self._after_failure(round_, chunk, error)
        else:
            self._sizer.learn(len(rows), sum(row.wall_s for row in rows))
            self._fruitless = 0
        return rows

    # -- chunks that failed ------------------------------------------------------------------------
    def _after_death(self, round_: _Round, chunk: list[Task], death: WorkerDiedError) -> list[Row]:
        """What was finished counts; the case that the worker was in is played again alone; the others never began."""
        rows = [unpack(data) for data in death.kept]
        finished = {row.number for row in rows}
        left = [task for task in chunk if task.number not in finished]
        suspect = next((task for task in left if task.number == death.number), None)
        if suspect is not None:
            left.remove(suspect)
            rows += self._suspected(round_, suspect, death, len(chunk) == 1)
        elif not rows:
            self._fruitless_again(death)
        if left:
            round_.again.append(left)
        return rows

    def _suspected(self, round_: _Round, task: Task, death: WorkerDiedError, alone: bool) -> list[Row]:
        if isinstance(death, CaseHangError):
            return [_failed_row(task, Outcome.HANG, str(death))]
        return self._once_more(round_, task, alone, DEATHS_MAX, f"its worker died every time: {death}")

    def _after_failure(self, round_: _Round, chunk: list[Task], error: Exception) -> list[Row]:
        """It is not known which case did it, if any: each is played again alone."""
        self._fruitless_again(error)
        if len(chunk) > 1:
            round_.again.extend([task] for task in chunk)
            return []
        text = f"it could not be played: {type(error).__name__}: {error}"
        return self._once_more(round_, chunk[0], True, FAILURES_MAX, text)

    def _once_more(self, round_: _Round, task: Task, alone: bool, limit: int, text: str) -> list[Row]:
        """Play a case again alone, unless that has failed ``limit`` times."""
        self._failures[task.number] += alone
        if self._failures[task.number] < limit:
            round_.again.append([task])
            return []
        del self._failures[task.number]
        return [_failed_row(task, Outcome.HARNESS_ERROR, text)]

    def _fruitless_again(self, error: Exception) -> None:
        """A chunk failed, and it was no case's fault. Raises ExecutorError when this goes on."""
        self._fruitless += 1
        if self._fruitless >= FRUITLESS_MAX:
            text = f"{type(error).__name__}: {error}"
            raise ExecutorError(f"{FRUITLESS_MAX} chunks in a row failed, the last one with: {text}")


def _failed_row(task: Task, outcome: Outcome, text: str) -> Row:
    return to_row(failed(task, outcome, text), task.recipe, task.twice)
