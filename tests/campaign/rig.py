"""Explorations of the tests, and how they run one: in this process, or in one that can be killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from tests.campaign.plays import play
from xenaer.campaign.case import CaseResult, Recipe
from xenaer.campaign.run.executors import open_crew
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.run.run_options import RunOptions
from xenaer.campaign.run.runner import CampaignRunner, Exploration
from xenaer.campaign.run.summary import Summary

ROOT = Path(__file__).resolve().parents[2]
PAYLOAD = b"the campaign"
SEED = 20261120
LIMIT_S = 20.0


class Listed:
    """The recipes of a list, some per round."""

    def __init__(self, recipes: list[Recipe], per_round: int = 500) -> None:
        self._recipes = recipes
        self._per_round = per_round
        self.total: int | None = len(recipes)

    def rounds(self) -> Generator[list[Recipe], list[CaseResult], None]:
        """See ``Exploration``."""
        for first in range(0, len(self._recipes), self._per_round):
            yield self._recipes[first : first + self._per_round]


class Counted:
    """``total`` cases, none of which is made before it is its turn."""

    def __init__(self, total: int) -> None:
        self.total: int | None = total

    def rounds(self) -> Generator[list[Recipe], list[CaseResult], None]:
        """See ``Exploration``."""
        assert self.total is not None
        for first in range(0, self.total, 1000):
            yield [{"do": "pass", "n": n, "stratum": f"s{n % 5}"} for n in range(first, min(first + 1000, self.total))]


class Guided:
    """Each round follows from what the one before came to; every field of a result has its part in it."""

    total: int | None = None

    def __init__(self, rounds: int, per_round: int, ms: float = 0.0) -> None:
        self._rounds = rounds
        self._per_round = per_round
        self._ms = ms

    def rounds(self) -> Generator[list[Recipe], list[CaseResult], None]:
        """See ``Exploration``."""
        heard = [0] * self._per_round
        for _ in range(self._rounds):
            results = yield [self._recipe(index, value) for index, value in enumerate(heard)]
            assert len(results) == self._per_round
            heard = [sum(map(ord, comparable(result))) % 1000 for result in results]

    def _recipe(self, index: int, value: int) -> Recipe:
        word = "fail" if value % 50 == 7 else "spin"
        return {"do": word, "ms": self._ms, "index": index, "value": value, "stratum": f"third {value % 3}"}


def comparable(result: CaseResult) -> str:
    """A result as text, without what a second run may change."""
    fields = {name: getattr(result, name) for name in result.__slots__ if name not in ("wall_s", "journal")}
    fields["coverage"] = sorted(result.coverage)
    fields["guests"] = sorted(result.guests.items())
    return repr(fields)


def options(**more: Any) -> RunOptions:
    """Options of a run in the tests."""
    return RunOptions(**{"name": "rig", "seed": SEED, "campaign": "name: rig\n", **more})


def run(
    exploration: Exploration, parent: Path, *, jobs: int = 2, limit_s: float = LIMIT_S, resume: Path | None = None
) -> tuple[Summary, Path]:
    """Run an exploration here; what it came to, and the run's directory."""
    with (
        open_crew("local", jobs, case_limit_s=limit_s) as crew,
        RunFolder.create(options(), parent) if resume is None else RunFolder.resume(resume) as folder,
    ):
        return CampaignRunner(exploration, play, PAYLOAD, crew, folder).run(), folder.path


def results_text(path: Path) -> str:
    """``results.json`` of a run."""
    return (path / "results.json").read_text(encoding="utf-8")


def start(parent: Path, **settings: Any) -> subprocess.Popen[str]:
    """Run an exploration in a process of its own (``tests.campaign.program``)."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.campaign.program", json.dumps({"parent": str(parent), **settings})],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition; fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
