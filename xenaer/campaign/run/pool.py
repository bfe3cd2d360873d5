"""A supervised pool of loaded workers, as a ``concurrent.futures.Executor``.

A campaign kills processes on purpose, and plays drivers that hang. The standard pool answers the death of a worker by
dropping innocent calls; here a dead worker fails its own call and is replaced, and one whose case takes too long is
killed. One thread supervises everything: what it waits for are sockets and processes, never one of them alone.
Functions must be importable by name; what they print goes to standard error.
"""

from __future__ import annotations

import os
import pickle
import selectors
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from xenaer.campaign.run.nursery import Nursery, NurseryError
from xenaer.campaign.run.pool_errors import PoolBrokenError
from xenaer.campaign.run.pool_worker import Job, PoolWorker
from xenaer.campaign.run.worker import ERROR, READY

P = ParamSpec("P")
T = TypeVar("T")
STILLBORN_MAX = 10  # workers in a row that end before they are ready
GUARD_MAX_S = 0.25  # how often is looked for a case that takes too long, at least


class SupervisedPool(Executor):
    """``workers`` processes that have imported ``preload`` and called ``initializer`` once.

    A call whose worker dies fails with WorkerDiedError; one whose case (``heartbeat.begin``) takes longer than
    ``case_limit_s`` seconds of real time with CaseHangError; all fail with PoolBrokenError if there can be no workers.
    """

    def __init__(
        self,
        workers: int,
        *,
        preload: Sequence[str] = (),
        initializer: Callable[[], object] | None = None,
        case_limit_s: float | None = None,
    ) -> None:
        self.workers = workers
        self._preload = tuple(preload)
        self._first = pickle.dumps(None if initializer is None else (initializer, (), {}))
        self._limit_s = case_limit_s
        self._tick_s = None if case_limit_s is None else min(case_limit_s / 4, GUARD_MAX_S)
        self._lock = threading.Lock()
        self._queue: deque[Job] = deque()
        self._closing = self._killed = False
        self._problem = ""
        self._stillborn = 0
        self._nursery: Nursery | None = None
        self._all: list[PoolWorker] = []
        self._idle: list[PoolWorker] = []
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ, self._answer_bell)
        self._thread = threading.Thread(target=self._supervise, name="supervised pool", daemon=True)
        self._thread.start()

    # -- Executor ----------------------------------------------------------------------------------
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called in a worker. Raises PoolBrokenError, RuntimeError after ``shutdown``."""
        future: Future[T] = Future()
        try:
            data = pickle.dumps((fn, args, kwargs), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            future.set_exception(error)
            return future
        with self._lock:
            if self._problem:
                raise PoolBrokenError(self._problem)
            if self._closing:
                raise RuntimeError("the pool has been shut down")
            self._queue.append(Job(future, data))
            if len(self._queue) == 1:
                self._ring()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; end the workers when those that wait are done, or at once those that have not begun."""
        with self._lock:
            self._closing = True
            dropped = list(self._queue) if cancel_futures else []
            if dropped:
                self._queue.clear()
            self._ring()
        for job in dropped:
            job.future.cancel()
        if wait:
            self._thread.join()

    def kill(self) -> None:
        """End at once: calls that run fail with PoolBrokenError, those that wait are cancelled."""
        self._killed = True
        self.shutdown(cancel_futures=True)

    def pids(self) -> list[int]:
        """Process ids of the workers of this moment."""
        return [worker.pid for worker in list(self._all)]

    def _ring(self) -> None:
        """Wake the supervising thread; with the lock held, since it closes the bell under it."""
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def _answer_bell(self) -> None:
        os.eventfd_read(self._bell)

    # -- the supervising thread --------------------------------------------------------------------
    def _supervise(self) -> None:
        try:
            self._nursery = Nursery(self._preload)
            while len(self._all) < self.workers:
                self._hire()
            while not self._finished():
                self._hand_out()
                for key, _ in self._selector.select(self._tick_s if len(self._idle) < len(self._all) else None):
                    key.data()
                self._guard()
            self._problem = self._problem or "the pool has ended"
        except (NurseryError, OSError) as error:
            self._problem = str(error)
        except BaseException as error:
            self._problem = f"the pool failed: {type(error).__name__}: {error}"
            raise
        finally:
            self._end()

    def _finished(self) -> bool:
        with self._lock:
            busy = any(worker.job is not None for worker in self._all)
            return bool(self._problem) or self._killed or (self._closing and not self._queue and not busy)

    def _hand_out(self) -> None:
        """Give calls that wait to workers that are idle."""
        while self._idle:
            with self._lock:
                if not self._queue:
                    return
                job = self._queue.popleft()
            if job.future.set_running_or_notify_cancel():
                worker = self._idle.pop()
                worker.begin(job)
                self._watch(worker)

    def _watch(self, worker: PoolWorker) -> None:
        """Wait for what it says, and for room as long as something for it is unsent."""
        if worker.writing != worker.channel.unsent:
            worker.writing = worker.channel.unsent
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.writing else 0)
            self._selector.modify(worker.channel.sock, events, partial(self._listen, worker))

    def _guard(self) -> None:
        if self._limit_s is not None:
            for worker in self._all:
                worker.guard(self._limit_s)

    # -- workers -----------------------------------------------------------------------------------
    def _hire(self) -> None:
        """One more worker; from a new nursery if the old one has ended. Raises NurseryError, OSError."""
        assert self._nursery is not None
        try:
            worker = PoolWorker(self._nursery, self._first)
        except NurseryError:
            self._nursery.close()
            self._nursery = Nursery(self._preload)
            worker = PoolWorker(self._nursery, self._first)
        self._all.append(worker)
        self._selector.register(worker.channel.sock, selectors.EVENT_READ, partial(self._listen, worker))
        self._selector.register(worker.pidfd, selectors.EVENT_READ, partial(self._replace, worker))

    def _listen(self, worker: PoolWorker) -> None:
        """Take what a worker says."""
        if worker.gone:  # it was buried in this round
            return
        worker.channel.flush()
        for message in worker.channel.receive():
            self._take(worker, message)
        if worker.channel.ended:
            self._selector.unregister(worker.channel.sock)  # its end follows, and that is waited for
            worker.kill()
        else:
            self._watch(worker)

    def _take(self, worker: PoolWorker, message: bytes) -> None:
        kind, body = message[:1], memoryview(message)[1:]
        if not worker.ready and kind == ERROR:
            raise NurseryError(f"the initializer failed: {pickle.loads(body)}")
        job = worker.finish()
        if kind == READY:
            worker.ready, self._stillborn = True, 0
        self._idle.append(worker)
        if job is not None:
            _settle(job.future, kind == ERROR, body)

    def _replace(self, worker: PoolWorker) -> None:
        """A worker has ended: fail the call that it was making, and have another one in its place."""
        assert self._nursery is not None
        if not worker.channel.ended:
            self._listen(worker)  # what it said at last still counts
        if worker.channel.sock.fileno() in self._selector.get_map():
            self._selector.unregister(worker.channel.sock)
        self._selector.unregister(worker.pidfd)
        reason, job = worker.last_words(self._nursery, self._limit_s), worker.finish()
        self._all.remove(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        worker.bury()
        if job is not None:
            job.future.set_exception(reason)
        self._stillborn += not worker.ready
        if self._stillborn > STILLBORN_MAX:
            raise NurseryError(f"workers end as soon as they begin: {reason}")
        self._hire()

    def _end(self) -> None:
        """No worker, no call and no descriptor is left."""
        for worker in self._all:
            worker.kill()
        if self._nursery is not None:
            self._nursery.close()
        with self._lock:
            left, bell = list(self._queue), self._bell
            self._queue.clear()
            self._closing, self._bell = True, -1
        for worker in self._all:
            if worker.job is not None:
                worker.job.future.set_exception(PoolBrokenError(self._problem))
            worker.bury()
        for job in left:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(PoolBrokenError(self._problem))
        self._selector.close()
        os.close(bell)


def _settle(future: Future[Any], failed: bool, body: memoryview) -> None:
    """Give a future what the worker answered."""
    try:
        value = pickle.loads(body)
    except Exception as error:
        failed, value = True, error
    if failed:
        future.set_exception(value)
    else:
        future.set_result(value)
