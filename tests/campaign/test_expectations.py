"""expectations, conclusion: each kind once met and once not; rates by the interval that is worse for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.campaign.files import campaign_file, one_case, play_one
from xenaer.campaign import running
from xenaer.campaign.verdict.statistics import wilson

MATRIX = """
    faults: [{inject: {device: $device, errors: [$error]}}]
    explore: {matrix: {seeds: 10, axes: {device: [nic0, nic1], error: [RxErr, CmpltTO]}, strata: [error]}}
    """
ERROR = "[{inject: {device: nic0, errors: [%s]}}]"

# met, not met, what is said then
KINDS: dict[str, tuple[str, str, str]] = {
    "outcomes": (
        "outcomes: [recovered, recovered-after-reset]",
        "outcomes: [no-effect, recovered]",
        "outcome recovered-after-reset; expected: no-effect, recovered",
    ),
    "never": ("never: [hang]", "never: [recovered-after-reset]", "outcome recovered-after-reset, which must never be"),
    "guests": (
        "guests: {left: [recovered], right: [untouched]}",
        "guests: {right: [recovered]}",
        "guest right is untouched; expected: recovered",
    ),
    "within_ms": (
        "within_ms: {total: 5000, mmio_enabled: 0}",
        "within_ms: {reset: 5, total: 5000}",
        "reset took 102.000 ms; allowed: 5 ms",
    ),
    "log": (
        "log: [{party: dom0, line: 'device recovery success[a-z]+'}]",
        "log: [{party: dom0, line: 'device recovery failed'}]",
        "no line /device recovery failed/ of dom0",
    ),
    "no_log": (
        "no_log: [{party: left, line: 'recovery successful'}]",
        "no_log: [{party: dom0, line: 'recovery successful'}]",
        "dom0 says: ",
    ),
    "record": (
        "record: [{label: recovery.end, subject: nic0}]",
        "record: [{label: recovery.end, subject: nic1}]",
        "0 instead of one or more: recovery.end nic1",
    ),
    "absent": (
        "absent: [{label: kill.step}]",
        "absent: [{label: recovery.end}]",
        "there is ",
    ),
    "counters": (
        "counters: [{device: nic0, name: CmpltTO, equals: 1}, {device: nic0, name: TOTAL_ERR_NONFATAL, at_least: 1}]",
        "counters: [{device: nic0, name: CmpltTO, equals: 2}]",
        "CmpltTO of nic0 is 1; expected: 2",
    ),
    "no such counter": (
        "counters: [{device: nic1, name: MalfTLP, equals: 0}]",
        "counters: [{device: nic0, name: Nonsense, at_least: 1}]",
        "nic0 has no counter 'Nonsense'",
    ),
    "verified": ("verified: [left, right]", "verified: [left]", "the workload of left does not run"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_an_expectation_is_met_or_told(name: str, tmp_path: Path) -> None:
    met, unmet, text = KINDS[name]
    error = ERROR % ("CmpltTO" if "counter" in name else "MalfTLP")
    good = play_one(tmp_path, one_case(error) + f"expect: [{{{met}}}]\n")
    assert good.good, good.problems
    without = "workload: 0\n" if name == "verified" else ""
    bad = play_one(tmp_path, without + one_case(error) + f"expect: [{{{unmet}}}]\n")
    assert not bad.good
    assert len(bad.problems) == 1
    assert bad.problems[0].startswith(text), bad.problems


def test_what_nobody_wants_is_a_failure_unless_it_is_spoken_of(tmp_path: Path) -> None:
    steps = "[{driver: {guest: left, phase: resume, does: hang}}, {inject: {device: nic0, errors: [CmpltTO]}}]"
    dead = one_case(steps) + "profile: linux\n"
    told = play_one(tmp_path, dead)
    assert not told.good
    assert f"outcome {told.outcome}" in told.problems
    spoken = play_one(tmp_path, dead + f"expect: [{{outcomes: [{told.outcome}]}}]\n")
    assert spoken.outcome == told.outcome
    assert not [text for text in spoken.problems if text.startswith("outcome")]


def never(cases: int) -> float:
    """The bound of an outcome that was not seen."""
    return float(1 - 0.05 ** (1 / cases))


# -- a whole run ------------------------------------------------------------------------------------
def results(folder: Path, expect: str, name: str) -> tuple[running.Finished, dict[str, Any]]:
    """What a run with these expectations comes to."""
    path = campaign_file(folder, MATRIX.rstrip(" ") + f"    expect: {expect}\n", name)
    finished = running.run(running.Request(path, jobs=1, runs=folder))
    return finished, json.loads(finished.json_text())


@pytest.mark.processes
def test_where_and_rates(tmp_path: Path) -> None:
    """One run: 40 cases, half of them recovered; four rates, two of which do not hold with 95 % confidence."""
    low, high = wilson(20, 40)
    rates = (
        f"[{{where: {{error: RxErr}}, outcomes: [corrected-logged]}}, "
        f"{{where: {{error: RxErr, device: [nic1]}}, outcomes: [recovered]}}, "
        f"{{rates: [{{outcome: recovered, at_least: {low - 0.01:.4f}, at_most: {high + 0.01:.4f}}}, "
        f"{{outcome: recovered, at_least: {low + 0.01:.4f}}}]}}, "
        f"{{where: {{error: CmpltTO}}, rates: [{{outcome: hang, at_most: {never(20) - 0.01:.4f}}}, "
        f"{{outcome: recovered, at_least: {wilson(20, 20)[0] - 0.01:.4f}}}]}}]"
    )
    finished, data = results(tmp_path, rates, "rates")
    assert finished.status == 1
    assert (data["cases"], data["failing"], data["passed"]) == (40, 10, False)
    first, second, third = data["problems"]
    assert first == "10 of 40 cases failed"
    assert second.startswith("recovered: ")
    assert f"at least {low + 0.01:.2%} with 95 % confidence" in second
    assert third.startswith("hang: ")
    assert {failure["problems"][0] for failure in data["failures"]} == {"outcome corrected-logged; expected: recovered"}
    whole = data["figures"][0]["rates"]["recovered"]
    assert (whole["count"], whole["low"], whole["high"]) == (20, low, high)
    assert [found["name"] for found in data["figures"][1:]] == ["error=CmpltTO", "error=RxErr"]


@pytest.mark.processes
def test_a_share_of_good_cases_may_be_enough(tmp_path: Path) -> None:
    """Ten of twenty corrected errors are not as expected: half is enough of them, for all others nothing is excused."""
    wrong = "{where: {error: RxErr, device: [nic1]}, outcomes: [recovered]}"
    enough, data = results(tmp_path, f"[{wrong}, {{where: {{error: RxErr}}, good_at_least: 0.5}}]", "enough")
    assert (enough.status, data["failing"], data["problems"]) == (0, 10, [])
    assert data["shares"] == ["error=RxErr: 10 of 20 good; expected: at least 50%"]
    short, data = results(tmp_path, f"[{wrong}, {{where: {{error: RxErr}}, good_at_least: 0.51}}]", "short")
    assert (short.status, data["problems"]) == (1, ["error=RxErr: 10 of 20 good; expected: at least 51%"])
    other, data = results(tmp_path, f"[{wrong}, {{where: {{error: CmpltTO}}, good_at_least: 0.5}}]", "other")
    assert (other.status, data["problems"]) == (1, ["10 of 40 cases failed"])
