"""``docs/SCENARIOS.md`` and ``docs/DEFECTS.md``, written from the tables: ``python -m xenaer.scenarios.documents``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from dom0_pciback.pciback.profile import Defect
from xenaer.scenarios.expected import FILE, PROFILES, expected, text_of_played
from xenaer.scenarios.library import SCENARIOS
from xenaer.scenarios.outcome import Outcome
from xenaer.scenarios.table import Change, changes

SHOWN = ("calls", "asked", "resets", "verdicts", "devices", "replies", "notes")  # of an outcome, in this order

SCENARIOS_HEAD = """# Scenarios

Written by `python -m xenaer.scenarios.documents`; a test keeps it current. I and X are the numbers of the
specification (7.5, 10), D is a defect that needs a scenario of its own, S one of ours. A and B are functions of one
card, C is another device, K a bridge; `ED(1) 2` is a callback with its channel state and answer. Log lines are in
`xenaer/scenarios/expected.json`.

| scenario | what happens | profile | what comes of it |
| --- | --- | --- | --- |
"""
DEFECTS_HEAD = """# Defects

Written by `python -m xenaer.scenarios.documents`; a test keeps it current. Each defect of the real code (7.3) is
turned on alone in the profile `hardened`; the table has every scenario whose outcome it changes, and which parts of
the outcome.

| defect | what it is | scenarios that it changes |
| --- | --- | --- |
"""


def scenarios_text() -> str:
    """``docs/SCENARIOS.md``."""
    rows = []
    for name, scenario in SCENARIOS.items():
        if scenario.why_not:
            rows.append(f"| {name} | {scenario.title} | both | not played: {scenario.why_not} |")
            continue
        both = expected()[name]
        for profile in PROFILES:
            title = (name, scenario.title) if profile == PROFILES[0] else ("", "")
            rows.append(f"| {title[0]} | {title[1]} | {profile} | {_short(both[profile])} |")
    return SCENARIOS_HEAD + "\n".join(rows) + "\n"


def _short(outcome: Outcome) -> str:
    parts = [f"{field} {', '.join(getattr(outcome, field))}" for field in SHOWN if getattr(outcome, field)]
    if outcome.aerfail:
        parts.append(f"aerfail {outcome.aerfail}")
    parts.append(f"alive {', '.join(outcome.alive) or 'nobody'}")
    return "; ".join(parts).replace("|", "/")


def defects_text(found: Iterable[Change]) -> str:
    """``docs/DEFECTS.md``."""
    by_defect: dict[str, list[str]] = {}
    for change in found:
        by_defect.setdefault(change.defect, []).append(f"{change.scenario} ({' '.join(change.fields)})")
    rows = [f"| {each} | {each.description} | {', '.join(by_defect.get(each, ['none']))} |" for each in Defect]
    return DEFECTS_HEAD + "\n".join(rows) + "\n"


def read_defects(text: str) -> list[Change]:
    """The entries of a written table."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in Defect.__members__ and cells[2] != "none":
            for entry in cells[2].rstrip(")").split("), "):
                name, _, fields = entry.partition(" (")
                found.append(Change(cells[0], name, tuple(fields.split())))
    return found


def main(docs: Path) -> None:
    """Write ``expected.json`` and both documents."""
    FILE.write_text(text_of_played(), encoding="utf-8")
    expected.cache_clear()
    (docs / "SCENARIOS.md").write_text(scenarios_text(), encoding="utf-8")
    (docs / "DEFECTS.md").write_text(defects_text(changes()), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
