"""How long the report of a million cases takes, for ``xenaer bench``: made-up rows in a real run directory."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xenaer.boot import data_dir
from xenaer.campaign.build import Builder
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Effect, Outcome, Recipe
from xenaer.campaign.explorations import Matrix
from xenaer.campaign.file import load_campaign
from xenaer.campaign.run.rows import Row, to_row
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.run.run_options import RunOptions
from xenaer.report.write import report

CASES = 1_000_000
KINDS = 5_000  # rows that are made with care; the others are these again, with a number and a recipe of their own
BATCH = 10_000
PHASES = {"error_detected": 0.1, "mmio_enabled": 0.2, "slot_reset": 1.1, "resume": 0.2, "reset": 102.0, "total": 104.0}
OUTCOMES = (*[Outcome.RECOVERED] * 60, *[Outcome.GUEST_KILLED_REQUIRED] * 39, Outcome.HANG)
GUESTS = ("recovered", "killed-required", "untouched")

Figures = dict[str, Any]


def reports() -> dict[str, Figures]:
    """Seconds for the report of a million cases, and the size of its file."""
    with tempfile.TemporaryDirectory(prefix="xb-", ignore_cleanup_errors=True) as folder:
        path = make_run(Path(folder), CASES)
        begin = time.monotonic()
        found = report(path)
        seconds = time.monotonic() - begin
        size_mb = found.stat().st_size / 1e6
    return {"report_s": {"p50": seconds, "p99": seconds, "n": CASES, "file_mb": size_mb}}


def make_run(parent: Path, cases: int) -> Path:
    """A run directory with so many cases of the shipped campaign ``votes``, which has seven axes and twelve strata."""
    file = data_dir("campaigns") / "votes.yaml"
    options = RunOptions(
        name="votes", seed=1, campaign=file.read_text(encoding="utf-8"), campaign_path=str(file.resolve())
    )
    with RunFolder.create(options, parent) as run:
        rows = _rows(load_campaign(file), cases)
        while batch := [row for row, _ in zip(rows, range(BATCH), strict=False)]:
            run.store.add(batch)
        return run.path


def _rows(campaign: Campaign, cases: int) -> Iterator[Row]:
    matrix, builder, chance = Matrix(cases, campaign.axes, None), Builder(campaign), random.Random(1)
    kinds = [_row(builder, matrix.recipe(number), number, chance) for number in range(min(KINDS, cases))]
    for number in range(cases):
        kind = kinds[number % len(kinds)]
        yield kind._replace(number=number, case_id=f"{number:06d}-{number * 2654435761 & 0xFFFFFFFF:08x}")


def _row(builder: Builder, recipe: Recipe, number: int, chance: random.Random) -> Row:
    case = builder.build(number, recipe)
    outcome = chance.choice(OUTCOMES)
    result = CaseResult(
        number,
        case.case_id,
        case.stratum,
        outcome,
        outcome is not Outcome.HANG,
        "made up",
        effect=Effect(injected=True, device=True, root_port=True, core=True, guest=True),
        guests={guest.name: chance.choice(GUESTS) for guest in case.host.guests},
        phases={phase: round(ms * chance.lognormvariate(0, 0.5), 6) for phase, ms in PHASES.items()},
        coverage=frozenset(f"row/{chance.randrange(9)}" for _ in range(3)),
        digest="0" * 32,
    )
    return to_row(result, recipe, twice=False)
