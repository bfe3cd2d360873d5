"""Which cases an exploration plays, and that it plays the same ones again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xenaer.campaign.axes import Axis
from xenaer.campaign.case import CaseResult, Outcome, Recipe
from xenaer.campaign.exhaustive import POINTS, Exhaustive
from xenaer.campaign.explorations import Exploration, Guided, Matrix, Mutants, Random
from xenaer.campaign.form import GuidedForm, RandomForm, SizeForm

AXES = {"a": Axis("a", ("x", "y", "z")), "b": Axis("b", (1, 2))}
FREE = {"n": Axis("n", (), 0, 1000, True)}
SIZE = SizeForm.model_validate({})
Answer = Callable[[Recipe], CaseResult]


def result(outcome: Outcome = Outcome.RECOVERED, reached: frozenset[str] = frozenset(), **more: object) -> CaseResult:
    return CaseResult(0, "", "", outcome, coverage=reached, **more)  # type: ignore[arg-type]


def played(exploration: Exploration, answer: Answer = lambda recipe: result()) -> list[Recipe]:
    rounds, found = exploration.rounds(), []
    try:
        recipes = next(rounds)
        while True:
            found += recipes
            recipes = rounds.send([answer(recipe) for recipe in recipes])
    except StopIteration:
        return found


def test_a_matrix_has_every_combination_once() -> None:
    recipes = played(Matrix(1, AXES, None))
    assert len(recipes) == 6
    assert {(r["values"]["a"], r["values"]["b"]) for r in recipes} == {(a, b) for a in range(3) for b in range(2)}


def test_seeds_repeat_each_combination() -> None:
    recipes = played(Matrix(4, AXES, None))
    assert len(recipes) == 24
    assert len({str(recipe) for recipe in recipes}) == 24


def test_a_limit_spreads_evenly() -> None:
    wide = {"a": Axis("a", tuple(range(100))), "b": Axis("b", tuple(range(100)))}
    recipes = played(Matrix(1, wide, 50))
    assert len(recipes) == 50
    for axis in ("a", "b"):
        tenths = [recipe["values"][axis] // 10 for recipe in recipes]
        assert all(3 <= tenths.count(tenth) <= 7 for tenth in range(10)), (axis, tenths)
    assert len({str(recipe) for recipe in recipes}) == 50


def test_mutants_come_with_their_kinds() -> None:
    axes = {"mutant": Axis("mutant", ("a1", "b1", "b2", "a2", "b3")), "kind": Axis("kind", ("a", "b"))}
    recipes = played(Mutants(axes, lambda label: label[0], None))
    assert [(r["values"]["mutant"], r["values"]["kind"]) for r in recipes] == [(0, 0), (1, 1), (2, 1), (3, 0), (4, 1)]
    few = played(Mutants(axes, lambda label: label[0], 3))
    assert len({r["values"]["mutant"] for r in few}) == 3
    assert all(r["values"]["kind"] == recipes[r["values"]["mutant"]]["values"]["kind"] for r in few)


def test_a_limit_above_the_product_changes_nothing() -> None:
    assert played(Matrix(1, AXES, 1000)) == played(Matrix(1, AXES, None))


def test_random_depends_on_the_seed_alone() -> None:
    form = RandomForm.model_validate({"cases": 1200, "round": 500})
    first, again, other = (played(Random(form, FREE, seed, SIZE)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first) == 1200


def test_random_stops_when_the_interval_is_narrow() -> None:
    """A rate of one half needs about z**2 / (4 margin**2) = 384 cases for a margin of 0.05."""
    form = RandomForm.model_validate({"until": {"outcome": "recovered", "margin": 0.05}, "round": 10})

    def half(recipe: Recipe) -> CaseResult:
        return result(Outcome.RECOVERED if recipe["values"]["n"] % 2 else Outcome.HANG)

    assert 370 <= len(played(Random(form, FREE, 3, SIZE), half)) <= 390


def test_random_stops_with_the_time() -> None:
    exploration = Random(RandomForm.model_validate({"seconds": 5, "round": 10}), FREE, 1, SIZE)
    clock = iter(range(100))
    exploration.now = lambda: next(clock)
    assert len(played(exploration)) == 40


def test_a_size_changes_the_limit() -> None:
    assert (
        len(played(Random(RandomForm.model_validate({"cases": 1200}), FREE, 1, SizeForm.model_validate({"cases": 7}))))
        == 7
    )


def test_guided_comes_nearer_to_what_is_rare_than_chance_does() -> None:
    """Ten axes, each right with one value of 20: a point for each axis that is right together with all before it."""
    axes = {f"x{n}": Axis(f"x{n}", tuple(range(20))) for n in range(10)}

    def stairs(recipe: Recipe) -> CaseResult:
        height = 0
        while height < 10 and recipe["values"][f"x{height}"] == 7:
            height += 1
        return result(reached=frozenset(f"step {n}" for n in range(height + 1)))

    def reached(exploration: Random) -> int:
        found: set[str] = set()

        def answer(recipe: Recipe) -> CaseResult:
            case = stairs(recipe)
            found.update(case.coverage)
            return case

        played(exploration, answer)
        return len(found)

    guided = reached(Guided(GuidedForm.model_validate({"cases": 4000}), axes, 1, SIZE))
    chance = reached(Random(RandomForm.model_validate({"cases": 4000}), axes, 1, SIZE))
    assert guided >= chance + 2, (guided, chance)


def test_exhaustive_plays_every_fault_at_every_point_of_its_reference() -> None:
    def answer(recipe: Recipe) -> CaseResult:
        points = [{"ms": n} for n in range(recipe["values"]["a"] + 1)]
        return result(feedback={POINTS: points} if recipe.get("reference") else None)

    recipes = played(Exhaustive(AXES, True, None), answer)
    references = [recipe for recipe in recipes if recipe.get("reference")]
    assert len(references) == 6
    assert len(recipes) - 6 == 2 * (1 + 2 + 3)
    assert all(recipe["point"]["ms"] <= recipe["values"]["a"] for recipe in recipes[6:])


@pytest.mark.parametrize(("limit", "cut"), [(5, True), (8, True), (18, False), (100, False)])
def test_exhaustive_says_whether_it_was_cut(limit: int, cut: bool) -> None:
    exploration = Exhaustive(AXES, True, limit)
    recipes = played(exploration, lambda recipe: result(feedback={POINTS: [{"ms": 1}, {"ms": 2}]}))
    assert (len(recipes), exploration.cut) == (min(limit, 18), cut)


def test_without_points_there_are_no_references() -> None:
    assert len(played(Exhaustive(AXES, False, None))) == 6
