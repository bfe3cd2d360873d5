"""Plays cases on real processes: dom0 and the stub stay, every case has guests of its own."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import msgpack

from kernel_stub.rpc import RpcError
from protocol.labels import LABELS
from protocol.ports import Record
from protocol.topology import HostSpec
from xenaer import local
from xenaer.campaign.build import Builder, Case
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Task
from xenaer.campaign.steps.play import Runner
from xenaer.campaign.verdict.afterwards import Afterwards
from xenaer.campaign.verdict.facts import NEVER, Facts
from xenaer.campaign.verdict.facts_read import read, state_after
from xenaer.campaign.verdict.ground import Ground, State
from xenaer.campaign.worlds.look_control import look
from xenaer.campaign.worlds.machine import SetupError, check_drivers, prepare
from xenaer.campaign.worlds.play_simulated import SimulatedPlayer
from xenaer.campaign.worlds.played import Played, Remains, broken, failed_steps, judged, points_reached, result_of
from xenaer.control import ControlError
from xenaer.journal import Entry, differences, entry

QUIET_MS = 30.0  # a system that has written nothing for so long, and recovers nothing, has come to rest
LOOK_MS = 5.0
READY_S = 30.0
SHOWN = 5
NS = 1_000_000_000
Records = list[tuple[str, Record]]


class ProcessHost:
    """A system of processes in a directory of its own, and whoever has what in it."""

    def __init__(self, host: HostSpec) -> None:
        self.host = host
        self.ground = Ground(host)
        self._folder = tempfile.TemporaryDirectory(prefix="xenaer-", ignore_cleanup_errors=True)
        self.run = Path(self._folder.name)
        try:
            local.up(host, self.run, "ipc", mine=True)
        except BaseException as error:
            self._folder.cleanup()
            if isinstance(error, local.LocalError):
                raise SetupError(str(error)) from error
            raise
        self.system = local.ProcessSystem(self.run)
        self.records: Records = []
        self.state = State()
        self.fresh = True
        try:
            self.settle(READY_S)
            check_drivers(self.records)
        except BaseException:
            self.close()
            raise

    def take_in(self) -> bool:
        """Take in the records that have appeared; were there any."""
        entries, _ = self.system.records(None)
        self.add(entries)
        return bool(entries)

    def add(self, entries: list[Entry]) -> None:
        """Records that somebody has read from the system's journals."""
        self.records += [(str(item["party"]), record_of(item)) for item in entries]

    def settle(self, limit_s: float) -> bool:
        """Wait until nothing happens any more; False if that takes longer than ``limit_s`` of real time."""
        deadline = time.monotonic() + limit_s
        quiet_since = time.monotonic()
        while time.monotonic() < deadline:
            if self.take_in():
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > QUIET_MS / 1000 and not under_way(self.facts()):
                return True
            self.system.advance(LOOK_MS)
        return False

    def begin(self, *, quiet: bool) -> None:
        """A case begins: every guest that starts by itself is a fresh one, and the journal begins here.

        ``quiet``: after the last words of the start.
        """
        if not self.fresh:
            self._replace_guests()
        self.fresh = False
        if quiet:
            self.settle(READY_S)
        self.mark()

    def mark(self) -> None:
        """The journal of the case begins here; who has what follows from what was before."""
        self.take_in()
        self.records.sort(key=lambda item: item[1][0])
        self.state = state_after(self.ground, self.records, self.state)
        self.records = []

    def _replace_guests(self) -> None:
        names = [guest.name for guest in self.host.guests]
        for words in (["destroy"], ["create"]):
            wanted = names if words == ["destroy"] else [g.name for g in self.host.guests if g.autostart]
            calls = [self.system.start("hypervisor", "xl", [*words, name]) for name in wanted]
            deadline = time.monotonic() + READY_S
            while not all(call.done for call in calls) and time.monotonic() < deadline:
                self.system.advance(LOOK_MS)
        if not self.system.ctl("hypervisor", "wait-ready", []):
            raise SetupError(f"the guests of host {self.host.name} do not connect")

    def facts(self) -> Facts:
        """What the journal of this case proves so far. What was read later may have happened earlier."""
        self.records.sort(key=lambda item: item[1][0])
        return read(self.ground, self.state, self.records)

    def close(self) -> None:
        """End all processes."""
        self.system.close()
        local.down(self.run)
        self._folder.cleanup()


def under_way(facts: Facts) -> bool:
    """A recovery or a kill has begun and not ended."""
    if any(recovery.done == NEVER for recovery in facts.recoveries):
        return True
    lives = [life for lives in facts.lives.values() for life in lives]
    return any(life.incident != NEVER and life.policy != "ignore" and life.done == NEVER for life in lives)


def record_of(item: Entry) -> Record:
    """An entry as the record that it was made of."""
    names = LABELS.get(item["label"], ())
    fields = [item[name] for name in names if name in item]
    fields += [value for key, value in item.items() if key.startswith("field")]
    return (round(item["t"] * NS), item["task"], item["label"], item["subject"], *fields)


class ProcessPlayer:
    """``chunk.Player`` on real processes."""

    def __init__(self, campaign: Campaign, *, alone: bool = False) -> None:
        self.campaign = campaign
        self.builder = Builder(campaign)
        self.alone = alone  # every case has a system of its own, since registers remember earlier errors
        self._variant = ""
        self._host: ProcessHost | None = None

    def rehearse(self) -> None:
        """Start the system of the first case, if all cases have the same host."""
        if self.campaign.uniform and not self.alone:
            self._host = ProcessHost(self.campaign.variant({}))

    def close(self) -> None:
        """End the system, if one runs."""
        host, self._host = self._host, None
        if host is not None:
            host.close()

    def play(self, task: Task) -> CaseResult:
        """One case with fresh guests. It cannot be repeated to the bit, so it is not played twice."""
        case = self.builder.build(task.number, task.recipe)
        try:
            played = self.played(case)
        except (SetupError, local.LocalError, ControlError, RpcError) as error:
            self.close()
            return broken(case, str(error))
        return result_of(case, played, task)

    def played(self, case: Case) -> Played:
        """Play a case. Raises SetupError, LocalError, ControlError, RpcError if there is no system to play it on."""
        host, form = self._ready(case), self.campaign.form
        host.begin(quiet=self.alone)
        if form.setup:
            prepare(host.system, self.campaign.script(form.setup, case.host), host.add)
            host.mark()
        runner = Runner(host.system, self.campaign.script(case.steps, case.host))
        runner.on_records = host.add
        runner.play()
        ended = host.settle(min(form.settle_s, form.case_limit_s))
        runner.settle(0)
        after = look(host.system, case.host, host.facts().state, form.workload)
        host.take_in()
        guard = "" if ended else f"the system did not come to rest in {form.case_limit_s:g} s"
        played = self._judged(case, host, runner, replace(after, ended=ended, guard=guard))
        if self.alone or played.problems or not self._whole(host):
            self.close()
        return played

    def _ready(self, case: Case) -> ProcessHost:
        """The system of the last case, if it is of the same host; else a new one."""
        if self._host is None or self._variant != case.variant:
            self.close()
            self._host, self._variant = ProcessHost(case.host), case.variant
        return self._host

    @staticmethod
    def _whole(host: ProcessHost) -> bool:
        """Every device is there and nobody thinks that it is broken: the next case finds what the first one found."""
        try:
            status = host.system.ctl("hypervisor", "status", [])
        except (ControlError, RpcError):
            return False
        return bool(status["dom0"]) and not any(device["fault"] for device in status["devices"])

    def _judged(self, case: Case, host: ProcessHost, runner: Runner, after: Afterwards) -> Played:
        facts = host.facts()
        begin_ns = host.records[0][1][0] if host.records else 0
        played = judged(self.campaign.form, case, Remains(
            facts, after, host.records, begin_ns, lambda bdf: dict(host.system.ctl("dom0", "stats", [bdf])),
            failed_steps(case.steps, runner.results),
        ))  # fmt: skip
        played.feedback |= points_reached(case.steps, runner.results)
        return played


class ComparingPlayer:
    """Plays each case in both worlds; whatever differs between their journals is a problem."""

    def __init__(self, campaign: Campaign) -> None:
        self.simulated = SimulatedPlayer(campaign)
        self.processes = ProcessPlayer(campaign, alone=True)

    def rehearse(self) -> None:
        """Boot the simulated machine; each case starts its processes anew."""
        self.simulated.rehearse()

    def close(self) -> None:
        """End the system of processes, and machines that were kept."""
        self.simulated.close()
        self.processes.close()

    def play(self, task: Task) -> CaseResult:
        """The result of the simulation, with what the processes did differently."""
        first = self.simulated.play(replace(task, keep=True))
        second = self.processes.play(replace(task, keep=True))
        problems = list(second.problems)
        if first.outcome != second.outcome:
            problems.append(f"the worlds differ: simulated {first.outcome}, processes {second.outcome}")
        elif first.journal is not None and second.journal is not None:
            found = differences(entries_of(first.journal), entries_of(second.journal))
            problems += [f"the worlds differ: {text}" for text in found[:SHOWN]]
        first.problems += [text for text in problems if text not in first.problems]
        first.good = not first.problems
        first.journal = first.journal if task.keep or not first.good else None
        return first


def entries_of(journal: bytes) -> list[Entry]:
    """The records of a packed journal."""
    return [entry(party, (time_ns, *rest)) for time_ns, party, *rest in msgpack.unpackb(journal, use_list=False)]
