"""Which cases a campaign plays: generators of rounds of recipes, which are told what came of each round.

They draw from seeds alone and hear results in the order of cases, so that a campaign that is resumed, or played
with other workers, plays the same cases.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from math import prod
from typing import Any, Protocol

from xenaer.campaign.axes import Axis
from xenaer.campaign.build import REPEAT, VALUES
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Recipe, derived_seed
from xenaer.campaign.exhaustive import Exhaustive, Rounds, spread
from xenaer.campaign.form import MUTANT, MUTANT_KIND, GuidedForm, RandomForm, SizeForm
from xenaer.campaign.verdict.statistics import wilson

ROUND = 2_000  # cases of a round when nothing depends on results
CORPUS_MAX = 5_000
NEWEST = 0.5  # the larger, the more the newest recipe of the corpus is preferred


class Exploration(Protocol):
    """``rounds`` yields recipes and is sent their results; ``total`` cases are known beforehand, or None."""

    total: int | None

    def rounds(self) -> Rounds:
        """A new walk through all cases."""


class Script:
    """One case: the steps of the file."""

    total: int | None = 1

    def rounds(self) -> Rounds:
        """The only round."""
        yield [{}]


class Matrix:
    """Every combination of values, ``seeds`` times each; with a limit an even spread of them."""

    def __init__(self, seeds: int, axes: dict[str, Axis], limit: int | None) -> None:
        self.axes = axes
        self.seeds = seeds
        self.product = prod(len(axis.values) for axis in axes.values()) * seeds
        self.total: int | None = min(self.product, limit or self.product)
        self._stride = 1 if self.total == self.product else spread(self.product)

    def rounds(self) -> Rounds:
        """Blocks of the product, last axis fastest."""
        assert self.total is not None
        for begin in range(0, self.total, ROUND):
            yield [self.recipe(number) for number in range(begin, min(begin + ROUND, self.total))]

    def recipe(self, number: int) -> Recipe:
        """The recipe of case ``number``."""
        assert self.total is not None
        index, repeat = divmod(number * self._stride % self.product, self.seeds)
        values: dict[str, int] = {}
        for name, axis in reversed(self.axes.items()):
            index, values[name] = divmod(index, len(axis.values))
        return {VALUES: values, **({REPEAT: repeat} if repeat else {})}


class Mutants(Matrix):
    """Every mutant once; with a limit an even spread of them. Its kind follows from the mutant."""

    def __init__(self, axes: dict[str, Axis], kind_of: Callable[[str], str], limit: int | None) -> None:
        super().__init__(1, {MUTANT: axes[MUTANT]}, limit)
        kinds = axes[MUTANT_KIND].values
        self._kinds = [kinds.index(kind_of(label)) for label in axes[MUTANT].values]

    def recipe(self, number: int) -> Recipe:
        """The recipe of case ``number``."""
        values = super().recipe(number)[VALUES]
        return {VALUES: values | {MUTANT_KIND: self._kinds[values[MUTANT]]}}


class Random:
    """Cases by chance until one of the limits is reached."""

    def __init__(self, form: RandomForm, axes: dict[str, Axis], seed: int, size: SizeForm) -> None:
        self.form = form
        self.axes = axes
        self.seed = seed
        self.cases = size.cases or form.cases
        self.seconds = size.seconds or form.seconds
        self.total: int | None = self.cases
        self.now: Callable[[], float] = time.monotonic
        self._hits = self._seen = 0

    def rounds(self) -> Rounds:
        """Rounds of the size that the file names."""
        begin, number = self.now(), 0
        while count := self._next_count(number, begin):
            recipes = [self.recipe(n) for n in range(number, number + count)]
            self.tell(recipes, (yield recipes))
            number += count

    def _next_count(self, number: int, begin: float) -> int:
        late = self.seconds is not None and self.now() - begin >= self.seconds
        if late or self._narrow():
            return 0
        return self.form.round if self.cases is None else min(self.form.round, self.cases - number)

    def _narrow(self) -> bool:
        until = self.form.until
        if until is None or not self._seen:
            return False
        low, high = wilson(self._hits, self._seen)
        return (high - low) / 2 <= until.margin

    def recipe(self, number: int) -> Recipe:
        """The recipe of case ``number``: chance of its own."""
        chance = random.Random(derived_seed(self.seed, number))
        return {VALUES: {name: axis.draw(chance) for name, axis in self.axes.items()}}

    def tell(self, recipes: list[Recipe], results: list[CaseResult]) -> None:
        """Count what ``until`` is about."""
        self._seen += len(results)
        if self.form.until is not None:
            self._hits += sum(result.outcome == self.form.until.outcome for result in results)


class Guided(Random):
    """Keeps the recipes that reached something new, and changes one axis of one of them at a time."""

    def __init__(self, form: GuidedForm, axes: dict[str, Axis], seed: int, size: SizeForm) -> None:
        super().__init__(form, axes, seed, size)
        self.fresh = form.fresh
        self.reached: set[str] = set()
        self.corpus: list[Recipe] = []

    def recipe(self, number: int) -> Recipe:
        """A fresh recipe, or a change of one that was good for something new."""
        chance = random.Random(derived_seed(self.seed, number))
        if not self.corpus or chance.random() < self.fresh:
            return super().recipe(number)
        back = min(int(chance.expovariate(NEWEST)), len(self.corpus) - 1)  # the newest is nearest to what is new
        values: dict[str, Any] = dict(self.corpus[-1 - back][VALUES])
        name = chance.choice(list(self.axes))
        values[name] = self.axes[name].draw(chance)
        return {VALUES: values}

    def tell(self, recipes: list[Recipe], results: list[CaseResult]) -> None:
        """What a round reached counts from the next one on."""
        super().tell(recipes, results)
        for recipe, result in zip(recipes, results, strict=True):
            if not result.coverage <= self.reached and len(self.corpus) < CORPUS_MAX:
                self.corpus.append(recipe)
            self.reached |= result.coverage


def make_exploration(campaign: Campaign, size: SizeForm) -> Exploration:
    """The exploration that a campaign asks for, with the limits of ``size``."""
    explore, axes, seed = campaign.form.explore, campaign.axes, campaign.form.seed
    if explore is None:
        return Script()
    if explore.matrix is not None:
        return Matrix(explore.matrix.seeds, axes, size.cases or explore.matrix.limit)
    if explore.scenarios is not None:
        return Matrix(explore.scenarios.seeds, axes, size.cases or explore.scenarios.limit)
    if explore.mutants is not None:
        from xenaer.campaign.mutants.catalogue import kind_of  # noqa: PLC0415 - only who plays mutants needs it

        return Mutants(axes, kind_of, size.cases or explore.mutants.limit)
    if explore.exhaustive is not None:
        return Exhaustive(axes, campaign.waits_for_points, size.cases or explore.exhaustive.limit)
    if explore.guided is not None:
        return Guided(explore.guided, axes, seed, size)
    assert explore.random is not None
    return Random(explore.random, axes, seed, size)
