"""Holds a campaign against its host: what it says about things that are not there, or that cannot be read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from xenaer.campaign.axes import Axis, circles, fill, make_axis, mentioned
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.form import (
    MUTANT,
    MUTANT_KIND,
    POINT,
    SCENARIO,
    AxisForm,
    ExploreBase,
    MutantsForm,
    ScenariosForm,
    VariantForm,
)
from xenaer.campaign.steps.script import check_steps
from xenaer.campaign.steps.steps_form import StepForm
from xenaer.campaign.variant import VariantError, apply_variant
from xenaer.form import Form
from xenaer.host import find_function
from xenaer.yaml_lines import Document, Place, closest, validate

CHECKED_MAX = 5_000  # combinations of axis values that are tried when a file is checked
TEMPLATES = ("profile", "defects", "drivers", "without", "faults")
UNREADABLE = [None]  # values of an axis that cannot be read: it is there, so nobody has to say that it is not
ANY_POINT = {"record": {"label": "aer.error"}}  # what $point is while a file is checked


class _Filled(VariantForm):
    """All templates of a campaign, filled."""

    faults: list[StepForm] = Field(default_factory=list)


class _AxesForm(Form):
    axes: dict[str, AxisForm]


def check_campaign(document: Document, campaign: Campaign) -> list[str]:
    """Every mistake of meaning, as ``file:line:column: field: text``; makes the campaign's axes."""
    return _Checker(document, campaign).check()


class _Checker:
    """What a campaign says about things that its host does not have, or that cannot be read."""

    def __init__(self, document: Document, campaign: Campaign) -> None:
        self.document = document
        self.campaign = campaign
        self.problems: list[str] = []
        self._told: set[str] = set()

    def check(self) -> list[str]:
        form = self.campaign.form
        for key in ("steps", "setup"):
            self.problems += check_steps(self.document, self.campaign.script(getattr(form, key) or []), key)
        if self.campaign.explored is not None:
            self._axes(self.campaign.explored)
            self._templates()
        self._expectations()
        return list(dict.fromkeys(self.problems))

    def _problem(self, place: Place, text: str) -> None:
        self.problems.append(self.document.problem(place, text))

    def _axes(self, explored: ExploreBase) -> None:
        assert self.campaign.form.explore is not None
        above: Place = ("explore", self.campaign.form.explore.kind)
        for name, given in explored.axes.items():
            place = (*above, "axes", name)
            try:
                self.campaign.axes[name] = make_axis(name, self._axis_form(name, given, place), self.campaign.host)
            except ValueError as error:
                self._problem(place, str(error))
            else:
                if self.campaign.axes[name].drawn and self.campaign.form.explore.kind in ("matrix", "exhaustive"):
                    self._problem(place, "draws numbers, which only random and guided do; list values, or give a range")
        if isinstance(explored, ScenariosForm):
            from xenaer.campaign.worlds.play_scenarios import rows_like  # noqa: PLC0415 - loads all roles

            self.campaign.axes[SCENARIO] = Axis(SCENARIO, tuple(rows_like(explored.rows)))
        if isinstance(explored, MutantsForm):
            self._mutants(explored, above)
        for index, name in enumerate(explored.strata):
            if name not in self.campaign.axes:
                self._problem((*above, "strata", index), f"no axis {name!r}; {closest(name, self.campaign.axes)}")

    def _mutants(self, explored: MutantsForm, above: Place) -> None:
        from xenaer.campaign.mutants.catalogue import KINDS, labels_like  # noqa: PLC0415 - only mutants need it
        from xenaer.campaign.mutants.plan import plan_problems  # noqa: PLC0415

        labels = labels_like(explored.defects, explored.mutations, control=explored.control)
        if not labels:
            self._problem((*above, "mutations"), "no mutant is called like that")
        self.campaign.axes[MUTANT] = Axis(MUTANT, tuple(labels))
        self.campaign.axes[MUTANT_KIND] = Axis(MUTANT_KIND, KINDS)
        for place, text in plan_problems(self.campaign.path, explored):
            self._problem((*above, *place), text)
        for index, expected in enumerate(self.campaign.form.expect):
            for key in sorted(expected.model_fields_set - {"where", "good_at_least"}):
                self._problem(("expect", index, key), "of mutants only good_at_least can be expected")

    def _axis_form(self, name: str, given: Any, place: Place) -> list[Any] | AxisForm:
        if isinstance(given, list | AxisForm):
            return given
        marks = {
            ("axes", name, *at[len(place) :]): m for at, m in self.document.marks.items() if at[: len(place)] == place
        }
        form, problems = validate(Document(self.document.filename, {"axes": {name: given}}, marks), _AxesForm)
        self.problems += problems
        if form is None or problems:
            return UNREADABLE
        return form.axes[name]

    def _templates(self) -> None:
        form = self.campaign.form
        template = {name: getattr(form, name) for name in TEMPLATES if getattr(form, name)}
        known = {*self.campaign.axes, *([POINT] if form.explore is not None and form.explore.exhaustive else [])}
        used = mentioned(template, self.campaign.axes)
        assert form.explore is not None
        above: Place = ("explore", form.explore.kind, "axes")
        for name in sorted(used - known):
            place = _place_of(template, name) if name in mentioned(template) else above
            self._problem(place, f"no axis {name!r}; {closest(name, sorted(known))}")
        for name in sorted(known - used - {POINT, SCENARIO, MUTANT, MUTANT_KIND}):
            self._problem((*above, name), "nothing uses this axis")
        for name in circles(self.campaign.axes):
            self._problem((*above, name), "its values mention the axis itself")
        if not self.problems:
            for values in itertools.islice(self._combinations(), CHECKED_MAX):
                self._filled(template, values)

    def _combinations(self) -> Iterator[dict[str, Any]]:
        """Every value of every axis at least once, the others at their first."""
        first = {name: axis.samples()[0] for name, axis in self.campaign.axes.items()} | {POINT: ANY_POINT}
        yield first
        for name, axis in self.campaign.axes.items():
            for value in axis.samples()[1:]:
                yield first | {name: value}

    def _filled(self, template: dict[str, Any], values: dict[str, Any]) -> None:
        document = Document(self.document.filename, fill(template, values), self.document.marks)
        form, problems = validate(document, _Filled)
        if form is not None and not problems:
            problems = check_steps(document, self.campaign.script(form.faults), "faults")
            try:
                apply_variant(self.campaign.host, form, self.campaign.path.parent)
            except VariantError as error:
                variant = {name: part for name, part in template.items() if name != "faults"}
                self._tell([document.problem(error.place, str(error))], variant, values)
        self._tell(problems, template, values)

    def _tell(self, problems: list[str], template: dict[str, Any], values: dict[str, Any]) -> None:
        """Add problems with the values that ``template`` asks for; the same one with other values says nothing new."""
        used = sorted(mentioned(template, self.campaign.axes) & set(values))
        shown = ", ".join(f"{name}={values[name]}" for name in used)
        new = [text for text in problems if text not in self._told]
        self._told.update(new)
        self.problems += [f"{text} (with {shown})" if shown else text for text in new]

    def _expectations(self) -> None:
        campaign, host = self.campaign, self.campaign.host
        for index, expected in enumerate(campaign.form.expect):
            place: Place = ("expect", index)
            for name in expected.where:
                if name not in campaign.axes:
                    self._problem((*place, "where", name), f"no axis {name!r}; {closest(name, campaign.axes)}")
            names = [guest.name for guest in host.guests]
            for key, wanted in (("guests", list(expected.guests)), ("verified", expected.verified)):
                for name in wanted:
                    if name not in names:
                        self._problem((*place, key), f"no guest {name!r}; {closest(name, names)}")
            for number, counter in enumerate(expected.counters):
                try:
                    find_function(host, counter.device)
                except ValueError as error:
                    self._problem((*place, "counters", number, "device"), str(error))


def _place_of(template: Any, name: str, place: Place = ()) -> Place:
    """Where ``template`` mentions an axis first."""
    parts: Any = template.items() if isinstance(template, dict) else enumerate(template)
    for key, part in parts:
        if name in mentioned(part):
            inner = (*place, key)
            return _place_of(part, name, inner) if isinstance(part, dict | list) else inner
    return place
