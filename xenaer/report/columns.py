"""What tells cases apart, as columns of small numbers: the axes of the campaign, and where the error arose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xenaer.campaign.axes import Axis
from xenaer.campaign.build import VALUES
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import Recipe
from xenaer.campaign.form import POINT
from xenaer.report.origin import NOWHERE, Origins

VALUES_MAX = 48  # of an axis that are told apart; the others share one
AXES_MAX = 8
BINS = 10  # of an axis whose values are drawn
LABEL_MAX = 80
OTHERS, NONE = "others", "none"
DERIVED = ("source of the error", "error of the case")


@dataclass(slots=True)
class Column:
    """``labels`` are the values in the order of their numbers; what is beyond ``VALUES_MAX`` is ``OTHERS``."""

    name: str
    labels: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, label: str) -> int:
        """The number of a value, which may be new."""
        found = self.numbers.get(label)
        if found is None:
            if len(self.labels) >= VALUES_MAX:
                label = OTHERS
            found = self.numbers.setdefault(label, len(self.labels))
            if found == len(self.labels):
                self.labels.append(label)
        return found


class Columns:
    """The columns of one campaign: axes first, then source and error where no axis says the same."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._origins = Origins(campaign)
        self._names = {f.bdf: f.name or f.bdf for f in campaign.host.functions}
        axes = [*campaign.axes, *([POINT] if campaign.waits_for_points else [])]
        self.dropped = axes[AXES_MAX:]
        self._axes = [Column(name) for name in axes[:AXES_MAX]]
        self._derived = [(Column(name), part) for part, name in enumerate(DERIVED) if self._tells(part)]
        self._named_before: dict[str, str] = {}
        self.origins: list[tuple[str, str]] = []  # of the rows that were read last
        for column in self._axes:
            axis = campaign.axes.get(column.name)
            for value in axis.values if axis is not None else ():
                column.number(label(value))

    def _tells(self, part: int) -> bool:
        """Is source (0) or error (1) something that no axis says; without axes it is all there is."""
        return self._origins.several[part] or not self._campaign.axes

    def read(self, recipes: Sequence[Recipe]) -> list[list[int]]:
        """One list of numbers for each of ``every``, as long as ``recipes``."""
        given: list[Mapping[str, Any]] = [recipe.get(VALUES, {}) for recipe in recipes]
        found = [self._numbers(column, given, recipes) for column in self._axes]
        self.origins = self._origins_of(given)
        for column, part in self._derived:
            found.append([column.number(self._named(origin[part])) for origin in self.origins])
        return found

    def _named(self, origin: str) -> str:
        """Devices by their names, as axes have them; errors as they are."""
        found = self._named_before.get(origin)
        if found is None:
            parts = origin.split(" + ") if origin else [NONE]
            found = self._named_before[origin] = " + ".join(self._names.get(part, part) for part in parts)
        return found

    @property
    def every(self) -> list[Column]:
        """All columns, in the order in which ``read`` gives them."""
        return [*self._axes, *(column for column, _ in self._derived)]

    def _numbers(self, column: Column, given: list[Mapping[str, Any]], recipes: Sequence[Recipe]) -> list[int]:
        axis = self._campaign.axes.get(column.name)
        if axis is None:
            return [column.number(label(recipe.get(POINT, NONE))) for recipe in recipes]
        name = column.name
        known = [column.number(label_of(axis, index)) for index in range(len(axis.values))]
        if axis.values:
            return [known[v[name]] if name in v else column.number(NONE) for v in given]
        return [column.number(label_of(axis, v[name]) if name in v else NONE) for v in given]

    def _origins_of(self, given: list[Mapping[str, Any]]) -> list[tuple[str, str]]:
        axes = {name: self._campaign.axes[name] for name in self._origins.axes}
        if any(axis.drawn for axis in axes.values()):
            return [NOWHERE] * len(given)
        known: dict[tuple[Any, ...], tuple[str, str]] = {}
        result = []
        for written in given:
            key = tuple(map(written.get, axes))
            found = known.get(key)
            if found is None:
                values = {name: axis.value(written[name]) for name, axis in axes.items() if name in written}
                found = known[key] = self._origins.of(values)
            result.append(found)
        return result


def label_of(axis: Axis, written: Any) -> str:
    """What a recipe says of an axis, as text; drawn numbers by the tenth of the range that they are in."""
    if axis.values:
        return label(axis.values[written])
    width = (axis.high - axis.low) / BINS
    bin_ = min(int((written - axis.low) / width), BINS - 1) if width > 0 else 0
    return f"{axis.low + bin_ * width:g} to {axis.low + (bin_ + 1) * width:g}"


def label(value: Any) -> str:
    """A value of an axis as a short text."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= LABEL_MAX else text[: LABEL_MAX - 1] + "…"
