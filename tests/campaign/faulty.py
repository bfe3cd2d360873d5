"""Steps with faults, played in virtual time, and what the journal says afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from protocol.topology import HostSpec
from tests.simulation.kit import guest, one_port
from xenaer.campaign.steps.play import Runner
from xenaer.campaign.steps.script import Script
from xenaer.campaign.steps.steps_form import StepForm
from xenaer.campaign.steps.system import System
from xenaer.journal import Entry
from xenaer.simulation import SimSystem
from xenaer.yaml_lines import parse

A, B = "0000:01:00.0", "0000:01:00.1"
PORT = "0000:00:04.0"
NONFATAL, FATAL, CORRECTABLE = "CmpltAbrt", "MalfTLP", "BadTLP"
HARDENED, LINUX = "hardened", "linux"


def nics(functions: int = 2, driver: str = "xnic", **options: Any) -> HostSpec:
    """Functions of one card, ``nic0``, ``nic1``, each with a guest of its own, ``g1``, ``g2``."""
    given = [guest(f"g{n + 1}", f"01:00.{n}", driver=driver) for n in range(functions)]
    spec = one_port(*given, functions=functions, fields={"model": "nic"}, **({"aer_budget_ms": 3_000} | options))
    for number, function in enumerate(function for function in spec.functions if function.kind == "endpoint"):
        function.name = f"nic{number}"
    return spec


def script(spec: HostSpec, steps: str) -> Script:
    """Steps, one YAML mapping per line, as a script."""
    lines = "".join(f"- {{{line.strip()}}}\n" for line in steps.strip().splitlines())
    return Script("test", [StepForm.model_validate(step) for step in parse(lines, "test").data], spec, Path())


class Play:
    """A script that was played on a fresh system; the methods read the journal since its first step."""

    def __init__(self, spec: HostSpec, steps: str, *, settle_ms: float = 10_000, system: System | None = None) -> None:
        self.system = system if system is not None else booted(spec)
        begun = len(Runner(self.system, script(spec, "sleep: {ms: 1}")).entries)
        self.runner = Runner(self.system, script(spec, steps))
        self.runner.play()
        self.good = self.runner.settle(settle_ms)
        self.entries = self.runner.entries[begun:] if isinstance(self.system, SimSystem) else self.runner.entries

    @property
    def texts(self) -> list[str]:
        """What came of each step."""
        return [result.text for result in self.runner.results]

    def find(self, label: str, subject: str | None = None, **fields: Any) -> list[Entry]:
        """Records; ``fields`` may name ``party`` and ``task`` too."""
        return [
            item
            for item in self.entries
            if item["label"] == label
            and subject in (None, item["subject"])
            and all(item.get(key) == value for key, value in fields.items())
        ]

    def one(self, label: str, subject: str | None = None, **fields: Any) -> Entry:
        """The only such record."""
        found = self.find(label, subject, **fields)
        assert len(found) == 1, f"{len(found)} of {label} {subject} {fields}"
        return found[0]

    def outcomes(self) -> dict[str, str]:
        """Last outcome of each function."""
        return {item["subject"]: item["outcome"] for item in self.find("recovery.outcome")}

    def situations(self, bdf: str) -> list[tuple[str, str]]:
        """Phase and what came of it, for each question about a function."""
        return [(item["phase"], item["situation"]) for item in self.find("pciback.answer", bdf)]

    def log(self, party: str, words: str) -> list[str]:
        """Lines of a kernel log that contain ``words``."""
        return [item["text"] for item in self.find("printk", party=party) if words in item["text"]]

    def workload(self, name: str) -> int:
        """Units that a guest verifies now."""
        return sum(dict(self.system.ctl(name, "workload", [-1, 2])).values())

    def xl(self, *words: str) -> int:
        """Exit status of an ``xl`` command."""
        return int(self.system.ctl("hypervisor", "xl", list(words))[0])


def booted(spec: HostSpec, seed: int | None = None) -> SimSystem:
    """A system whose guests are connected."""
    system = SimSystem(spec, seed)
    system.advance(200)
    return system


def times(items: list[Entry]) -> list[float]:
    """When, in ms since the first of them."""
    return [round((item["t"] - items[0]["t"]) * 1000, 3) for item in items]
