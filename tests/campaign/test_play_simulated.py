"""play_simulated: orders of events, exact ones, set-up, steps that fail, points that are not reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.campaign.files import NOTHING, ONCE, one_case, play_one, player, read, tasks
from xenaer.campaign.case import CaseResult, Outcome, Task
from xenaer.campaign.shrink import as_data
from xenaer.campaign.worlds.play_simulated import CUT, EQUIVALENT, ORDER, ORDERS, SimulatedPlayer
from xenaer.campaign.worlds.played import ARMED, REACHED

INJECT = "[{inject: {device: nic0, errors: [CmpltTO]}}]"
EXPLORED = """
    faults: [{%s}, {inject: {device: nic0, errors: [CmpltTO]}}]
    explore: {exhaustive: {bound: %d, orders: %d}}
    workload: 0
    """
RACE = "detach: {guest: left, device: nic0}, background: true, may-fail: true"


def explored(folder: Path, bound: int, orders: int, twice: bool = False) -> tuple[SimulatedPlayer, CaseResult]:
    """An error that races with a detach, in many orders."""
    playing = player(folder, EXPLORED % (RACE, bound, orders))
    return playing, playing.play(Task(0, ONCE, twice=twice, keep=True))


def feedback(result: CaseResult) -> dict[str, Any]:
    found: dict[str, Any] = result.feedback
    return found


# -- orders ----------------------------------------------------------------------------------------
def test_orders_are_counted_and_equivalent_ones_given_up(tmp_path: Path) -> None:
    _, few = explored(tmp_path, 1, 6)
    assert (feedback(few)[ORDERS], feedback(few)[CUT]) == (6, True)
    _, some = explored(tmp_path, 1, 40)
    assert 6 < feedback(some)[ORDERS] <= 40
    assert feedback(some)[EQUIVALENT] > 0
    _, none = explored(tmp_path, 0, 40)
    assert ORDERS not in feedback(none) if none.feedback else True


def test_the_worst_order_can_be_played_again(tmp_path: Path) -> None:
    playing, worst = explored(tmp_path, 2, 24, twice=True)
    assert worst.outcome is not Outcome.HARNESS_ERROR, worst.problems
    order = feedback(worst)[ORDER]
    case = playing.builder.build(0, ONCE)
    exact = as_data(playing.campaign, case, str(Path(playing.campaign.path).name), order)["exact"]
    text = f"exact: {{seed: {exact['seed']}, order: {order}}}\nworkload: 0\n" + one_case(
        f"[{{{RACE}}}, {{inject: {{device: nic0, errors: [CmpltTO]}}}}]"
    )
    again = play_one(tmp_path, text)
    assert (again.digest, again.outcome, again.problems) == (worst.digest, worst.outcome, worst.problems)
    if any(order):
        other = play_one(tmp_path, text.replace(f"order: {order}", "order: []"))
        assert other.digest != worst.digest


def test_the_worst_of_all_orders_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an order comes to is changed here: only the third one fails."""
    playing = player(tmp_path, EXPLORED % (RACE, 1, 6))
    count = 0
    one = playing._one

    def third_fails(*args: Any, **named: Any) -> Any:
        nonlocal count
        played = one(*args, **named)
        count += 1
        if count == 3:
            played.problems.append("the third one")
        return played

    monkeypatch.setattr(playing, "_one", third_fails)
    result = playing.play(Task(0, ONCE))
    assert count == 6
    assert result.problems == ["the third one"]
    assert not result.good


def test_the_seed_decides_the_default_order(tmp_path: Path) -> None:
    texts = [f"exact: {{seed: {seed}}}\n" + one_case(INJECT) for seed in (1, 1, 2)]
    first, same, other = (play_one(tmp_path, text).digest for text in texts)
    assert first == same != other


# -- set-up and steps ------------------------------------------------------------------------------
def test_setup_that_fails_is_said(tmp_path: Path) -> None:
    setup = "setup: [{sleep: {ms: 1}}, {detach: {guest: left, device: nic1}}]\n"
    result = play_one(tmp_path, setup + NOTHING)
    assert result.outcome is Outcome.HARNESS_ERROR
    assert result.text.startswith("setup, step 2 (")
    assert result.problems == [result.text]


def test_setup_is_done_once_for_a_machine_and_is_no_part_of_the_case(tmp_path: Path) -> None:
    text = "setup: [{detach: {guest: left, device: nic0}}]\n" + one_case("[{inject: {device: nic1, errors: [RxErr]}}]")
    playing = player(tmp_path, text)
    first, second = (playing.play(Task(0, ONCE, keep=True)) for _ in range(2))
    assert first.outcome is Outcome.CORRECTED_LOGGED
    assert first.journal == second.journal
    assert first.journal is not None
    assert b"pci-detach" not in first.journal


def test_a_step_that_fails_fails_the_case_and_ends_it(tmp_path: Path) -> None:
    steps = "[{wait: {for: {label: recovery.end}, within_s: 1}}, {inject: {device: nic0, errors: [RxErr]}}]"
    result = play_one(tmp_path, one_case(steps))
    assert not result.good
    assert result.problems[0].startswith("step 1 (")
    assert not result.effect.injected


def test_a_refused_command_of_the_toolstack_is_an_answer(tmp_path: Path) -> None:
    assert play_one(tmp_path, one_case("[{attach: {guest: left, device: nic1}}]")).good


def test_points_that_are_reached_are_counted(tmp_path: Path) -> None:
    text = """
        faults:
          - {at: {phase: resume, device: nic0}, inject: {device: nic1, errors: [RxErr]}}
          - {at: {phase: slot_reset, device: nic0}, inject: {device: nic1, errors: [RxErr]}}
          - inject: {device: nic0, errors: [CmpltTO]}
        explore: {matrix: {}}
        """
    result = play_one(tmp_path, text)
    assert feedback(result) == {ARMED: 2, REACHED: 1}
    assert result.good


def test_faults_at_points_have_a_reference_that_knows_them(tmp_path: Path) -> None:
    text = """
        faults: [{at: $point, inject: {device: nic1, errors: [RxErr]}}, {inject: {device: nic0, errors: [MalfTLP]}}]
        explore: {exhaustive: {points: [phase]}}
        """
    campaign = read(tmp_path, text)
    playing = SimulatedPlayer(campaign)
    reference = playing.play(Task(0, {**ONCE, "reference": True}))
    points = feedback(reference)["points"]
    assert {point["phase"] for point in points} == {"error_detected", "slot_reset", "resume"}
    result = playing.play(Task(1, {**ONCE, "point": points[0]}))
    assert feedback(result) == {ARMED: 1, REACHED: 1}
    assert next(tasks(campaign)).recipe["reference"] is True
