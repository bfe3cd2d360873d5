"""From a recipe to a case that can be played. A recipe and the campaign are all that is needed, on any machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from protocol.topology import HostSpec
from xenaer.campaign.axes import fill, mentioned
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import Recipe, case_id, derived_seed, recipe_text
from xenaer.campaign.form import POINT
from xenaer.campaign.steps.steps_form import StepForm

STEPS: TypeAdapter[list[StepForm]] = TypeAdapter(list[StepForm])
ALL = "all"

# Keys of a recipe
VALUES = "values"  # axis -> index of its value, or the number that was drawn
REPEAT = "repeat"  # which repetition of the same values: another order of events
REFERENCE = "reference"  # true: the run without the faults that wait for $point


@dataclass(slots=True)
class Case:
    """A case, ready to be played. ``variant`` names its host: cases of one variant may share a machine."""

    number: int
    case_id: str
    stratum: str
    seed: int
    values: dict[str, Any]
    variant: str
    host: HostSpec
    steps: list[StepForm]
    recipe: Recipe


class Builder:
    """Builds the cases of one campaign; hosts and texts that many cases share are made once."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self._uniform = campaign.uniform
        self._hosts: dict[str, HostSpec] = {}

    def build(self, number: int, recipe: Recipe) -> Case:
        """The case ``number`` of the campaign that ``recipe`` describes."""
        campaign, form = self.campaign, self.campaign.form
        values = self.values(recipe)
        seed = form.exact.seed if form.exact is not None else derived_seed(form.seed, number)
        variant = "" if self._uniform else json.dumps(campaign.filled_variant(values), sort_keys=True)
        host = self._hosts.get(variant)
        if host is None:
            host = self._hosts[variant] = campaign.variant(values)
        return Case(
            number, case_id(number, recipe_text(recipe)), self._stratum(values), seed, values, variant, host,
            self._steps(recipe, values), recipe,
        )  # fmt: skip

    def values(self, recipe: Recipe) -> dict[str, Any]:
        """Axis to value, the program point among them."""
        written: Mapping[str, Any] = recipe.get(VALUES, {})
        found = {name: axis.value(written[name]) for name, axis in self.campaign.axes.items() if name in written}
        if POINT in recipe:
            found[POINT] = recipe[POINT]
        return found

    def stratum(self, recipe: Recipe) -> str:
        """The stratum of a case that was not played."""
        return self._stratum(self.values(recipe))

    def _steps(self, recipe: Recipe, values: Mapping[str, Any]) -> list[StepForm]:
        form = self.campaign.form
        if form.steps is not None:
            return form.steps
        faults = form.faults
        if recipe.get(REFERENCE):
            faults = [fault for fault in faults if POINT not in mentioned(fault, self.campaign.axes)]
        return STEPS.validate_python(fill(faults, values))

    def _stratum(self, values: Mapping[str, Any]) -> str:
        explored = self.campaign.explored
        if explored is None or not explored.strata:
            return ALL
        return stratum_of((name, values.get(name)) for name in explored.strata)


def stratum_of(values: Iterable[tuple[str, Any]]) -> str:
    """The name of the stratum in which these axes have these values."""
    return " ".join(f"{name}={word_for(value)}" for name, value in values)


def word_for(value: Any) -> str:
    """A value of an axis, as names of cases and strata show it."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
