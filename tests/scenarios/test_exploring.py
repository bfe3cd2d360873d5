"""Orders of the whole system: AER phases against attach, detach, config operations, death, resets and second errors.

Here the first orders of each scenario; ``xenaer explore`` tries as many as one has time for.
"""

from __future__ import annotations

import pytest

from xenaer.cli import main
from xenaer.scenarios.exploring import explore_system
from xenaer.scenarios.library import PLAYED, SCENARIOS
from xenaer.scenarios.stage import Stage
from xenaer.scenarios.words import play_steps
from xenaer.simulation.invariants import findings

INTERLEAVINGS = [f"I{number}" for number in range(1, 35)]
MORE = ("S1", "S2", "S4", "S5", "S6", "S7", "S8", "D20", "D26")
LIMIT = 6


@pytest.mark.parametrize("name", [*INTERLEAVINGS, *MORE])
def test_hardened_shows_nothing(name: str) -> None:
    report = explore_system(SCENARIOS[name], "hardened", limit=LIMIT)
    assert not report.findings
    assert report.complete


@pytest.mark.parametrize(
    ("name", "defect", "text"),
    [
        ("I2", "D7", "lost wake-up: the guest does not notice a request"),
        ("I10", "D4", "lost wake-up: an event never gets its end, the channel is masked"),
        ("I11", "D2", "use of a dead page: it is unmapped while a question waits on it"),
        ("I25", "D5", "lost wake-up: pciback does not notice an answer"),
        ("S5", "D25", "device handed out without reset: 0000:01:00.0"),
    ],
)
def test_a_defect_is_named(name: str, defect: str, text: str) -> None:
    assert text in explore_system(SCENARIOS[name], "hardened", [defect], limit=2).findings
    if defect != "D7":  # in linux the answer that D6 brings is the next event
        assert text in explore_system(SCENARIOS[name], "linux", limit=2).findings


def test_deviations_are_orders_of_their_own() -> None:
    """Without deviations there is one order; with two of them I1 has some dozens, and all were played."""
    assert explore_system(SCENARIOS["I1"], "hardened", bound=0).complete == 1
    report = explore_system(SCENARIOS["I1"], "hardened", bound=2)
    assert report.complete > 10
    assert not report.cut


@pytest.mark.parametrize("seed", [2, 3])
def test_by_seed(seed: int) -> None:
    """The seed draws how long messages take: every fourth scenario with other delays."""
    for scenario in PLAYED[seed::4]:
        stage = Stage(scenario.spec("hardened"), seed, scenario.offers)
        stage.boot()
        play_steps(stage, scenario.steps)
        assert not findings(stage.system), scenario.name


# -- the commands --------------------------------------------------------------------------------------
def test_explore_prints_numbers_and_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "I1", "--bound", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("I1 page: 12 interleavings (all), ")
    assert out[1].startswith("I1 system, up to 1 deviations: ")
    assert out[-1].endswith(" interleavings, 0 findings")
    assert main(["explore", "I30", "--profile", "linux", "--limit", "1"]) == 1
    assert "a config operation has the answer of another one: in 4, first after step 2" in capsys.readouterr().out


def test_scenarios_prints_outcomes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenarios", "X1", "X38"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "X1: unknown commands"
    assert "    replies   -4 0, -4 0, -4 0, -4 0" in out
    assert out[-1].startswith("X38: not played: ")
    assert main(["scenarios", "I8", "--defects", "D3"]) == 1
    assert "not as expected: resets, verdicts, aerfail, alive, devices" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["explore", "I99"], "no scenario 'I99'"),
        (["explore", "I1", "--profile", "soft"], "--profile: no profile 'soft'; allowed: hardened, linux"),
        (["scenarios", "I1", "--defects", "D3,D99"], "--defects: no defect 'D99'; allowed: D1 to D26"),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], text: str) -> None:
    assert main(argv) == 2
    assert text in capsys.readouterr().err
