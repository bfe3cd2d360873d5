"""Orders of a scenario: on the page alone where that is all it needs, else on the whole simulated system."""

from __future__ import annotations

from collections.abc import Iterable

from dom0_pciback.pciback.profile import make_profile
from xenaer.scenarios.library import SCENARIOS
from xenaer.scenarios.scenario import Scenario
from xenaer.scenarios.stage import Stage
from xenaer.scenarios.words import play_steps
from xenaer.simulation.explore import UNBOUNDED, Pick, Report, explore
from xenaer.simulation.invariants import findings
from xenaer.simulation.locks import LockOrder, deadlocks
from xenaer.simulation.programs import PROGRAMS, explore_program

WINDOW_NS = 100_000  # a message may be late by as much, which is several messages
BOUND = 2
LIMIT = 200


def one_order(scenario: Scenario, profile: str, defects: Iterable[str], pick: Pick) -> list[str]:
    """Boot in the default order, play the steps in the order that ``pick`` wants; what is wrong at the end."""
    stage = Stage(scenario.spec(profile, defects), offers=scenario.offers)
    stage.boot()
    system, order = stage.system, LockOrder()
    system.dom0.kernel.locks = order
    system.world.pick, system.world.window = pick, WINDOW_NS
    try:
        play_steps(stage, scenario.steps)
    finally:  # also if the order is redundant
        system.world.pick = None
        for kernel in system.parts.kernels:
            kernel.close()
    return [*findings(system), *order.inversions(), *deadlocks((system.dom0.kernel, system.kernel))]


def explore_system(
    scenario: Scenario, profile: str, defects: Iterable[str] = (), bound: int = BOUND, limit: int = LIMIT
) -> Report:
    """Orders of the whole system with up to ``bound`` deviations."""
    defects = tuple(defects)
    return explore(lambda pick: one_order(scenario, profile, defects, pick), bound, limit)


def explore_page(
    name: str, profile: str, defects: Iterable[str] = (), bound: int = UNBOUNDED, limit: int = UNBOUNDED
) -> Report:
    """Every order of both ends of the page, for the scenarios that have a program for it."""
    return explore_program(name, make_profile(profile, defects), bound, limit)


__all__ = ["BOUND", "LIMIT", "PROGRAMS", "SCENARIOS", "explore_page", "explore_system"]
