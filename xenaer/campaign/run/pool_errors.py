"""What a pool says instead of a result. All of it can be pickled: a pool may be on another machine."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor


class WorkerDiedError(RuntimeError):
    """The worker ended while it worked on this call.

    ``number`` is the case it was in, None if in none; ``kept`` are the results that it had finished and kept
    (``heartbeat.keep``).
    """

    def __init__(self, text: str, number: int | None, kept: list[bytes]) -> None:
        super().__init__(text, number, kept)
        self.number = number
        self.kept = kept

    def __str__(self) -> str:
        return str(self.args[0])


class CaseHangError(WorkerDiedError):
    """Case ``number`` took longer than it may, and its worker was killed for it."""


class PoolBrokenError(BrokenExecutor):
    """The pool cannot have workers; the text says why."""
