"""Axes of a campaign: the values a fault may take, and how they get into its text."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protocol.bits import allowed_names
from protocol.ers import ErsResult
from protocol.topology import HostSpec
from xenaer.campaign.form import AxisForm

WHOLE = re.compile(r"\$([A-Za-z][A-Za-z0-9_.+-]*)")
PARTS = re.compile(r"\$\{([A-Za-z][A-Za-z0-9_.+-]*)\}")
RANGE_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Axis:
    """Values to choose from, or (``low``, ``high``) to draw numbers from; ``whole`` numbers or others."""

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    whole: bool = False

    @property
    def drawn(self) -> bool:
        """Is a value drawn, not chosen."""
        return not self.values

    def draw(self, chance: random.Random) -> Any:
        """What a recipe says of this axis: the index of a value, or a number."""
        if self.values:
            return chance.randrange(len(self.values))
        if self.whole:
            return chance.randint(int(self.low), int(self.high))
        return round(chance.uniform(self.low, self.high), 6)

    def value(self, written: Any) -> Any:
        """The value that a recipe means."""
        return written if self.drawn else self.values[written]

    def samples(self) -> Sequence[Any]:
        """Values with which a file is checked."""
        return self.values or (int(self.low) if self.whole else self.low, int(self.high) if self.whole else self.high)


def make_axis(name: str, given: Sequence[Any] | AxisForm, host: HostSpec) -> Axis:
    """The axis that a file describes. Raises ValueError."""
    if not isinstance(given, AxisForm):
        if not given:
            raise ValueError("needs at least one value")
        return Axis(name, tuple(given))
    bounds = given.draw or given.draw_whole
    if bounds is not None:
        if bounds[0] >= bounds[1]:
            raise ValueError(f"{bounds[0]} is not below {bounds[1]}")
        return Axis(name, (), bounds[0], bounds[1], given.draw_whole is not None)
    values = tuple(_listed(given, host))
    if not values:
        raise ValueError(f"host {host.name} has nothing of this sort")
    return Axis(name, values)


def _listed(given: AxisForm, host: HostSpec) -> Iterable[Any]:
    if given.range is not None:
        return _range(given.range)
    if given.errors is not None:
        return allowed_names(None if given.errors == "all" else given.errors)
    if given.devices is not None:
        return _DEVICES[given.devices](host)
    if given.guests is not None:
        return [guest.name for guest in host.guests]
    return [vote.name for vote in ErsResult]


def _range(bounds: list[int]) -> range:
    step = bounds[2] if len(bounds) == 3 else 1
    found = range(bounds[0], bounds[1] + 1, step) if step > 0 else range(0)
    if not 0 < len(found) <= RANGE_MAX:
        raise ValueError(f"range {bounds} has {len(found)} values; allowed: 1 to {RANGE_MAX}, step above 0")
    return found


def _bdfs(*kinds: str) -> Callable[[HostSpec], list[str]]:
    return lambda host: [f.name or f.bdf for f in host.functions if not kinds or f.kind in kinds]


def _assigned(host: HostSpec) -> list[str]:
    bdfs = {entry.bdf for guest in host.guests for entry in guest.devices}
    return [f.name or f.bdf for f in host.functions if f.bdf in bdfs]


_DEVICES: dict[str, Callable[[HostSpec], list[str]]] = {
    "assigned": _assigned,
    "endpoints": _bdfs("endpoint", "rciep"),
    "ports": _bdfs("root_port", "upstream_port", "downstream_port"),
    "all": _bdfs(),
}


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """``template`` with ``$name`` replaced by the value of the axis, and ``${name}`` inside a text by its text.

    A step whose value is nothing (null) is left out of its list, so an axis may say that a fault does not happen.
    A value may mention other axes; ``check`` has seen that none mentions itself. Raises KeyError for an axis that is
    not there.
    """
    if isinstance(template, str):
        whole = WHOLE.fullmatch(template)
        if whole is not None:
            value = values[whole[1]]
            return fill(value, values) if isinstance(value, dict | list) else value
        return PARTS.sub(lambda found: str(values[found[1]]), template) if "$" in template else template
    if isinstance(template, dict):
        return {key: fill(value, values) for key, value in template.items()}
    if isinstance(template, list):
        filled = [fill(item, values) for item in template]
        return [item for item in filled if item is not None]
    return template


def mentioned(template: Any, axes: Mapping[str, Axis] | None = None) -> set[str]:
    """The axes that a template uses; with ``axes`` also those that their values use."""
    if isinstance(template, str):
        whole = WHOLE.fullmatch(template)
        found = {whole[1]} if whole is not None else set(PARTS.findall(template))
    else:
        parts = template.values() if isinstance(template, dict) else template if isinstance(template, list) else ()
        found = {name for part in parts for name in mentioned(part)}
    todo = list(found) if axes is not None else []
    while todo:
        axis = axes.get(todo.pop()) if axes is not None else None
        new = mentioned(list(axis.values)) - found if axis is not None else set()
        found |= new
        todo += new
    return found


def circles(axes: Mapping[str, Axis]) -> list[str]:
    """Axes whose values come to mention the axis itself."""
    return [name for name, axis in axes.items() if name in mentioned(list(axis.values), axes)]
