"""Which defect changes what: every scenario in the profile ``hardened`` with one defect turned on alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dom0_pciback.pciback.profile import Defect
from xenaer.scenarios.library import PLAYED
from xenaer.scenarios.outcome import Outcome
from xenaer.scenarios.scenario import Scenario, play


class Change(NamedTuple):
    """One entry of the table: ``fields`` are the parts of the outcome that the defect changes."""

    defect: str
    scenario: str
    fields: tuple[str, ...]


def baselines(scenarios: Iterable[Scenario] = PLAYED) -> dict[str, Outcome]:
    """Outcomes without any defect, by scenario."""
    return {scenario.name: play(scenario, "hardened") for scenario in scenarios}


def changes(defects: Iterable[Defect] = tuple(Defect), scenarios: Iterable[Scenario] = PLAYED) -> Iterator[Change]:
    """The entries of the table, by defect and scenario."""
    scenarios = tuple(scenarios)
    without = baselines(scenarios)
    for defect in defects:
        for scenario in scenarios:
            fields = play(scenario, "hardened", [defect]).changed(without[scenario.name])
            if fields:
                yield Change(defect, scenario.name, fields)
