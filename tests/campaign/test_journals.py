"""journals: bounded, and the same ones whatever the order in which cases are finished."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from xenaer.campaign.case import CaseResult, Outcome
from xenaer.campaign.run import journals
from xenaer.campaign.run.journals import JournalFolder, counts
from xenaer.campaign.run.rows import Row, to_row
from xenaer.campaign.run.store import ResultStore


def row(number: int, good: bool, journal: bool = True) -> Row:
    """A case with a journal."""
    data = f"journal of {number}".encode() if journal else None
    return to_row(CaseResult(number, f"{number:06}-x", "", Outcome.LOST, good, journal=data), {}, False)


ROWS = [row(number, number % 3 == 0, number % 5 != 0) for number in range(60)]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "LIMITS", {False: 6, True: 3})


def kept(folder: Path) -> dict[str, bytes]:
    """What is in the folder."""
    return {path.stem: path.read_bytes() for path in folder.iterdir()}


LOWEST = {
    f"{number:06}-x": f"journal of {number}".encode()
    for good, limit in ((False, 6), (True, 3))
    for number in [n for n in range(60) if n % 5 and (n % 3 == 0) == good][:limit]
}


@pytest.mark.parametrize("seed", range(4))
def test_the_lowest_numbers_are_kept(seed: int, tmp_path: Path) -> None:
    """In batches of any order, also if the runner is killed in between, before or after it has stored them."""
    chance = random.Random(seed)
    store = ResultStore.create(tmp_path / "results.sqlite")
    folder = JournalFolder(tmp_path / "journals", store)
    rows = list(ROWS)
    chance.shuffle(rows)
    while rows:
        batch = rows[:7]
        dropped = folder.write(batch)
        if chance.random() < 0.5:
            store.add(batch)
            if chance.random() < 0.5:
                folder.drop(dropped)
            rows = rows[7:]
        else:
            folder = JournalFolder(tmp_path / "journals", store)
    JournalFolder(tmp_path / "journals", store)
    assert kept(tmp_path / "journals") == LOWEST
    assert counts(store) == {"failing": {"kept": 6, "dropped": 26}, "sample": {"kept": 3, "dropped": 13}}
    store.close()


def test_a_case_says_where_its_journal_is(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path / "results.sqlite")
    folder = JournalFolder(tmp_path / "journals", store)
    assert folder.write([row(4, False)]) == []
    assert folder.file("000004-x").read_bytes() == b"journal of 4"
    store.close()
