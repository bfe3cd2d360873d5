"""Other profiles, defects and drivers on the host of a campaign."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from protocol.topology import DEFECTS, AssignmentSpec, HostSpec
from xenaer.campaign.form import DriverForm, VariantForm
from xenaer.host import check_driver, find_function
from xenaer.user_code import folder_of
from xenaer.yaml_lines import Place, closest


class VariantError(ValueError):
    """What a campaign says of its host makes no sense; ``place`` is where it says that."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.place = place


def apply_variant(host: HostSpec, variant: VariantForm, beside: Path) -> HostSpec:
    """The host with another profile, defects or drivers; programs among them are found in the folder ``beside``.

    Raises VariantError that names what is allowed.
    """
    for index, name in enumerate(variant.defects or ()):
        if name not in DEFECTS:
            raise VariantError(
                ("defects", index), f"no defect {name!r}; {closest(name, sorted(DEFECTS, key=lambda d: int(d[1:])))}"
            )
    changed = replace(host)
    changed.profile = variant.profile or host.profile
    changed.defects = list(variant.defects) if variant.defects is not None else host.defects
    for index, name in enumerate(variant.without):
        with _at("without", index):
            changed = _without(changed, name)
    for index, form in enumerate(variant.drivers):
        with _at("drivers", index):
            changed = _with_driver(changed, form, beside)
    return changed


@contextmanager
def _at(*place: str | int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise VariantError(place, str(error)) from None


def _without(host: HostSpec, name: str) -> HostSpec:
    """Leave out a guest, or an endpoint with whatever assigns it."""
    if host.guest(name) is not None:
        return replace(host, guests=[guest for guest in host.guests if guest.name != name])
    try:
        bdf = find_function(host, name).bdf
    except ValueError:
        names = [guest.name for guest in host.guests] + [
            f.name or f.bdf for f in host.functions if f.kind == "endpoint"
        ]
        raise ValueError(f"no guest and no device {name!r}; {closest(name, names)}") from None
    guests = [replace(g, devices=[entry for entry in g.devices if entry.bdf != bdf]) for g in host.guests]
    return replace(host, functions=[f for f in host.functions if f.bdf != bdf], guests=guests)


def _with_driver(host: HostSpec, form: DriverForm, beside: Path) -> HostSpec:
    bdf = find_function(host, form.device).bdf
    guest = host.guest(form.guest)
    if guest is None:
        raise ValueError(f"no guest {form.guest!r}; {closest(form.guest, [g.name for g in host.guests])}")
    if bdf not in [entry.bdf for entry in guest.devices]:
        raise ValueError(f"{form.device} is not a device of {form.guest}")

    def changed(entry: AssignmentSpec) -> AssignmentSpec:
        if entry.bdf != bdf:
            return entry
        spec = replace(entry.driver, options=form.options)
        if form.driver is not None:
            spec = replace(spec, driver=form.driver, folder=folder_of(form.driver, beside))
        problems = check_driver(spec)
        if problems:
            raise ValueError("; ".join(problems))
        return replace(entry, driver=spec)

    devices = [changed(entry) for entry in guest.devices]
    guests = [replace(g, devices=devices) if g.name == guest.name else g for g in host.guests]
    return replace(host, guests=guests)
