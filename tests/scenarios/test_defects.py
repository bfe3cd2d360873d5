"""The table defect x scenario (xen-pci.md 7.3, appendix C.8): each defect alone changes what comes of a scenario."""

from __future__ import annotations

from functools import cache

import pytest

from dom0_pciback.pciback.profile import Defect
from tests.tidy.sources import ROOT
from xenaer.scenarios.documents import defects_text, read_defects
from xenaer.scenarios.library import PLAYED, SCENARIOS
from xenaer.scenarios.outcome import Outcome
from xenaer.scenarios.scenario import play
from xenaer.scenarios.table import Change

TEXT = (ROOT / "docs" / "DEFECTS.md").read_text(encoding="utf-8")
TABLE = {(change.defect, change.scenario): change.fields for change in read_defects(TEXT)}
STRIDE = 7  # of the pairs that change nothing, every seventh is played


@cache
def hardened(name: str) -> Outcome:
    return play(SCENARIOS[name], "hardened")


def changed(defect: str, name: str) -> tuple[str, ...]:
    return play(SCENARIOS[name], "hardened", [defect]).changed(hardened(name))


@pytest.mark.parametrize("defect", list(Defect))
def test_each_defect_changes_an_outcome(defect: Defect) -> None:
    rows = [name for each, name in TABLE if each == defect]
    assert rows
    for name in rows:
        assert changed(defect, name) == TABLE[defect, name], name


@pytest.mark.parametrize("defect", list(Defect))
def test_the_rest_of_the_table_is_empty(defect: Defect) -> None:
    empty = [scenario.name for scenario in PLAYED if (defect, scenario.name) not in TABLE]
    for name in empty[list(Defect).index(defect) % STRIDE :: STRIDE]:
        assert changed(defect, name) == (), name


def test_the_document_is_what_its_entries_say() -> None:
    assert defects_text(Change(*pair, fields) for pair, fields in TABLE.items()) == TEXT
