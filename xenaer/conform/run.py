"""Many cases one after the other: machines are booted once, a case that cannot be expressed stops no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kernel_stub.kernel import Choose
from xenaer.conform.case import OUTPUTS, Case, CaseError
from xenaer.conform.compare import differing, explain
from xenaer.conform.emit import emit
from xenaer.conform.explore import explore
from xenaer.conform.machine import Machine, machine_names
from xenaer.conform.perform import perform
from xenaer.conform.steps import UnsupportedError
from xenaer.yaml_lines import closest

RACY_GROUPS = ("K", "L")  # golden README, "How to compare"
INTERLEAVINGS = 64

Emitted = dict[str, Any]  # what one performance gave, by key of the recording
Verdict = Literal["identical", "different", "unsupported"]


@dataclass(slots=True)
class Outcome:
    """What became of one case. ``emitted`` are its keys; ``text`` says why it is unsupported or how it differs."""

    verdict: Verdict
    emitted: dict[str, Any] = field(default_factory=dict)
    interleavings: int = 1
    text: list[str] = field(default_factory=list)


class Conformity:
    """Performs cases. ``fields``: what is compared; ``interleavings``: how many orders of a racy case are tried."""

    def __init__(self, fields: Sequence[str] = OUTPUTS, interleavings: int = INTERLEAVINGS) -> None:
        self.fields = fields
        self.interleavings = interleavings
        self._machines: dict[str, Machine] = {}

    def run(self, case: Case) -> Outcome:
        """Perform and compare one case."""
        try:
            return self._search(case)
        except UnsupportedError as reason:
            return Outcome("unsupported", text=[str(reason)])

    def _search(self, case: Case) -> Outcome:
        """The first interleaving that gives the recorded trace, else the one-processor order."""
        racy = case.group in RACY_GROUPS or self.machine(case.machine).processors > 1
        orders = explore(lambda choose: self._once(case, choose), self.interleavings if racy else 1)
        return first_identical(
            orders,
            lambda emitted: differing(emitted, case.recorded, self.fields),
            lambda key, emitted: explain(key, emitted[key], case.recorded[key]),
        )

    def _once(self, case: Case, choose: Choose) -> dict[str, Any]:
        machine = self.machine(case.machine)
        machine.stuck = True  # until it is known to have come to rest
        emitted = emit(perform(machine, case, choose), case)
        machine.stuck = not machine.at_rest
        return emitted

    def check_machine(self, case: Case) -> None:
        """Raises CaseError if the case's machine is not described."""
        known = machine_names()
        if case.machine not in known:
            raise CaseError(
                [f"{case.path}: machine: {case.machine!r} is not described; {closest(case.machine, known)}"]
            )

    def machine(self, name: str) -> Machine:
        """The machine ``name``, booted if it is not there or was left with a waiting task."""
        machine = self._machines.get(name)
        if machine is None or machine.stuck:
            machine = self._machines[name] = Machine(name)
        return machine


def first_identical(
    orders: Iterable[Emitted],
    differing: Callable[[Emitted], Sequence[str]],
    explain: Callable[[str, Emitted], Iterable[str]],
) -> Outcome:
    """The first of ``orders`` (at least one) in which no key differs, else the first of all and how it differs."""
    first: Emitted | None = None
    count = 0
    for emitted in orders:
        count += 1
        if not differing(emitted):
            return Outcome("identical", emitted, count)
        first = first or emitted
    assert first is not None
    text = [line for key in differing(first) for line in explain(key, first)]
    return Outcome("different", first, count, text)


def case_files(paths: Sequence[Path]) -> list[Path]:
    """Files as given; a folder stands for the case files in it."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.glob("*.json")) if path.is_dir() else [path]
    return found
