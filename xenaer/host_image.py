"""What ``config:`` of a host file means: the configuration space of a real function tells most of its other keys."""

from __future__ import annotations

from typing import Any

from protocol.config_image import describe, kind_of, read
from protocol.ids import Sbdf
from protocol.topology import FunctionSpec
from xenaer.host_form import FunctionForm, RootForm

Told = tuple[str, str]  # key, what is wrong with it


def take_image(function: FunctionSpec, form: FunctionForm) -> list[Told]:
    """Set in ``function`` what its image tells; returns what in ``form`` contradicts the image."""
    try:
        image, found = read(form.config)
    except ValueError:
        return []  # the form has said so already
    kind, fields = kind_of(image, found), describe(image, found)
    at_the_root = isinstance(form, RootForm)
    if kind != function.kind or (kind == "endpoint" and at_the_root and fields["pcie"]):
        what = _what(kind, fields["pcie"])
        return [
            ("config", f"this is the configuration space of {what}, not of {_what(function.kind, not at_the_root)}")
        ]
    problems = []
    for key, value in fields.items():
        if key in form.model_fields_set and (written := _plain(form, key)) != value:
            problems.append((key, f"{_show(written)}, but its configuration space says {_show(value)}; leave one out"))
        setattr(function, key, value)
    bus, first, last = Sbdf.parse(function.bdf).bus, function.secondary, function.subordinate
    if first and not bus < first <= last:
        problems.append(("config", f"buses {first:02x} to {last:02x} cannot be below a port on bus {bus:02x}"))
    return problems


def _plain(form: FunctionForm, key: str) -> Any:
    """What the form says, in the shape that ``FunctionSpec`` has."""
    value = getattr(form, key)
    if key == "rciep_devices":
        return sum(1 << number for number in set(value))
    return tuple(value) if isinstance(value, list) else value


def _show(value: Any) -> str:
    return f"{value:#x}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _what(kind: str | None, pcie: bool) -> str:
    if kind is None:
        return "a function that cannot be in a host"
    return with_article(kind) if pcie or kind != "endpoint" else "a conventional device"


def with_article(word: str) -> str:
    """``an endpoint``, ``a root_port``."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
