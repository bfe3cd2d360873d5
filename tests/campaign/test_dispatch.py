"""dispatch, playing: every case has exactly one result, on any executor, whoever dies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.campaign.plays import play
from xenaer.campaign.case import CaseResult, Recipe, Task
from xenaer.campaign.run.dispatch import Crew, Dispatcher, ExecutorError
from xenaer.campaign.run.pool import SupervisedPool
from xenaer.campaign.run.rows import Row


@pytest.fixture(name="pool", scope="module")
def fixture_pool() -> Iterator[SupervisedPool]:
    with SupervisedPool(2, preload=["tests.campaign.plays"], case_limit_s=1.0) as pool:
        yield pool


def tasks(recipes: list[Recipe], first: int = 100) -> list[Task]:
    """Tasks from number ``first`` on."""
    return [Task(number, recipe) for number, recipe in enumerate(recipes, first)]


def played(executor: Executor, recipes: list[Recipe], chunk_s: float = 0.15) -> list[Row]:
    """All rows, by number."""
    dispatcher = Dispatcher(Crew(executor, 2, chunk_s), play, b"payload")
    return sorted(row for rows in dispatcher.play(tasks(recipes)) for row in rows)


def outcomes(rows: list[Row]) -> list[str]:
    """One outcome per case, the numbers being complete."""
    assert [row.number for row in rows] == list(range(100, 100 + len(rows)))
    return [row.outcome for row in rows]


PLAIN: list[Recipe] = [{"do": "pass", "n": n} for n in range(400)]


def without_time(rows: list[Row]) -> list[Row]:
    """Rows as they would be in another run."""
    return [row._replace(wall_s=0.0) for row in rows]


@pytest.mark.processes
def test_every_executor_gives_the_same_rows(pool: SupervisedPool) -> None:
    rows = without_time(played(pool, PLAIN))
    assert outcomes(rows) == ["recovered"] * 400
    with ThreadPoolExecutor(2) as threads:
        assert without_time(played(threads, PLAIN)) == rows
    with ProcessPoolExecutor(2) as processes:
        assert without_time(played(processes, PLAIN)) == rows


@pytest.mark.processes
def test_deaths_hangs_and_mistakes_are_told_apart(pool: SupervisedPool, tmp_path: Path) -> None:
    """In the middle of others, none of which is lost, or played although it had been finished."""
    recipes: list[Recipe] = [{"do": "count", "file": str(tmp_path / str(n))} for n in range(60)]
    recipes[7] = {"do": "die"}
    recipes[20] = {"do": "hang"}
    recipes[33] = {"do": "raise"}
    recipes[34] = {"do": "exit", "stratum": "leaving"}
    recipes[50] = {"do": "die-once", "mark": str(tmp_path / "mark")}
    rows = played(pool, recipes)
    expected = ["recovered"] * 60
    expected[7] = expected[33] = expected[34] = "harness-error"
    expected[20] = "hang"
    assert outcomes(rows) == expected
    assert rows[7].text == "its worker died every time: the worker was killed by SIGKILL"
    assert rows[20].text == "no result within 1 s of real time"
    assert rows[33].text == "ValueError: the driver's own mistake"
    assert "plays.py:" in rows[33].problems_json
    assert (rows[34].text, rows[34].stratum) == ("SystemExit: 3", "leaving")
    assert not any(row.good for row, outcome in zip(rows, expected, strict=True) if outcome != "recovered")
    assert {file.read_text() for file in tmp_path.glob("[0-9]*")} == {"x\n"}


@pytest.mark.processes
def test_many_deaths(pool: SupervisedPool, tmp_path: Path) -> None:
    recipes: list[Recipe] = [
        {"do": "die-once", "mark": str(tmp_path / str(n))} if n % 9 == 4 else {"do": "pass"} for n in range(200)
    ]
    assert outcomes(played(pool, recipes)) == ["recovered"] * 200


@pytest.mark.processes
def test_a_pool_that_cannot_be_ends_the_run() -> None:
    with SupervisedPool(1, preload=["no_such_module"]) as pool, pytest.raises(ExecutorError, match="no_such_module"):
        played(pool, PLAIN)


@pytest.mark.processes
def test_a_standard_pool_that_breaks_ends_the_run() -> None:
    """It cannot do anything else, and what is finished is kept by the runner."""
    with ProcessPoolExecutor(1) as pool, pytest.raises(ExecutorError, match="the executor is broken"):
        played(pool, [{"do": "die"}])


class Refusing(Executor):
    """Fails calls, always or every third one, for a reason of its own."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._calls = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._calls += 1
        future: Future[Any] = Future()
        if self._calls % self._every == 0:
            future.set_exception(OSError("the network is down"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_a_chunk_that_is_lost_on_its_way_is_sent_again() -> None:
    assert outcomes(played(Refusing(3), PLAIN)) == ["recovered"] * 400


def test_nobody_tries_for_ever() -> None:
    with pytest.raises(ExecutorError, match="20 chunks in a row failed, the last one with: OSError: the network"):
        played(Refusing(1), PLAIN)


def test_one_case_that_never_arrives_is_a_harness_error() -> None:
    assert [row.outcome for row in played(Refusing(1), PLAIN[:1])] == ["harness-error"]


def test_an_executor_that_was_shut_down_is_said() -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(ExecutorError, match="takes no more work"):
        played(pool, PLAIN)


def wrong_number(payload: bytes, chunk: list[Task]) -> list[CaseResult]:
    """The result of another case."""
    results = play(payload, chunk)
    results[0].number += 1
    return results


def test_a_result_of_another_case_is_noticed() -> None:
    with ThreadPoolExecutor(1) as pool:
        (row,) = [row for rows in Dispatcher(Crew(pool, 1), wrong_number, b"").play(tasks([{}])) for row in rows]
    assert row.text == "ValueError: the result of case 100 says that it is of case 101"


def test_stop_gives_what_is_finished_and_hands_out_nothing_more() -> None:
    begun = threading.Semaphore(0)

    def slow(payload: bytes, chunk: list[Task]) -> list[CaseResult]:
        begun.release()
        return play(payload, chunk)

    with ThreadPoolExecutor(1) as pool:
        dispatcher = Dispatcher(Crew(pool, 1), slow, b"")
        found = []
        for rows in dispatcher.play(tasks([{"do": "sleep", "ms": 20}] * 100)):
            found += rows
            if len(found) >= 3:
                dispatcher.stop()
    assert 3 <= len(found) < 20
    assert len(found) <= begun._value <= len(found) + 60
    assert not any(dispatcher.play(tasks([{}])))
