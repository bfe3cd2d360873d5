"""What is played against each mutant: campaigns in the order in which they are tried, each whole or cut short."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from protocol.topology import HostSpec
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.form import CampaignForm, MutantsForm, PlayedForm, SizeForm
from xenaer.yaml_lines import InputError, Place, closest, load, validate


class Planned(NamedTuple):
    """A campaign of the plan, and the limits of its exploration."""

    campaign: Campaign
    size: SizeForm


def planned(path: Path, form: PlayedForm) -> Planned:
    """A campaign that ``path``, the file of the mutants, names. Raises InputError, ValueError."""
    from xenaer.campaign.file import load_campaign  # noqa: PLC0415 - which checks this very exploration

    _form_of(path.parent / form.file)
    campaign = load_campaign(path.parent / form.file)
    sizes = campaign.form.sizes
    if form.size is not None and form.size not in sizes:
        raise ValueError(f"no size {form.size!r} in {form.file}; {closest(form.size, sizes)}")
    if form.cases is not None:
        return Planned(campaign, SizeForm(cases=form.cases, seconds=None))
    return Planned(campaign, sizes[form.size] if form.size else SizeForm(cases=None, seconds=None))


def plan(path: Path, form: MutantsForm) -> Iterator[Planned]:
    """All of them, each read when its turn comes. Raises InputError, ValueError."""
    return (planned(path, each) for each in form.campaigns)


def plan_problems(path: Path, form: MutantsForm) -> Iterator[tuple[Place, str]]:
    """What is wrong with the plan, with its place below the exploration."""
    for index, each in enumerate(form.campaigns):
        try:
            planned(path, each)
        except InputError as error:
            yield ("campaigns", index, "file"), error.problems[0]
        except ValueError as error:
            yield ("campaigns", index, "size" if "no size" in str(error) else "file"), str(error)


def first_host(path: Path, form: MutantsForm) -> HostSpec:
    """The host of the first campaign: reports want one. Raises InputError, ValueError."""
    return planned(path, form.campaigns[0]).campaign.host


def _form_of(path: Path) -> CampaignForm:
    """Only what is needed to see whether it may be played here: one that plays mutants itself would have no end."""
    form, problems = validate(load(path), CampaignForm)
    if form is None or problems:
        raise InputError(problems)
    if form.explore is not None and form.explore.mutants is not None:
        raise ValueError(f"{path.name} plays mutants itself")
    if form.defects is not None or form.profile is not None:
        raise ValueError(f"{path.name} has defects or a profile of its own: what it finds would not be the mutant's")
    if form.world != "simulated":
        raise ValueError(f"{path.name} is played in the world {form.world}; only simulated is allowed")
    return form
