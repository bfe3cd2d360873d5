"""The expected outcome of every scenario in both profiles, kept in ``expected.json``: one row per scenario."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from xenaer.scenarios.library import PLAYED
from xenaer.scenarios.outcome import Outcome
from xenaer.scenarios.scenario import play

FILE = Path(__file__).with_name("expected.json")
PROFILES = ("hardened", "linux")


@cache
def expected() -> dict[str, dict[str, Outcome]]:
    """Scenario and profile to outcome."""
    rows: dict[str, dict[str, dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: {profile: _outcome(row) for profile, row in both.items()} for name, both in rows.items()}


def _outcome(row: dict[str, Any]) -> Outcome:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return Outcome(**values)


def _row(outcome: Outcome) -> dict[str, Any]:
    """Fields that are not empty."""
    return {key: value for key, value in outcome._asdict().items() if value}


def text_of_played() -> str:
    """What ``expected.json`` would be if the scenarios were right as they are."""
    lines = []
    for scenario in PLAYED:
        row = {profile: _row(play(scenario, profile)) for profile in PROFILES}
        lines.append(f"{json.dumps(scenario.name)}: {json.dumps(row)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
