"""The table of mutations: every row still fits its module, and only the hardened cores are touched."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from protocol.topology import DEFECTS
from tests.tidy.sources import ROOT
from xenaer.campaign.mutants.catalogue import (
    CONTROL,
    DEFECT_LABELS,
    MUTATION_ROWS,
    MUTATIONS,
    kind_of,
    labels_like,
    mutant,
)
from xenaer.campaign.mutants.documents import labels_in
from xenaer.campaign.mutants.mutation import CORES, Mutation, MutationError

LEAST = 45


def source(row: Mutation) -> Path:
    """The file of a row's module."""
    return ROOT / f"{row.module.replace('.', '/')}.py"


@pytest.mark.parametrize("row", MUTATION_ROWS, ids=lambda row: row.label)
def test_a_row_fits_its_module(row: Mutation) -> None:
    """What it replaces stands there once, and what comes of it can be compiled and is another program."""
    text = source(row).read_text(encoding="utf-8")
    changed = row.applied(text)
    assert compile(changed, row.module, "exec").co_code is not None
    assert changed != text
    assert row.breaks
    assert row.breaks.endswith(")"), "cites the rule that it breaks"


def test_labels_are_unique_and_no_defects() -> None:
    assert len(MUTATIONS) == len(MUTATION_ROWS)
    assert not set(MUTATIONS) & (DEFECTS | {CONTROL})


def test_only_the_hardened_cores_are_mutated() -> None:
    outside = [r.label for r in MUTATION_ROWS if not any(f"{r.module}.".startswith(f"{core}.") for core in CORES)]
    assert not outside


def test_there_are_enough_and_everywhere() -> None:
    assert len(MUTATION_ROWS) >= LEAST
    found = Counter(next(c for c in CORES if f"{r.module}.".startswith(f"{c}.")) for r in MUTATION_ROWS)
    assert set(found) == set(CORES)


def test_no_two_rows_are_the_same() -> None:
    assert len({(row.module, row.old, row.new) for row in MUTATION_ROWS}) == len(MUTATION_ROWS)


@pytest.mark.parametrize("text", ["a = 1\n", "old old\n"])
def test_a_row_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(MutationError, match=r"stands [02] times"):
        Mutation("x", "m", "old", "new", "nothing").applied(text)


def test_patterns_choose_mutants() -> None:
    assert labels_like(["D1"], [], control=True) == ["D1", CONTROL]
    assert labels_like(["*"], [], control=False) == list(DEFECT_LABELS)
    assert {kind_of(label) for label in labels_like([], ["xs-*"], control=False)} == {"mutation"}
    assert labels_like(["E1"], [], control=True) == []


def test_an_unknown_mutant_is_not_taken_for_the_control() -> None:
    assert mutant(CONTROL) == ("", None)
    with pytest.raises(KeyError):
        mutant("no-such-mutant")


def test_the_document_has_every_mutant() -> None:
    """Written by ``python -m xenaer.campaign.mutants.documents``; that its results are current is not tested."""
    text = (ROOT / "docs" / "MUTANTS.md").read_text(encoding="utf-8")
    assert labels_in(text) == [*DEFECT_LABELS, *MUTATIONS]
