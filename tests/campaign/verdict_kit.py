"""Journals for the tests of the verdict: written by hand, record by record, or played by a scenario.

``python -m tests.campaign.verdict_kit`` writes ``scenario_verdicts.txt`` anew; read the difference before you keep it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from protocol.ports import Record
from protocol.topology import HostSpec
from xenaer.campaign.verdict.afterwards import Afterwards
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.facts_read import read, state_after
from xenaer.campaign.verdict.ground import Ground, State
from xenaer.campaign.verdict.verdict import Verdict, decide
from xenaer.campaign.worlds.look import look
from xenaer.scenarios.hosts import guest, host, place
from xenaer.scenarios.library import PLAYED, SCENARIOS
from xenaer.scenarios.stage import ERRORS, Stage
from xenaer.scenarios.words import play_steps

TABLE = Path(__file__).with_name("scenario_verdicts.txt")
PROFILES = ("hardened", "linux")
A, B, C, PORT = place("A"), place("B"), place("C"), "0000:00:04.0"
VALID, NONE, DISCONNECT, INVALID = "answer-valid", "answer-none", "answer-disconnect", "answer-invalid"
ED, MM, SR, RS = "error_detected", "mmio_enabled", "slot_reset", "resume"
BIT = 1 << 15
MS = 1_000_000

Item = tuple[str, Record]


class Written:
    """A journal written by hand: guest g1 has A, g2 has B (of the same card), g3 has C below another port."""

    def __init__(self, profile: str = "hardened", **fields: Any) -> None:
        self.host = three_guests(profile, **fields)
        self.items: list[Item] = []
        self.ns = 0

    def by(self, party: str, label: str, subject: str, *fields: Any, task: str = "task", ms: float = 1.0) -> Written:
        """One more record of a party, ``ms`` later."""
        self.ns += int(ms * MS)
        self.items.append((party, (self.ns, task, label, subject, *fields)))
        return self

    def dom0(self, label: str, subject: str, *fields: Any, **how: Any) -> Written:
        """A record of dom0; its recoveries run in one task."""
        return self.by("dom0", label, subject, *fields, **{"task": "irq/24-aerdrv", **how})

    def stub(self, label: str, subject: str, *fields: Any, **how: Any) -> Written:
        """A record of the hypervisor stub."""
        return self.by("hypervisor", label, subject, *fields, **how)

    # -- whole stretches -------------------------------------------------------------------------
    def inject(self, bdf: str = A, cor: int = 0, uncor: int = BIT, *, told: bool = True) -> Written:
        """A function detects an error, and its root port is told."""
        self.dom0("hw.inject", bdf, cor, uncor)
        bus, function = int(bdf[5:7], 16), int(bdf[-1])
        rid = bus << 8 | function
        port = PORT if bdf != C else "0000:00:05.0"
        return self.dom0("aer.irq", port, 4 if uncor else 1, rid << 16 if uncor else rid) if told else self

    def begin(self, bdf: str = A, *, frozen: bool = False) -> Written:
        """The core logs the error and begins a recovery."""
        self.dom0("aer.error", bdf, "FATAL" if frozen else "NONFATAL", 0 if frozen else BIT, [])
        return self.dom0("recovery.begin", bdf, "FROZEN" if frozen else "NORMAL")

    def ask(self, bdf: str, phase: str, answer: int = 5, situation: str = VALID, *, state: int = 1) -> Written:
        """pciback asks the guest that has the function, and something comes of it."""
        self.dom0("pciback.ask", bdf, phase, state)
        return self.dom0("pciback.answer", bdf, phase, answer, situation)

    def talk(self, bdf: str = A) -> Written:
        """A conversation that goes well, without a reset."""
        return self.ask(bdf, ED, 2).ask(bdf, MM, 5).ask(bdf, RS, 1, NONE)

    def end(self, bdf: str = A, verdict: str = "successful", result: str = "RECOVERED") -> Written:
        """The recovery of a function ends."""
        return self.dom0("recovery.end", bdf, result, verdict)

    def reset(
        self, subject: str = A, method: str = "flr", rc: int = 0, *, task: str = "hw_reset of hypervisor"
    ) -> Written:
        """A reset, by default one that the stub asked for."""
        return self.dom0("pci.reset", subject, method, rc, task=task)

    def report(self, name: str = "g1", bdf: str = A, policy: str = "destroy") -> Written:
        """pciback reports a guest, the stub hears it."""
        self.dom0("pciback.kill", bdf)
        return self.stub("kill.report", name, 1).stub("kill.incident", name, policy)

    def steps(self, name: str, *steps: str, bdf: str = A) -> Written:
        """Steps of a guest's end, with what they bring about."""
        for step in steps:
            self.step(name, step, bdf)
        return self

    def step(self, name: str, step: str, bdf: str, result: str = "ok") -> Written:
        """One of them."""
        if step == "stop":
            self.stub("domain.died", name, 1001, 9)
        elif step == "reset" and result == "ok":
            self.reset(bdf)
        elif step == "deassign":
            self.dom0("hw.deassign", bdf)
        elif step == "destroy":
            self.stub("domain.destroy", name, 1)
        on_device = step in ("block_dma", "reset", "restore", "check", "deassign")
        return self.stub("kill.step", name, step, bdf if on_device else "", result)

    def kill(self, name: str = "g1", bdf: str = A) -> Written:
        """A whole kill as KILL-4 wants it."""
        return self.report(name, bdf).steps(name, *KILL, bdf=bdf)

    # -- what comes of it ------------------------------------------------------------------------
    def facts(self) -> Facts:
        """What the journal proves."""
        ground = Ground(self.host)
        return read(ground, State.planned(ground), self.items)

    def verdict(self, after: Afterwards | None = None) -> Verdict:
        """The verdict of the journal."""
        return decide(self.facts(), after or Afterwards())


KILL = (
    "mark",
    "dying",
    "stop",
    "block_dma",
    "wake",
    "reset",
    "restore",
    "check",
    "deassign",
    "remove_nodes",
    "destroy",
)


def three_guests(profile: str = "hardened", **fields: Any) -> HostSpec:
    """The machine of the scenarios with a guest for each of A, B, C; ``fields`` of the first guest."""
    guests = (guest("g1", "A", spec=fields), guest("g2", "B"), guest("g3", "C"))
    return host(*guests, profile=profile)


# -- scenarios ---------------------------------------------------------------------------------------
class PlayedCase(NamedTuple):
    """A scenario that was played, as a runner would hand it to the verdict."""

    host: HostSpec
    state: State
    items: list[Item]
    after: Afterwards


def _play(stage: Stage, steps: str) -> None:
    """Errors are injected as a campaign does it: with a record."""
    for step in steps.split(";"):
        word, *args = step.split()
        if word == "inject":
            stage.system.dom0.kernel.trace("hw.inject", place(args[0]), *ERRORS[args[1]])
        play_steps(stage, step)


@cache
def played(name: str, profile: str) -> PlayedCase:
    """The case that a scenario makes in a profile."""
    scenario = SCENARIOS[name]
    stage = Stage(scenario.spec(profile), 1, scenario.offers)
    stage.boot()
    ground, records = Ground(stage.host), stage.system.raw_records()
    state = state_after(ground, records[: stage.mark])
    _play(stage, scenario.steps)
    items = list(records[stage.mark :])
    after = look(stage.system, read(ground, state, items).state, 0, {})
    counters = after.counters if not _counts_before(records[: stage.mark]) else None
    return PlayedCase(stage.host, state, items, Afterwards(after.guests, {}, after.devices, counters=counters))


def _counts_before(records: list[Item]) -> bool:
    return any(record[2] == "aer.error" for _, record in records)


def facts_of(case: PlayedCase) -> Facts:
    """What its journal proves."""
    return read(Ground(case.host), case.state, case.items)


def row(name: str, profile: str) -> str:
    """One line of the table: scenario, profile, outcome, guests, invariants that do not hold."""
    case = played(name, profile)
    verdict = decide(facts_of(case), case.after)
    guests = " ".join(f"{guest}={outcome}" for guest, outcome in verdict.guests.items())
    broken = " ".join(dict.fromkeys(invariant for invariant, _ in verdict.broken)) or "-"
    return f"{name:4} {profile:9} {verdict.outcome:33} {guests:52} {broken}".rstrip()


def table_text() -> str:
    """The whole table as it would be if the verdict were right as it is."""
    return "".join(f"{row(scenario.name, profile)}\n" for scenario in PLAYED for profile in PROFILES)


if __name__ == "__main__":
    TABLE.write_text(table_text(), encoding="utf-8")
