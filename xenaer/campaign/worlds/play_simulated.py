"""Plays cases in virtual time, on machines that are set back between cases."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from xenaer.campaign.build import REFERENCE, Builder, Case
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Task
from xenaer.campaign.exhaustive import POINTS
from xenaer.campaign.run import heartbeat
from xenaer.campaign.steps.play import Runner
from xenaer.campaign.steps.points import LockEvent, LockPoint, PhasePoint, Point, RecordPoint, passed
from xenaer.campaign.verdict.facts_read import read, read_on
from xenaer.campaign.worlds.look import look
from xenaer.campaign.worlds.machine import SetupError, SimMachine
from xenaer.campaign.worlds.played import (
    Played,
    Remains,
    broken,
    differs,
    failed_steps,
    judged,
    points_reached,
    result_of,
)
from xenaer.simulation.explore import Pick, explore
from xenaer.simulation.lock_log import LockLog

MACHINES_MAX = 6  # booted at the same time
WINDOW_NS = 100_000  # in other orders a message may be late by as much, which is several messages
ORDER, ORDERS, EQUIVALENT, CUT = "order", "orders", "equivalent", "cut"  # keys of a feedback
KIND_OF: dict[type[Point], str] = {PhasePoint: "phase", RecordPoint: "record", LockPoint: "lock"}


class SimulatedPlayer:
    """``chunk.Player`` in this process."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.builder = Builder(campaign)
        self._machines: OrderedDict[str, SimMachine] = OrderedDict()
        explored = campaign.form.explore
        self._exhaustive = explored.exhaustive if explored is not None else None

    def close(self) -> None:
        """Nothing runs."""
        while self._machines:
            self._machines.popitem()[1].close()

    def rehearse(self) -> None:
        """Boot the machine of the first case, if all cases have the same host."""
        if self.campaign.uniform:
            self._keep("", SimMachine(self.campaign.script(self.campaign.form.setup, self.campaign.variant({}))))

    def play(self, task: Task) -> CaseResult:
        """One case, in one order of events or in many; a second time on a fresh machine if the task says so."""
        case = self.builder.build(task.number, task.recipe)
        try:
            played = self._orders(case)
            if task.twice:
                played = self._compared(case, played)
        except SetupError as error:
            return broken(case, str(error))
        return result_of(case, played, task)

    # -- orders ----------------------------------------------------------------------------------
    def _orders(self, case: Case) -> Played:
        """The order of events that did most harm, of those that the campaign asks for."""
        bound = self._exhaustive.bound if self._exhaustive is not None else 0
        exact = self.campaign.form.exact
        if exact is not None and exact.order:
            return self._one(case, pick=_along(exact.order))
        if not bound or case.recipe.get(REFERENCE):
            return self._one(case)
        assert self._exhaustive is not None
        return self._explored(case, bound, self._exhaustive.orders)

    def _explored(self, case: Case, bound: int, limit: int) -> Played:
        worst: list[Played] = []

        def run(pick: Pick) -> list[str]:
            heartbeat.begin(case.number, 1)
            ways: list[int] = []

            def noted(lanes: Any) -> int:
                ways.append(pick(lanes))
                return ways[-1]

            played = self._one(case, pick=noted)
            if not worst or played.rank < worst[0].rank:
                played.feedback[ORDER] = _without_trailing_zeros(ways)
                worst[:] = [played]
            return []

        report = explore(run, bound, limit)
        found = worst[0]
        found.feedback |= {ORDERS: report.complete, EQUIVALENT: report.redundant, CUT: report.cut}
        return found

    def _compared(self, case: Case, first: Played) -> Played:
        """The first run again, on a machine booted for it; a difference is a harness error."""
        order = first.feedback.get(ORDER)
        second = self._one(case, pick=_along(order) if order else None, fresh=True)
        if second.digest == first.digest:
            return first
        differs(first, second.digest)
        return first

    # -- one run -----------------------------------------------------------------------------------
    def _one(self, case: Case, *, pick: Pick | None = None, fresh: bool = False) -> Played:
        machine = self._machine(case, fresh=fresh)
        system = machine.system
        machine.begin(case.seed)
        runner = Runner(system, self.campaign.script(case.steps, case.host))
        system.world.pick, system.world.window = pick, WINDOW_NS
        locks = LockLog(system.parts) if case.recipe.get(REFERENCE) else None
        try:
            try:
                runner.play()
                runner.settle(self.campaign.form.settle_s * 1000)
            finally:
                system.world.pick = None
                if locks is not None:
                    locks.close()
            return self._judged(case, machine, runner, locks.events if locks is not None else ())
        except BaseException:  # an order that is given up, or a driver that escapes
            machine.close()
            raise

    def _judged(self, case: Case, machine: SimMachine, runner: Runner, locks: Sequence[LockEvent]) -> Played:
        system, form = machine.system, self.campaign.form
        records = system.raw_records()
        facts = read(machine.ground, machine.state, records)
        after = look(system, facts.state, form.workload, machine.images)
        read_on(facts, records, facts.count)  # what the look itself has caused
        played = judged(form, case, Remains(
            facts, after, records, machine.begin_ns, lambda bdf: dict(system.ctl("dom0", "stats", [bdf])),
            failed_steps(case.steps, runner.results),
        ))  # fmt: skip
        if case.recipe.get(REFERENCE):
            assert self._exhaustive is not None
            points = passed(records, locks, machine.owners)
            played.feedback[POINTS] = [p.to_form() for p in points if KIND_OF[type(p)] in self._exhaustive.points]
        played.feedback |= points_reached(case.steps, runner.results)
        if machine.reusable:
            self._keep(case.variant, machine)
        else:
            machine.close()
        return played

    def _machine(self, case: Case, *, fresh: bool) -> SimMachine:
        """A machine for a case: the one that was kept, or a new one."""
        kept = None if fresh else self._machines.pop(case.variant, None)
        return kept or SimMachine(self.campaign.script(self.campaign.form.setup, case.host))

    def _keep(self, variant: str, machine: SimMachine) -> None:
        self._machines[variant] = machine
        if len(self._machines) > MACHINES_MAX:
            self._machines.popitem(last=False)[1].close()


def _along(order: list[int]) -> Pick:
    """Take the ways of a known order, then always the first one."""
    ways = iter(order)
    return lambda lanes: min(next(ways, 0), len(lanes) - 1)


def _without_trailing_zeros(ways: list[int]) -> list[int]:
    end = len(ways)
    while end and not ways[end - 1]:
        end -= 1
    return ways[:end]
