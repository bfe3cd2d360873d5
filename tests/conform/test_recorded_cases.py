"""Every recorded case, performed again: same machine, same preparation, same injection, same trace."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from xenaer.conform.case import load_case
from xenaer.conform.machine import machine_names
from xenaer.conform.run import Conformity

CASES = Path(__file__).parents[1] / "recorded" / "linux"
NAMES = sorted(path.stem for path in CASES.glob("*.json"))

# Cases that the recordings' own description excludes from comparison, each with what the recorder says about it.
EVIDENCE_ONLY = {
    "I_cor30_burst3": "30 injections gave 28 interrupts: the machine was late twice, which the case does not tell",
    "I_cor30_slow": "one injection came 0.61 s after the one before, where the case says 0.40 s",
    "I_unit_probe": "injections came 0.10 to 0.12 s apart; how many were suppressed depends on it",
}
NATIVE_PORTS = "pcie_ports=native: the slots lose power while the cases are recorded, at a moment that no case tells"


@cache
def conformity() -> Conformity:
    return Conformity()


def left_out(name: str) -> str | None:
    return NATIVE_PORTS if name.endswith("@ports_native") else EVIDENCE_ONLY.get(name)


def test_there_are_cases_of_every_group_and_machine() -> None:
    assert len(NAMES) == 376
    cases = [load_case(CASES / f"{name}.json") for name in NAMES]
    assert {case.group for case in cases} == set("ABCDEFGHIJKLM")
    assert {case.machine for case in cases} == set(machine_names())


@pytest.mark.parametrize("name", [name for name in NAMES if left_out(name) is None])
def test_case_is_reproduced(name: str) -> None:
    outcome = conformity().run(load_case(CASES / f"{name}.json"))
    assert outcome.verdict == "identical", "\n".join(outcome.text)


@pytest.mark.parametrize("name", [name for name in NAMES if left_out(name) is not None])
def test_case_that_is_evidence_only_still_runs_to_its_end(name: str) -> None:
    outcome = conformity().run(load_case(CASES / f"{name}.json"))
    assert outcome.verdict in ("identical", "different")
    assert not conformity().machine(load_case(CASES / f"{name}.json").machine).stuck
