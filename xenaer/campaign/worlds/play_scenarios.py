"""Plays the scenarios of the library (I1 to I34, X1 to X48, ...) as cases: their steps, hosts, and hostile guests."""

from __future__ import annotations

from fnmatch import fnmatchcase

from protocol.topology import HostSpec
from xenaer.campaign.build import Builder, Case
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Task
from xenaer.campaign.form import SCENARIO
from xenaer.campaign.verdict.facts_read import read, read_on, state_after
from xenaer.campaign.verdict.ground import Ground
from xenaer.campaign.worlds.look import look
from xenaer.campaign.worlds.played import Played, Remains, differs, judged, result_of
from xenaer.scenarios.expected import expected
from xenaer.scenarios.library import PLAYED, SCENARIOS
from xenaer.scenarios.outcome import Condition, outcome
from xenaer.scenarios.stage import Stage
from xenaer.scenarios.words import play_steps


def rows_like(patterns: list[str]) -> list[str]:
    """Names of the scenarios that can be played and fit one of the patterns (``X*``)."""
    return [row.name for row in PLAYED if any(fnmatchcase(row.name, pattern) for pattern in patterns)]


def host_of_scenario(name: str) -> HostSpec:
    """The host of a scenario."""
    return SCENARIOS[name].host()


class ScenarioPlayer:
    """``chunk.Player`` for the exploration ``scenarios``; every case has a system of its own."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.builder = Builder(campaign)

    def close(self) -> None:
        """Nothing runs."""

    def rehearse(self) -> None:
        """Every scenario has a system of its own."""

    def play(self, task: Task) -> CaseResult:
        """One scenario; twice if the task says so."""
        case = self.builder.build(task.number, task.recipe)
        played = self._one(case)
        if task.twice:
            again = self._one(case)
            if again.digest != played.digest:
                differs(played, again.digest)
        return result_of(case, played, task)

    def _one(self, case: Case) -> Played:
        scenario, form = SCENARIOS[case.values[SCENARIO]], self.campaign.form
        profile, defects = case.host.profile, case.host.defects
        named = [name for name in defects if name != self.campaign.mutant]  # the table knows none of them
        stage = Stage(scenario.spec(profile, defects), case.seed, scenario.offers)
        condition = Condition(stage)
        stage.boot()
        condition.with_guests(stage)
        ground, system = Ground(stage.host), stage.system
        state = state_after(ground, system.raw_records())
        mark, begin_ns = len(system.raw_records()), system.world.now()
        play_steps(stage, scenario.steps)
        found = outcome(stage, condition)
        facts = read(ground, state, system.raw_records(), mark)
        after = look(system, facts.state, form.workload, {})
        records = system.raw_records()[mark:]
        read_on(facts, records, facts.count)  # what the look itself has caused
        changed = [] if named else found.changed(expected()[scenario.name][profile])
        problems = [f"not as the table of scenarios says: {', '.join(changed)}"] if changed else []
        return judged(form, case, Remains(
            facts, after, records, begin_ns, lambda bdf: dict(system.ctl("dom0", "stats", [bdf])), problems,
            excused=profile != "hardened",
        ))  # fmt: skip
