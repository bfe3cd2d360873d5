"""A pool's view of one of its workers: its process, the socket to it, the memory it shares, the call it makes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from xenaer.campaign.run.heartbeat import Memory
from xenaer.campaign.run.nursery import Nursery, NurseryError
from xenaer.campaign.run.pool_errors import CaseHangError, WorkerDiedError
from xenaer.campaign.run.wire import Channel


@dataclass(slots=True)
class Job:
    """A call that somebody waits for: the future, and the call itself, pickled."""

    future: Future[Any]
    data: bytes


class PoolWorker:
    """One worker. ``ready``: it has begun; ``gone``: it has been buried."""

    def __init__(self, nursery: Nursery, first: bytes) -> None:
        """Fork it and send it its first message. Raises NurseryError, OSError."""
        ours, theirs = socket.socketpair()
        self.memory = Memory.make()
        self.channel = Channel(ours)
        try:
            self.pid, self.pidfd = nursery.spawn(theirs, self.memory)
        except NurseryError:
            self.channel.close()
            self.memory.close()
            raise
        finally:
            theirs.close()
        self.job: Job | None = None
        self.ready = False
        self.gone = False
        self.writing = False  # something for it waits for room, and the pool for that
        self._calls = 0
        self._handed_s = 0.0
        self._over: int | None = None  # the case that it was killed for
        self.channel.send(first)

    def begin(self, job: Job) -> None:
        """Hand it a call."""
        self.job = job
        self._calls += 1
        self._handed_s = time.monotonic()
        self.channel.send(job.data)

    def finish(self) -> Job | None:
        """It has answered: the call that it answered."""
        job, self.job = self.job, None
        return job

    def guard(self, limit_s: float) -> None:
        """Kill it if its case takes longer than ``limit_s`` for each run, or if it does not begin with its call."""
        if self.job is None or self._over is not None:
            return
        beat, now_s = self.memory.beat(), time.monotonic()
        if beat is not None and now_s - beat.begin_s > limit_s * beat.runs:
            self._over = beat.number
            self.kill()
        elif now_s - self._handed_s > limit_s and self.memory.calls() != self._calls:
            self.kill()  # somebody stopped it

    def kill(self) -> None:
        """SIGKILL, which cannot hit another process."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def last_words(self, nursery: Nursery, limit_s: float | None) -> WorkerDiedError:
        """What its death means for the call it was making; to be asked after its end."""
        beat, kept = self.memory.beat(), self.memory.kept(self._calls)
        number = None if beat is None else beat.number
        if self._over is None:
            return WorkerDiedError(f"the worker {self._end(nursery)}", number, kept)
        self._end(nursery)
        if number == self._over:
            return CaseHangError(f"no result within {limit_s:g} s of real time", number, kept)
        # It finished that case while it was killed for it: what it began after that has nothing to do with its end.
        return WorkerDiedError("the worker was killed just after a slow case", None, kept)

    def _end(self, nursery: Nursery) -> str:
        try:
            status = nursery.reap(self.pid)
        except NurseryError:
            return "ended with the process that starts workers"
        if status >= 0:
            return f"ended with exit status {status}"
        return f"was killed by {signal.Signals(-status).name}"

    def bury(self) -> None:
        """Give back what belonged to it."""
        self.gone = True
        self.channel.close()
        self.memory.close()
        os.close(self.pidfd)
