"""pool, pool_worker, nursery, worker: real processes, really killed; no call is lost and none is innocent's loss."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, as_completed
from pathlib import Path

import pytest

from tests.campaign import plays
from tests.campaign.rig import ROOT, wait_until
from xenaer.campaign.case import Task
from xenaer.campaign.run.playing import bare, play_tasks
from xenaer.campaign.run.pool import SupervisedPool
from xenaer.campaign.run.pool_errors import CaseHangError, PoolBrokenError, WorkerDiedError
from xenaer.campaign.run.rows import unpack
from xenaer.campaign.run.worker import WorkerTaskError

LIMIT_S = 0.6

pytestmark = pytest.mark.processes


@pytest.fixture(name="pool", scope="module")
def fixture_pool() -> Iterator[SupervisedPool]:
    with SupervisedPool(2, preload=["tests.campaign.plays"], case_limit_s=LIMIT_S) as pool:
        yield pool


def gone(pid: int) -> bool:
    """The process has ended, whether or not somebody has asked how."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


# -- as an Executor --------------------------------------------------------------------------------
def test_calls_are_answered(pool: SupervisedPool) -> None:
    assert list(pool.map(plays.double, range(1000))) == [2 * number for number in range(1000)]


def test_big_values_come_and_go(pool: SupervisedPool) -> None:
    value = os.urandom(3_000_000)
    assert pool.submit(bytes, value).result() == value


def test_exceptions_come_back_with_the_place_where_they_were_raised(pool: SupervisedPool) -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        pool.submit(int, "x").result()
    assert "in a worker:" in caught.value.__notes__[0]


def test_an_exception_that_cannot_be_sent_is_told(pool: SupervisedPool) -> None:
    with pytest.raises(WorkerTaskError, match="AwkwardError: awkward"):
        pool.submit(plays.raise_awkward).result()


def test_a_call_that_cannot_be_sent_fails_alone(pool: SupervisedPool) -> None:
    assert isinstance(pool.submit(lambda: 1).exception(), (AttributeError, pickle.PicklingError))
    assert pool.submit(plays.double, 4).result() == 8


def test_a_call_that_waits_can_be_cancelled(pool: SupervisedPool) -> None:
    running = [pool.submit(plays.pid_after, 0.2) for _ in range(2)]
    waiting = pool.submit(plays.double, 1)
    wait_until(lambda: all(future.running() for future in running))
    assert waiting.cancel()
    assert {future.result() for future in running} == set(pool.pids())


def test_an_initializer_runs_in_every_worker() -> None:
    with SupervisedPool(1, initializer=plays.mark) as pool:
        assert pool.submit(plays.marked).result()


def test_shutdown_waits_for_calls_that_were_made() -> None:
    pool = SupervisedPool(1)
    futures = [pool.submit(plays.double, number) for number in range(20)]
    pool.shutdown()
    assert [future.result() for future in futures] == list(range(0, 40, 2))
    with pytest.raises(RuntimeError):
        pool.submit(plays.double, 1)
    pool.shutdown()


def test_kill_ends_at_once_and_leaves_no_future_open() -> None:
    pool = SupervisedPool(2)
    futures = [pool.submit(plays.pid_after, 60) for _ in range(5)]
    wait_until(lambda: futures[1].running())
    pids = pool.pids()
    begin = time.monotonic()
    pool.kill()
    assert time.monotonic() - begin < 5
    assert all(future.done() for future in futures)
    assert sum(future.cancelled() for future in futures) == 3
    wait_until(lambda: all(gone(pid) for pid in pids))


def test_what_calls_print_does_not_get_into_the_results() -> None:
    code = """
from xenaer.campaign.run.pool import SupervisedPool
with SupervisedPool(1) as pool:
    pool.submit(print, "a driver's words").result()
print("results")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("results\n", "a driver's words\n")


# -- deaths ----------------------------------------------------------------------------------------
def test_a_death_is_one_calls_failure(pool: SupervisedPool) -> None:
    others = [pool.submit(plays.double, number) for number in range(50)]
    victim = pool.submit(os._exit, 3)
    others += [pool.submit(plays.double, number) for number in range(50, 100)]
    with pytest.raises(WorkerDiedError, match="the worker ended with exit status 3"):
        victim.result()
    assert [future.result() for future in others] == list(range(0, 200, 2))


def test_a_signal_is_named(pool: SupervisedPool) -> None:
    with pytest.raises(WorkerDiedError, match="the worker was killed by SIGSEGV"):
        pool.submit(signal.raise_signal, signal.SIGSEGV).result()


def tasks(*words: str, twice: bool = False) -> list[Task]:
    """Cases from number 10 on that do these things."""
    return [Task(number, {"do": word, "ms": 250}, twice) for number, word in enumerate(words, 10)]


def chunk(pool: SupervisedPool, cases: list[Task]) -> Future[list[bytes]]:
    """Have cases played as one call."""
    return pool.submit(play_tasks, plays.play, b"", bare(cases))


def numbers(packed: list[bytes]) -> list[int]:
    """Case numbers of packed rows."""
    return [unpack(data).number for data in packed]


def test_a_death_says_in_which_case_and_what_was_finished(pool: SupervisedPool) -> None:
    assert numbers(chunk(pool, tasks("pass", "pass")).result()) == [10, 11]
    with pytest.raises(WorkerDiedError, match="SIGKILL") as caught:
        chunk(pool, tasks("pass", "pass", "die", "pass")).result()
    assert caught.value.number == 12
    assert numbers(caught.value.kept) == [10, 11]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.number, again.kept, str(again)) == (12, caught.value.kept, str(caught.value))


def test_a_case_that_hangs_is_ended_and_named(pool: SupervisedPool) -> None:
    with pytest.raises(CaseHangError, match=r"no result within 0\.6 s of real time") as caught:
        chunk(pool, tasks("pass", "hang", "pass")).result()
    assert caught.value.number == 11
    assert numbers(caught.value.kept) == [10]


def test_the_limit_is_for_one_run_of_one_case(pool: SupervisedPool) -> None:
    """Not for a chunk; and a case that is run twice may take twice as long."""
    assert numbers(chunk(pool, tasks("sleep", "sleep", "sleep")).result()) == [10, 11, 12]
    slow = [Task(1, {"do": "sleep", "ms": 800}, twice=True)]
    assert numbers(chunk(pool, slow).result()) == [1]


def test_a_stopped_worker_does_not_stop_the_pool(pool: SupervisedPool) -> None:
    """Neither one in the middle of a case nor one that has not begun with its call."""
    stopped = chunk(pool, [Task(1, {"do": "sleep", "ms": 500})])
    wait_until(stopped.running)
    time.sleep(0.1)
    for pid in pool.pids():
        os.kill(pid, signal.SIGSTOP)
    unbegun = pool.submit(plays.double, 3)
    assert isinstance(stopped.exception(timeout=10), CaseHangError)
    assert isinstance(unbegun.exception(timeout=10), WorkerDiedError)
    assert pool.submit(plays.double, 3).result(timeout=10) == 6


def test_workers_are_killed_all_the_time_and_every_call_is_answered_once() -> None:
    """Whoever asks again gets every answer; no future stays open."""
    answered: dict[int, int] = {}
    chance = random.Random(1)
    ended = threading.Event()
    with SupervisedPool(3) as pool:

        def kill() -> None:
            while not ended.wait(chance.uniform(0.001, 0.02)):
                for pid in chance.sample(pool.pids(), k=min(1, len(pool.pids()))):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue

        killer = threading.Thread(target=kill)
        killer.start()
        deaths, left = 0, set(range(1500))
        while left:
            futures = {pool.submit(plays.double, number): number for number in left}
            for future in as_completed(futures, timeout=60):
                if isinstance(future.exception(), WorkerDiedError):
                    deaths += 1
                else:
                    assert futures[future] not in answered
                    answered[futures[future]] = future.result()
            left -= answered.keys()
        ended.set()
        killer.join()
    assert answered == {number: 2 * number for number in range(1500)}
    assert deaths


def test_a_dead_nursery_is_replaced() -> None:
    with SupervisedPool(2) as pool:
        pid = pool.submit(os.getppid).result()
        calls = [pool.submit(plays.pid_after, 30) for _ in range(2)]
        wait_until(lambda: all(call.running() for call in calls))
        os.kill(pid, signal.SIGKILL)
        assert {type(call.exception(timeout=10)) for call in calls} == {WorkerDiedError}
        assert pool.submit(os.getppid).result(timeout=10) != pid


# -- pools that cannot be --------------------------------------------------------------------------
def test_a_module_that_cannot_be_imported_is_named() -> None:
    with SupervisedPool(1, preload=["no_such_module"]) as pool:
        future = Future[int]()
        try:
            future = pool.submit(plays.double, 1)
        except PoolBrokenError as error:
            future.set_exception(error)
        with pytest.raises(PoolBrokenError, match="cannot import 'no_such_module': ModuleNotFoundError"):
            future.result(timeout=10)


def test_workers_that_die_at_once_are_not_tried_for_ever() -> None:
    with SupervisedPool(1, initializer=plays.die) as pool:
        future = pool.submit(plays.double, 1)
        with pytest.raises(PoolBrokenError, match=r"end as soon as they begin: the worker was killed by SIGKILL"):
            future.result(timeout=20)
        with pytest.raises(PoolBrokenError):
            pool.submit(plays.double, 1)


def test_a_failing_initializer_says_why() -> None:
    with SupervisedPool(1, initializer=plays.raise_awkward) as pool:
        future = pool.submit(plays.double, 1)
        with pytest.raises(PoolBrokenError, match="the initializer failed: AwkwardError: awkward"):
            future.result(timeout=20)


# -- nobody outlives the runner --------------------------------------------------------------------
RUNNER = """
import os, sys, time
from tests.campaign import plays
from xenaer.campaign.run.pool import SupervisedPool
pool = SupervisedPool(2)
calls = [pool.submit(plays.pid_after, 100)]
print(pool.submit(os.getppid).result(), *pool.pids(), flush=True)
if sys.argv[1] == "wait":
    time.sleep(100)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_no_process_outlives_a_runner(end: signal.Signals | None) -> None:
    """Idle workers, busy ones, and the nursery."""
    arguments = [sys.executable, "-c", RUNNER, "wait" if end else "end"]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        pids = [int(word) for word in runner.stdout.readline().split()]
        assert len(pids) == 3
        if end is not None:
            runner.send_signal(end)
        runner.wait(timeout=10)
    wait_until(lambda: all(gone(pid) for pid in pids))


def test_a_ctrl_c_reaches_the_runner_only() -> None:
    code = """
import os, signal, time
from tests.campaign import plays
from xenaer.campaign.run.pool import SupervisedPool
signal.signal(signal.SIGINT, lambda *_: print("told", flush=True))
with SupervisedPool(2) as pool:
    before = sorted(pool.submit(plays.pid_after, 0.3).result() for _ in range(1))
    call = pool.submit(plays.pid_after, 0.5)
    time.sleep(0.1)
    os.killpg(0, signal.SIGINT)
    for pid in pool.pids():
        os.kill(pid, signal.SIGINT)
    print(call.result() in pool.pids(), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, start_new_session=True
    )
    assert (done.stdout, done.stderr) == ("told\nTrue\n", "")
