"""The results of a run in SQLite: what was added is there after a SIGKILL, and a million cases are no trouble.

Write-ahead logging, one transaction per batch. The schema is documented in docs/RUNS.md. Errors of the database
leave this module as ``sqlite3.Error``; ``run_folder`` says what they mean to the user.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from xenaer.campaign.case import CaseResult
from xenaer.campaign.run.rows import Row, to_result

FORMAT = 1  # of the whole run directory; any change of it is a new number
SCHEMA = """
CREATE TABLE cases (
    number INTEGER PRIMARY KEY, case_id TEXT NOT NULL, stratum TEXT NOT NULL, outcome TEXT NOT NULL,
    good INTEGER NOT NULL, text TEXT NOT NULL, problems TEXT NOT NULL, effect INTEGER NOT NULL, guests TEXT NOT NULL,
    phases TEXT NOT NULL, digest TEXT NOT NULL, recipe TEXT NOT NULL, feedback TEXT NOT NULL, flags INTEGER NOT NULL,
    wall_s REAL NOT NULL, coverage_set INTEGER NOT NULL REFERENCES coverage_sets (id)
);
CREATE TABLE coverage_sets (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE);
CREATE TABLE coverage_points (id INTEGER PRIMARY KEY, point TEXT NOT NULL UNIQUE);
CREATE TABLE coverage_members (
    set_id INTEGER NOT NULL REFERENCES coverage_sets (id), point_id INTEGER NOT NULL REFERENCES coverage_points (id),
    PRIMARY KEY (set_id, point_id)
) WITHOUT ROWID;
"""
STORED = 15  # fields of a row that are columns as they are; then comes the coverage
REMEMBERED = 10_000  # coverage sets and points whose numbers are kept at hand
NO_LIMIT = -1
BUSY_MS = 10_000  # how long somebody who reads the database may keep it from being written
INSERT = f"INSERT INTO cases VALUES ({', '.join('?' * (STORED + 1))})"


class ResultStore:
    """The database ``path``; ``format`` is the one that it was made with. Every method raises sqlite3.Error."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open an existing one, see ``create``."""
        self._read_only = read_only
        mode = "ro" if read_only else "rw"
        self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
        self._sets: dict[bytes, int] = {}
        self._points: dict[str, int] = {}
        self._set_points: dict[int, tuple[str, ...]] = {}
        try:
            self._db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            self.format = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if not read_only:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def create(cls, path: Path) -> ResultStore:
        """A new, empty database."""
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.executescript(SCHEMA)
            db.execute(f"PRAGMA user_version = {FORMAT}")
        return cls(path)

    # -- writing -----------------------------------------------------------------------------------
    def add(self, rows: Sequence[Row]) -> None:
        """Store cases, all or none; once this returns they outlive this process."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(INSERT, [(*row[:STORED], self._set_id(row)) for row in rows])
            self._db.execute("COMMIT")
        except BaseException:
            self._sets.clear()  # they may be of this transaction
            self._points.clear()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _set_id(self, row: Row) -> int:
        known = self._sets.get(row.set_digest)
        if known is not None:
            return known
        if len(self._sets) >= REMEMBERED:
            self._sets.clear()
        found = self._db.execute("SELECT id FROM coverage_sets WHERE digest = ?", [row.set_digest]).fetchone()
        number = found[0] if found is not None else self._add_set(row)
        self._sets[row.set_digest] = number
        return int(number)

    def _add_set(self, row: Row) -> int:
        number = self._db.execute("INSERT INTO coverage_sets (digest) VALUES (?)", [row.set_digest]).lastrowid
        assert number is not None
        members = [(number, self._point_id(point)) for point in row.points]
        self._db.executemany("INSERT INTO coverage_members VALUES (?, ?)", members)
        return number

    def _point_id(self, point: str) -> int:
        known = self._points.get(point)
        if known is not None:
            return known
        if len(self._points) >= REMEMBERED:
            self._points.clear()
        self._db.execute("INSERT OR IGNORE INTO coverage_points (point) VALUES (?)", [point])
        number = int(self._db.execute("SELECT id FROM coverage_points WHERE point = ?", [point]).fetchone()[0])
        self._points[point] = number
        return number

    def close(self) -> None:
        """Close it; as one file that can be copied, unless somebody else is reading it just now."""
        try:
            if not self._read_only:
                self._db.execute("PRAGMA busy_timeout = 0")
                self._db.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError:
            return  # a reader, or a full disk: everything is there all the same, beside it
        finally:
            self._db.close()

    # -- reading -----------------------------------------------------------------------------------
    def count(self) -> int:
        """How many cases are finished."""
        return int(self._db.execute("SELECT count(*) FROM cases").fetchone()[0])

    def ids(self, first: int, stop: int) -> dict[int, str]:
        """Number and id of the finished cases from number ``first`` on, before ``stop``."""
        query = "SELECT number, case_id FROM cases WHERE number >= ? AND number < ?"
        return dict(self._db.execute(query, [first, stop]))

    def results(self, where: str = "1", values: Sequence[object] = (), limit: int = NO_LIMIT) -> Iterator[CaseResult]:
        """The first ``limit`` finished cases by number; ``where`` is an SQL condition on ``cases``."""
        return map(to_result, self.rows(where, values, limit))

    def rows(self, where: str = "1", values: Sequence[object] = (), limit: int = NO_LIMIT) -> Iterator[Row]:
        """The same as they are stored, without journals."""
        query = f"SELECT * FROM cases WHERE {where} ORDER BY number LIMIT ?"
        for *stored, set_id in self._db.execute(query, [*values, limit]):
            yield Row._make((*stored, b"", self._points_of(set_id), None))

    def _points_of(self, set_id: int) -> tuple[str, ...]:
        known = self._set_points.get(set_id)
        if known is not None:
            return known
        if len(self._set_points) >= REMEMBERED:
            self._set_points.clear()
        query = """SELECT point FROM coverage_members JOIN coverage_points ON id = point_id
                   WHERE set_id = ? ORDER BY point"""
        points = tuple(sys.intern(point) for (point,) in self._db.execute(query, [set_id]))
        self._set_points[set_id] = points
        return points

    def query(self, sql: str, values: Sequence[object] = ()) -> Iterator[tuple[object, ...]]:
        """Rows of any SELECT."""
        return iter(self._db.execute(sql, values))

    def counts(self) -> list[tuple[str, str, int, int]]:
        """(stratum, outcome, how many, how many of them good), sorted."""
        query = "SELECT stratum, outcome, count(*), sum(good) FROM cases GROUP BY 1, 2 ORDER BY 1, 2"
        return list(self._db.execute(query))

    def coverage(self) -> list[tuple[str, int, int]]:
        """(point, number of cases that reached it, number of the first one), by point."""
        query = """
            WITH used AS (SELECT coverage_set, count(*) AS cases, min(number) AS first FROM cases GROUP BY coverage_set)
            SELECT point, sum(cases), min(first) FROM used
            JOIN coverage_members ON set_id = coverage_set JOIN coverage_points ON id = point_id
            GROUP BY point ORDER BY point"""
        return list(self._db.execute(query))
