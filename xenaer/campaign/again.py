"""One case of a run again: played to the bit as it was, or made as small as it still fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from xenaer.campaign.alone import play_alone
from xenaer.campaign.build import Builder
from xenaer.campaign.case import CaseResult, Task
from xenaer.campaign.form import MUTANT, SCENARIO
from xenaer.campaign.run.rows import Row, to_result
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.running import campaign_of
from xenaer.campaign.smallest import NoCaseError, Shrunk, smallest
from xenaer.journal import Entry, entry, line, text_line

SIMULATED = "simulated"


@dataclass(slots=True)
class Replayed:
    """What a case came to then and now. ``exact``: there is a journal, and its world promises the same one."""

    before: CaseResult
    now: CaseResult
    exact: bool

    @property
    def same(self) -> bool:
        """The same journal to the bit; where the world cannot promise that, the same outcome."""
        return self.before.digest == self.now.digest if self.exact else self.before.outcome == self.now.outcome

    def entries(self) -> list[Entry]:
        """Its journal, times counted from its beginning."""
        records = msgpack.unpackb(self.now.journal or b"\x90", use_list=False)
        return [entry(party, (time, *rest)) for time, party, *rest in records]

    def journal_lines(self) -> Iterator[str]:
        """The journal as JSON Lines."""
        return map(line, self.entries())

    def trace(self) -> Iterator[str]:
        """The journal for people."""
        return map(text_line, self.entries())

    def lines(self) -> Iterator[str]:
        """For people."""
        now = self.now
        yield f"{now.case_id} {self.before.stratum}: {now.outcome}: {now.text}"
        yield from (f"  {problem}" for problem in now.problems)
        if not self.exact:
            yield "the outcome is the same" if self.same else f"DIFFERENT: in the run it was {self.before.outcome}"
        elif self.same:
            yield f"identical: journal {now.digest}"
        else:
            yield f"DIFFERENT: journal {now.digest}, in the run it was {self.before.digest}"


def find_case(folder: RunFolder, name: str) -> Row:
    """The case whose id begins with ``name``. Raises NoCaseError, RunFolderError."""
    found = list(folder.store.rows("substr(case_id, 1, ?) = ?", [len(name), name], 2))
    if len(found) == 1:
        return found[0]
    if found:
        raise NoCaseError(f"{name!r} is the beginning of several case ids, {found[0].case_id} and {found[1].case_id}")
    some = ", ".join(row.case_id for row in folder.store.rows("good = 0", [], 5)) or "none failed"
    raise NoCaseError(f"no case {name!r} in {folder.path}; failed ones are: {some}")


def replay(path: Path, name: str) -> Replayed:
    """Play a case of the run in ``path`` again. Raises NoCaseError, RunFolderError, InputError."""
    with RunFolder.read(path) as folder:
        row, options = find_case(folder, name), folder.options
    campaign, before = campaign_of(options), to_result(row)
    now = play_alone(campaign, options.world, Task(row.number, _recipe(row), keep=True))
    # Without a journal in the run (its worker was killed) there is only the outcome to compare.
    return Replayed(before, now, options.world == SIMULATED and bool(before.digest))


def _recipe(row: Row) -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads(row.recipe_json)
    return recipe


def shrink_case(path: Path, name: str, output: Path | None) -> Shrunk:
    """Write the smallest file that fails as a case does. Raises NoCaseError, RunFolderError, InputError, OSError."""
    with RunFolder.read(path) as folder:
        row, campaign = find_case(folder, name), campaign_of(folder.options)
    before = to_result(row)
    if before.good:
        raise NoCaseError(f"{before.case_id} did not fail: {before.outcome}")
    if SCENARIO in campaign.axes:
        raise NoCaseError(f"{before.case_id} is a scenario of the library, which cannot be made smaller")
    if MUTANT in campaign.axes:
        raise NoCaseError(f"{before.case_id} is a mutant, which cannot be made smaller")
    target = output or Path(f"{before.case_id}.yaml")
    case = Builder(campaign).build(row.number, _recipe(row))
    return smallest(campaign, case, before, target, folder.options.host_path)
