"""One pass over all cases of a run: counts of everything that the page shows. Memory does not grow with the cases."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations, islice
from operator import add
from typing import Any

from pydantic_core import from_json

from xenaer.campaign.case import Outcome
from xenaer.campaign.run.store import ResultStore
from xenaer.campaign.verdict.percentiles import Spread
from xenaer.report.columns import VALUES_MAX, Columns

BATCH = 2_000
QUERY = "SELECT stratum, outcome, good, effect, guests, phases, recipe FROM cases"
CODES = {outcome.value: 2 * number for number, outcome in enumerate(Outcome)}  # one more if the case is good
STRATA_MAX = 400  # told apart; the others share one
PHASED_STRATA = 60  # have times of their own
OTHER_STRATA = "(other strata)"
ORIGINS_MAX = 600  # pairs of source and error; the others count for the source alone
OTHER_ERRORS = "others"
CODE, ROW = 1 << 5, 1 << 16  # a cell is one number, which is counted faster than a tuple: row, column, code
assert VALUES_MAX < ROW // CODE and max(CODES.values()) + 1 < CODE  # noqa: PT018
Batch = Sequence[tuple[Any, ...]]


class Counts:
    """``strata``: (stratum, code) counted, ``effects``: bits, ``blast``: (source, error, guests)."""

    def __init__(self, columns: Columns | None) -> None:
        self.columns = columns
        self.cases = 0
        self.strata: Counter[tuple[str, int]] = Counter()
        self.effects: Counter[int] = Counter()
        self._cells: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        self.blast: Counter[tuple[str, str, str]] = Counter()
        self.times: dict[tuple[str, str], Spread] = defaultdict(Spread)  # stratum, phase
        self._names: dict[str, str] = {}
        self._origins: set[tuple[str, str]] = set()

    def cells(self) -> Iterator[tuple[tuple[int, int], list[tuple[int, int, int, int]]]]:
        """Per pair of columns: row, column, code and how many cases, sorted."""
        for pair, counted in self._cells.items():
            cells = [(key // ROW, key % ROW // CODE, key % CODE, count) for key, count in counted.items()]
            yield pair, sorted(cells)

    def read(self, store: ResultStore) -> None:
        """Count all cases that are stored now. Raises sqlite3.Error."""
        with _no_search_for_circles():
            for batch in _batches(store.query(QUERY)):
                self._take(batch)

    def _take(self, batch: Batch) -> None:
        strata, outcomes, goods, effects, guests, phases, recipes = zip(*batch, strict=True)
        known = self._names
        names = [known[name] if name in known else self._stratum(name) for name in strata]
        codes = [CODES[outcome] + good for outcome, good in zip(outcomes, goods, strict=True)]
        self.cases += len(batch)
        self.strata.update(zip(names, codes, strict=True))
        self.effects.update(effects)
        self._take_times(names, phases)
        if self.columns is not None:
            self._take_values(codes, guests, recipes)

    def _stratum(self, name: str) -> str:
        found = self._names[name] = name if len(self._names) < STRATA_MAX else OTHER_STRATA
        return found

    def _take_times(self, names: list[str], phases: Sequence[str]) -> None:
        own = set(islice(self._names, PHASED_STRATA))
        alike: dict[tuple[str, ...], list[Iterable[float]]] = defaultdict(list)  # stratum and phases -> their times
        for name, found in zip(names, _parsed(phases), strict=True):
            alike[name, *found].append(found.values())
        for (name, *given), rows in alike.items():
            for phase, times in zip(given, zip(*rows, strict=True), strict=True):
                self.times[name if name in own else OTHER_STRATA, phase].extend(times)

    def _take_values(self, codes: list[int], guests: Sequence[str], recipes: Sequence[str]) -> None:
        assert self.columns is not None
        numbers = self.columns.read(_parsed(recipes))
        rows = [[number * ROW for number in column] for column in numbers]
        ends = [[number * CODE + code for number, code in zip(column, codes, strict=True)] for column in numbers]
        for one, other in combinations(range(len(numbers)), 2):
            self._cells[one, other].update(map(add, rows[one], ends[other]))
        found = Counter(zip(self.columns.origins, guests, strict=True))
        for (origin, text), count in found.items():
            if origin not in self._origins and len(self._origins) >= ORIGINS_MAX:
                self.blast[origin[0], OTHER_ERRORS, text] += count
                continue
            self._origins.add(origin)
            self.blast[(*origin, text)] += count


@contextmanager
def _no_search_for_circles() -> Iterator[None]:
    """Millions of short-lived dictionaries, none in a circle: looking for circles took a third of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _parsed(texts: Sequence[str]) -> list[Any]:
    """Many JSON texts at once, which is faster."""
    found: list[Any] = from_json(f"[{','.join(texts)}]")
    return found


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[Batch]:
    while batch := list(islice(rows, BATCH)):
        yield batch
