"""All faults at all program points that a run without them passes; the worker plays each in its orders of events.

First every combination of axes is played without the faults that wait for ``$point``: what it passes are the program
points. Then every fault is played at each of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import islice, product
from math import gcd

from xenaer.campaign.axes import Axis
from xenaer.campaign.build import REFERENCE, VALUES
from xenaer.campaign.case import CaseResult, Recipe
from xenaer.campaign.form import POINT

Rounds = Generator[list[Recipe], list[CaseResult], None]
ROUND = 2_000
GOLDEN = 0.6180339887498949
POINTS = "points"  # key of a result's feedback


def spread(product: int) -> int:
    """A step that visits all of ``product`` places once, and any part of the visits spreads evenly over them."""
    stride = max(1, round(product * GOLDEN))
    while gcd(stride, product) != 1:
        stride += 1
    return stride


class Exhaustive:
    """``points``: do faults wait for program points; ``limit``: at most so many cases, ``cut`` if there were more."""

    def __init__(self, axes: dict[str, Axis], points: bool, limit: int | None) -> None:
        self.axes = axes
        self.points = points
        self.limit = limit
        self.total: int | None = None
        self.cut = False
        self._played = 0

    def rounds(self) -> Rounds:
        """References, then faults at points."""
        self._played, self.cut = 0, False
        recipes = list(self._combinations())
        if self.points:
            recipes = yield from self._references()
        yield from self._blocks(self._sample(recipes))

    def _sample(self, recipes: list[Recipe]) -> list[Recipe]:
        """As many as the limit leaves, spread evenly over all."""
        room = len(recipes) if self.limit is None else max(self.limit - self._played, 0)
        if room >= len(recipes):
            return recipes
        self.cut = True
        stride = spread(len(recipes))
        return [recipes[number * stride % len(recipes)] for number in range(room)]

    def _combinations(self) -> Iterator[Recipe]:
        for indexes in product(*(range(len(axis.values)) for axis in self.axes.values())):
            yield {VALUES: dict(zip(self.axes, indexes, strict=True))}

    def _references(self) -> Generator[list[Recipe], list[CaseResult], list[Recipe]]:
        found: list[Recipe] = []
        for block in self._blocks({**recipe, REFERENCE: True} for recipe in self._combinations()):
            results = yield block
            for recipe, result in zip(block, results, strict=True):
                points = (result.feedback or {}).get(POINTS, [])
                found += ({VALUES: recipe[VALUES], POINT: point} for point in points)
        return found

    def _blocks(self, recipes: Iterable[Recipe]) -> Iterator[list[Recipe]]:
        """Rounds of recipes, until the limit."""
        rest = iter(recipes)
        while True:
            room = ROUND if self.limit is None else min(ROUND, self.limit - self._played)
            block = list(islice(rest, max(room, 0)))
            if not block:
                self.cut |= next(rest, None) is not None
                return
            self._played += len(block)
            yield block
