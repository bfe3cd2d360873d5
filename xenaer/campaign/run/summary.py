"""What a run came to, in counts: always taken from the store, so that it does not matter in how many sittings."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from xenaer.campaign.case import HASH_BYTES
from xenaer.campaign.run.journals import counts as journal_counts
from xenaer.campaign.run.run_folder import RESULTS, RunFolder, explained
from xenaer.campaign.run.store import ResultStore

FAILURES_MAX = 1000  # listed one by one; all of them are in the database


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that is not good."""

    number: int
    case_id: str
    stratum: str
    outcome: str
    text: str
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of a run. ``complete``: the exploration came to its end. ``digest``: equal for equal results.

    ``strata`` are counts of outcomes per stratum; ``failures`` are the first ones of ``failing``; ``coverage`` is
    how many cases reached each point; ``journals`` how many were kept and dropped.
    """

    complete: bool
    cases: int
    failing: int
    outcomes: dict[str, int]
    strata: dict[str, dict[str, int]]
    failures: list[Failure]
    coverage: dict[str, int]
    journals: dict[str, dict[str, int]]
    digest: str

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def summarize(folder: RunFolder, complete: bool) -> Summary:
    """Count what is stored. Raises RunFolderError."""
    store = folder.store
    outcomes: dict[str, int] = {}
    strata: dict[str, dict[str, int]] = {}
    cases = failing = 0
    with explained(folder.path / RESULTS):
        for stratum, outcome, count, good in store.counts():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
            strata.setdefault(stratum, {})[outcome] = count
            cases += count
            failing += count - good
        return Summary(
            complete=complete,
            cases=cases,
            failing=failing,
            outcomes=dict(sorted(outcomes.items())),
            strata=strata,
            failures=_failures(store),
            coverage={point: count for point, count, _ in store.coverage()},
            journals=journal_counts(store),
            digest=_digest(store),
        )


def _failures(store: ResultStore) -> list[Failure]:
    found = store.results("good = 0", limit=FAILURES_MAX)
    return [Failure(c.number, c.case_id, c.stratum, c.outcome.value, c.text, c.problems) for c in found]


def _digest(store: ResultStore) -> str:
    """One hash over the ids, outcomes and journals' hashes of all cases."""
    whole = hashlib.blake2b(digest_size=HASH_BYTES)
    for row in store.query("SELECT case_id, outcome, good, digest FROM cases ORDER BY number"):
        whole.update("\t".join(map(str, row)).encode() + b"\n")
    return whole.hexdigest()
