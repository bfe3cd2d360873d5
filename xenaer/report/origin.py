"""Where the errors of a case arise: which devices, which errors. It follows from few axes, so it is found once for each
combination of their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from protocol.bits import bits_of
from protocol.topology import HostSpec
from xenaer.campaign.axes import Axis, fill, mentioned
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.form import POINT
from xenaer.campaign.steps.script import ScriptError, resolve_bdf

# Steps that make an error arise in a device, and their fields that say where and which.
FIELDS = {
    "inject": ("device", "devices", "errors", "correctable", "uncorrectable"),
    "storm": ("device", "devices", "errors", "mix"),
    "touch": ("device",),
    "gone": ("device", "how"),
}
DEVICES = ("device", "devices")
REMEMBERED = 100_000
Origin = tuple[str, str]  # devices, errors
NOWHERE: Origin = ("", "")


class Origins:
    """The origins of the cases of one campaign. ``axes`` are those that decide, ``several`` whether source and error
    follow from more than one of them: else they are an axis under another name, or always the same."""

    def __init__(self, campaign: Campaign) -> None:
        self._host = campaign.host
        self._parts = list(_parts(campaign))
        self._steps = {name for part in self._parts if isinstance(part, str) for name in mentioned(part)}
        axes = {name: self._reduced(axis) for name, axis in campaign.axes.items()}
        self.axes = sorted(mentioned(self._parts, axes) & {*axes})
        decide = (_only(self._parts, DEVICES, keep=True), _only(self._parts, DEVICES, keep=False))
        several = [len(mentioned(parts, axes) & {*axes}) > 1 for parts in decide]
        self.several = several[0], several[1]
        self._known: dict[tuple[Any, ...], Origin] = {}

    def _reduced(self, axis: Axis) -> Axis:
        """The axis with what decides of its steps, if its values are steps."""
        return replace(axis, values=tuple(map(_part, axis.values))) if axis.name in self._steps else axis

    def of(self, values: Mapping[str, Any]) -> Origin:
        """The origin of a case with these values; ``NOWHERE`` if no step makes an error."""
        try:
            key = tuple(repr(values[name]) for name in self.axes)
        except KeyError:
            return NOWHERE
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[key] = self._find(values)
        return found

    def _find(self, values: Mapping[str, Any]) -> Origin:
        devices, errors = dict[str, None](), dict[str, None]()
        steps = {name: _part(values[name]) for name in self._steps}
        for step in fill(self._parts, {POINT: None, **values, **steps}):  # a reference has no point
            for action, form in step.items():
                devices.update(dict.fromkeys(_devices(form, self._host)))
                errors.update(dict.fromkeys(_errors(action, form)))
        return " + ".join(devices), " + ".join(errors)


def _parts(campaign: Campaign) -> Iterator[Any]:
    """What decides, of each step; the name of an axis whose values are steps stays."""
    form = campaign.form
    steps: list[Any] = [*form.faults]
    if form.steps is not None:
        steps = [step.model_dump(by_alias=True, exclude_none=True) for step in form.steps]
    return map(_part, steps)


def _part(step: Any) -> Any:
    """What decides of a step: not when it strikes, for instance."""
    if not isinstance(step, dict):
        return step
    kept = {}
    for action in FIELDS.keys() & step.keys():
        given = step[action]
        kept[action] = {key: given[key] for key in FIELDS[action] if key in given} if isinstance(given, dict) else given
    return kept


def _only(parts: Any, names: tuple[str, ...], *, keep: bool) -> Any:
    """The same without the fields that are called (keep: not called) like that; what an axis decides whole stays."""
    if not isinstance(parts, list):
        return parts
    found: list[Any] = []
    for step in parts:
        for form in step.values() if isinstance(step, dict) else (step,):
            found += (
                [value for key, value in form.items() if (key in names) is keep] if isinstance(form, dict) else [form]
            )
    return found


def _devices(form: Any, host: HostSpec) -> Iterator[str]:
    given = form.get("devices") or [form.get("device")] if isinstance(form, dict) else []
    for name in filter(None, given):
        yield address(host, str(name))


def address(host: HostSpec, name: str) -> str:
    """The address of a device, as the picture knows it; the name itself if the host has none like that."""
    try:
        return resolve_bdf(host, name)
    except (ScriptError, ValueError):
        return name


def _errors(action: str, form: Any) -> Iterator[str]:
    if action == "touch":
        yield "read of a missing function"
    elif action == "gone":
        yield f"gone: {form.get('how', '')}"
    else:
        yield from map(str, form.get("errors") or form.get("mix") or ())
        for kind in ("correctable", "uncorrectable"):
            yield from _bits(kind, form.get(kind))


def _bits(kind: Any, value: Any) -> Iterator[str]:
    if isinstance(value, int):
        yield from (bit.name if bit is not None else f"bit {number}" for number, bit in bits_of(kind, value))
