"""All scenarios by name."""

from __future__ import annotations

from xenaer.scenarios import extras, hostiles, interleavings
from xenaer.scenarios.scenario import Scenario

SCENARIOS: dict[str, Scenario] = {
    row.name: row for rows in (interleavings.ROWS, hostiles.ROWS, extras.ROWS) for row in rows
}
PLAYED = tuple(row for row in SCENARIOS.values() if not row.why_not)
