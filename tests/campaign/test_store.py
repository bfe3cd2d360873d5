"""store: all or nothing, readable while it is written, and what is asked of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from xenaer.campaign.case import CaseResult, Outcome
from xenaer.campaign.run import store as store_module
from xenaer.campaign.run.rows import Row, to_result, to_row
from xenaer.campaign.run.store import FORMAT, ResultStore


def row(number: int, *points: str, outcome: Outcome = Outcome.RECOVERED, stratum: str = "s", good: bool = True) -> Row:
    """A stored case."""
    coverage = frozenset(points)
    return to_row(CaseResult(number, f"{number:06}-x", stratum, outcome, good, coverage=coverage), {"n": number}, False)


@pytest.fixture(name="store")
def fixture_store(tmp_path: Path) -> ResultStore:
    return ResultStore.create(tmp_path / "results.sqlite")


def test_cases_come_back_in_the_order_of_their_numbers(store: ResultStore) -> None:
    rows = [row(number, "a", f"b{number % 2}") for number in (5, 3, 4, 9)]
    store.add(rows[:2])
    store.add(rows[2:])
    assert list(store.results()) == [to_result(rows[index]) for index in (1, 2, 0, 3)]
    assert [found.number for found in store.results("number > ?", [3], limit=2)] == [4, 5]
    assert store.ids(3, 5) == {3: "000003-x", 4: "000004-x"}
    assert store.count() == 4
    store.close()


def test_counts(store: ResultStore) -> None:
    store.add([row(1), row(2), row(3, stratum="r"), row(4, outcome=Outcome.LOST, good=False)])
    assert store.counts() == [("r", "recovered", 1, 1), ("s", "lost", 1, 0), ("s", "recovered", 2, 2)]
    store.close()


def test_coverage_counts_cases_and_names_the_first(store: ResultStore) -> None:
    store.add([row(7, "a", "b"), row(8, "a"), row(9)])
    store.add([row(2, "b", "c"), row(3, "a", "b")])
    assert store.coverage() == [("a", 3, 3), ("b", 3, 2), ("c", 1, 2)]
    assert store.query("SELECT count(*) FROM coverage_sets").__next__() == (4,)
    store.close()


def test_what_is_remembered_is_bounded(store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "REMEMBERED", 3)
    rows = [row(number, f"p{number % 11}", f"q{number % 7}") for number in range(100)]
    for begin in range(0, 100, 10):
        store.add(rows[begin : begin + 10])
    assert list(store.results()) == [to_result(each) for each in rows]
    assert len(store.coverage()) == 18
    store.close()


def test_a_batch_is_stored_whole_or_not_at_all(store: ResultStore) -> None:
    store.add([row(1, "a")])
    with pytest.raises(sqlite3.IntegrityError):
        store.add([row(2, "b"), row(1, "c")])
    assert store.count() == 1
    assert store.coverage() == [("a", 1, 1)]
    store.add([row(2, "b")])  # what was taken back is not remembered
    assert store.coverage() == [("a", 1, 1), ("b", 1, 2)]
    store.close()


def test_it_can_be_read_while_it_is_written(store: ResultStore, tmp_path: Path) -> None:
    store.add([row(1)])
    reader = ResultStore(tmp_path / "results.sqlite", read_only=True)
    assert reader.count() == 1
    found = reader.rows()
    next(found)
    store.add([row(2)])
    with closing(ResultStore(tmp_path / "results.sqlite", read_only=True)) as another:
        assert another.count() == 2
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.add([row(3)])
    store.close()
    assert reader.count() == 2
    reader.close()


def test_when_it_is_closed_it_is_one_file(store: ResultStore, tmp_path: Path) -> None:
    store.add([row(1)])
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["results.sqlite"]
    again = ResultStore(tmp_path / "results.sqlite")
    assert (again.count(), again.format) == (1, FORMAT)
    again.close()
