"""One pass over all cases of a run: counts of everything that the page shows. Memory does not grow with the cases."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, islice
from typing import Any

from pydantic_core import from_json

from xenaer.campaign.case import Outcome
from xenaer.campaign.percentiles import Spread
from xenaer.campaign.store import ResultStore
from xenaer.report.columns import Columns

BATCH = 20_000
QUERY = "SELECT stratum, outcome, good, effect, guests, phases, recipe FROM cases"
CODES = {outcome.value: 2 * number for number, outcome in enumerate(Outcome)}  # one more if the case is good
STRATA_MAX = 400  # told apart; the others share one
PHASED_STRATA = 60  # have times of their own
OTHER_STRATA = "(other strata)"
ORIGINS_MAX = 600  # pairs of source and error; the others count for the source alone
OTHER_ERRORS = "others"
Batch = Sequence[tuple[Any, ...]]


class Counts:
    """``cells``: (row, column, code) counted, by pair of columns. ``blast``: (source, error, guests) counted."""

    def __init__(self, columns: Columns | None) -> None:
        self.columns = columns
        self.cases = 0
        self.strata: Counter[tuple[str, int]] = Counter()
        self.effects: Counter[int] = Counter()
        self.cells: dict[tuple[int, int], Counter[tuple[int, int, int]]] = defaultdict(Counter)
        self.blast: Counter[tuple[str, str, str]] = Counter()
        self.times: dict[tuple[str, str], Spread] = defaultdict(Spread)  # stratum, phase
        self._names: dict[str, str] = {}
        self._origins: set[tuple[str, str]] = set()

    def read(self, store: ResultStore) -> None:
        """Count all cases that are stored now. Raises sqlite3.Error."""
        for batch in _batches(store.query(QUERY)):
            self._take(batch)

    def _take(self, batch: Batch) -> None:
        strata, outcomes, goods, effects, guests, phases, recipes = zip(*batch, strict=True)
        names = [self._stratum(name) for name in strata]
        codes = [CODES[outcome] + good for outcome, good in zip(outcomes, goods, strict=True)]
        self.cases += len(batch)
        self.strata.update(zip(names, codes, strict=True))
        self.effects.update(effects)
        self._take_times(names, phases)
        if self.columns is not None:
            self._take_values(codes, guests, recipes)

    def _stratum(self, name: str) -> str:
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = name if len(self._names) < STRATA_MAX else OTHER_STRATA
        return found

    def _take_times(self, names: list[str], phases: Sequence[str]) -> None:
        several: dict[tuple[str, str], list[float]] = defaultdict(list)
        own = set(islice(self._names, PHASED_STRATA))
        for name, text in zip(names, phases, strict=True):
            stratum = name if name in own else OTHER_STRATA
            for phase, ms in from_json(text).items():
                several[stratum, phase].append(ms)
        for key, values in several.items():
            self.times[key].extend(values)

    def _take_values(self, codes: list[int], guests: Sequence[str], recipes: Sequence[str]) -> None:
        assert self.columns is not None
        numbers = self.columns.read([from_json(text) for text in recipes])
        for one, other in combinations(range(len(numbers)), 2):
            self.cells[one, other].update(zip(numbers[one], numbers[other], codes, strict=True))
        found = Counter(zip(self.columns.origins, guests, strict=True))
        for (origin, text), count in found.items():
            if origin not in self._origins and len(self._origins) >= ORIGINS_MAX:
                self.blast[origin[0], OTHER_ERRORS, text] += count
                continue
            self._origins.add(origin)
            self.blast[(*origin, text)] += count


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[Batch]:
    while batch := list(islice(rows, BATCH)):
        yield batch
