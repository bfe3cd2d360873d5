"""The journals of a run: of the failing cases, and of a sample of the others, both bounded.

Kept are those with the lowest numbers. That does not depend on the order in which cases are finished, so a run that
was interrupted keeps the same ones as one that was not.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from pathlib import Path

from xenaer.campaign.run.rows import HAS_JOURNAL, Row
from xenaer.campaign.run.store import ResultStore

FAILING_MAX = 1000
SAMPLE_MAX = 100
SUFFIX = ".mpk"


class _Lowest:
    """The ``limit`` lowest numbers of those that were offered, with the names that belong to them."""

    def __init__(self, limit: int, known: Iterable[tuple[int, str]]) -> None:
        self._limit = limit
        self._heap = [(-number, name) for number, name in known]
        heapq.heapify(self._heap)

    @property
    def names(self) -> list[str]:
        """Names of all."""
        return [name for _, name in self._heap]

    def offer(self, number: int, name: str) -> str | None:
        """Take one in; returns the name of the one that there is no room for: an earlier one, this one, or none."""
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, (-number, name))
            return None
        return heapq.heappushpop(self._heap, (-number, name))[1]


class JournalFolder:
    """``path``, with one file per journal. Every method raises OSError; beginning also sqlite3.Error."""

    def __init__(self, path: Path, store: ResultStore) -> None:
        """Go on with what ``store`` says has been kept; files of cases that were never finished go."""
        self.path = path
        path.mkdir(exist_ok=True)
        self._kept = {good: _Lowest(limit, _known(store, good, limit)) for good, limit in LIMITS.items()}
        names = {name for kept in self._kept.values() for name in kept.names}
        self.drop(file.stem for file in path.glob(f"*{SUFFIX}") if file.stem not in names)

    def write(self, rows: Sequence[Row]) -> list[str]:
        """Write the journals of ``rows`` that belong to those that are kept; the names of those that no longer do."""
        dropped = []
        for row in rows:
            if row.journal is None:
                continue
            name = self._kept[bool(row.good)].offer(row.number, row.case_id)
            if name != row.case_id:
                self.file(row.case_id).write_bytes(row.journal)
            if name is not None:
                dropped.append(name)
        return dropped

    def drop(self, names: Iterable[str]) -> None:
        """Remove journals."""
        for name in names:
            self.file(name).unlink(missing_ok=True)

    def file(self, case_id: str) -> Path:
        """Where the journal of a case is, if it was kept."""
        return self.path / f"{case_id}{SUFFIX}"


LIMITS = {False: FAILING_MAX, True: SAMPLE_MAX}  # by whether the case is good


def _known(store: ResultStore, good: bool, limit: int) -> list[tuple[int, str]]:
    query = "SELECT number, case_id FROM cases WHERE flags & ? AND good = ? ORDER BY number LIMIT ?"
    return [(int(str(number)), str(name)) for number, name in store.query(query, [HAS_JOURNAL, int(good), limit])]


def counts(store: ResultStore) -> dict[str, dict[str, int]]:
    """How many journals are kept and were dropped, of failing cases and of others. Raises sqlite3.Error."""
    query = "SELECT count(*) FROM cases WHERE flags & ? AND good = ?"
    result = {}
    for kind, good in (("failing", False), ("sample", True)):
        total = int(str(next(store.query(query, [HAS_JOURNAL, int(good)]))[0]))
        result[kind] = {"kept": min(total, LIMITS[good]), "dropped": max(0, total - LIMITS[good])}
    return result
