"""All faults at all program points in all orders of events up to a bound; of equivalent orders one is played.

First every combination of axes is played without the faults that wait for ``$point``: what it passes are the
program points. Then every fault is played at each of them, in the default order of events; each such run names the
orders that branch off (``simulation.explore``), which are played in rounds of growing deviation.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import islice, product
from typing import Any

from xenaer.campaign.axes import Axis
from xenaer.campaign.build import ASLEEP, DEVIATIONS, ORDER, REFERENCE, VALUES
from xenaer.campaign.case import CaseResult, Recipe
from xenaer.campaign.form import POINT, ExhaustiveForm

Rounds = Generator[list[Recipe], list[CaseResult], None]
ROUND = 2_000
POINTS, OTHERS = "points", "others"  # keys of a result's feedback
BASE = "seed"  # number of the case whose orders these are; they share its chance


class Exhaustive:
    """``points``: do faults wait for program points; ``limit``: at most so many cases."""

    def __init__(self, form: ExhaustiveForm, axes: dict[str, Axis], points: bool, limit: int | None) -> None:
        self.form = form
        self.axes = axes
        self.points = points
        self.limit = limit
        self.total: int | None = None
        self.cut = False  # the limit, or that of the orders of a case, came first
        self._number = 0

    def rounds(self) -> Rounds:
        """References, then faults at points, then other orders of the same."""
        waiting: Iterable[Recipe] = self._combinations()
        if self.points:
            waiting = yield from self._references()
        yield from self._orders(waiting)

    def _combinations(self) -> Iterator[Recipe]:
        for indexes in product(*(range(len(axis.values)) for axis in self.axes.values())):
            yield {VALUES: dict(zip(self.axes, indexes, strict=True))}

    def _references(self) -> Generator[list[Recipe], list[CaseResult], list[Recipe]]:
        found: list[Recipe] = []
        for recipes in self._blocks({**recipe, REFERENCE: True} for recipe in self._combinations()):
            results = yield recipes
            for recipe, result in zip(recipes, results, strict=True):
                points = (result.feedback or {}).get(POINTS, [])
                found += ({VALUES: recipe[VALUES], POINT: point} for point in points)
        return found

    def _orders(self, waiting: Iterable[Recipe]) -> Rounds:
        played: dict[int, int] = {}  # number of the first order of a case -> how many orders of it
        while True:
            following: list[Recipe] = []
            for recipes in self._blocks(waiting):
                begin = self._number - len(recipes)
                results = yield recipes
                for number, (recipe, result) in enumerate(zip(recipes, results, strict=True), begin):
                    following += self._branches(number, recipe, result, played)
            if not following:
                return
            waiting = following

    def _branches(self, number: int, recipe: Recipe, result: CaseResult, played: dict[int, int]) -> list[Recipe]:
        others: list[Any] = (result.feedback or {}).get(OTHERS, [])
        base = recipe.get(BASE, number)
        room = self.form.orders - played.get(base, 1)
        self.cut |= len(others) > room
        others = others[: max(room, 0)]
        played[base] = played.get(base, 1) + len(others)
        kept = {key: recipe[key] for key in (VALUES, POINT) if key in recipe}
        return [
            {**kept, BASE: base, ORDER: ways, ASLEEP: asleep, DEVIATIONS: deviations}
            for ways, asleep, deviations in others
        ]

    def _blocks(self, recipes: Iterable[Recipe]) -> Iterator[list[Recipe]]:
        """Rounds of recipes, until the limit."""
        rest = iter(recipes)
        while True:
            room = ROUND if self.limit is None else min(ROUND, self.limit - self._number)
            block = list(islice(rest, max(room, 0)))
            if not block:
                self.cut |= next(rest, None) is not None
                return
            self._number += len(block)
            yield block
