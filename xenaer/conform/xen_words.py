"""The texts inside a recorded Xen case: xl configuration, driver parameters, lines of XenStore listings.

Source: xen-pci-errata.md 5 (grammar of the input fields) and 4.4. Every parser raises ValueError that says what is
wrong; the case form adds file and key.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hypervisor_stub.xl_spec import SpecError, parse_spec

NO_GUEST, NO_DRIVER, AERPROBE = "(no guest)", "none", "aerprobe"
GUEST_TYPES = ("pv", "hvm")
_QUOTED = re.compile(r'"([^"]*)"')
_NODE = re.compile(r'(?P<path>/\S*) = "(?P<value>.*)" +\((?P<perms>[^)]*)\)')


class GuestPlan(NamedTuple):
    """The guest of a case: ``devices`` are (address, permissive); ``front``: it has pcifront."""

    name: str
    hvm: bool = False
    memory_mb: int = 256
    vcpus: int = 1
    devices: tuple[tuple[str, bool], ...] = ()
    front: bool = True


class Node(NamedTuple):
    """A line of ``xenstore-ls -fp``."""

    path: str
    value: str
    perms: tuple[str, ...]


def parse_guest(lines: list[str]) -> GuestPlan:
    """The xl configuration of a guest."""
    given = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines) if value}
    kind = _text(given.get("type", '"pv"'))
    if kind not in GUEST_TYPES:
        raise ValueError(f"type {kind!r}; allowed: {', '.join(GUEST_TYPES)}")
    if not _text(given.get("name", "")):
        raise ValueError("the guest has no name")
    devices = tuple(_device(text) for text in _QUOTED.findall(given.get("pci", "")))
    front = "lab.front=no" not in given.get("extra", "")
    memory, vcpus = (_number(key, given.get(key, default)) for key, default in (("memory", "256"), ("vcpus", "1")))
    return GuestPlan(_text(given["name"]), kind == "hvm", memory, vcpus, devices, front)


def _text(value: str) -> str:
    return value.strip('"')


def _number(key: str, value: str) -> int:
    if not value.isdecimal():
        raise ValueError(f"{key}: {value!r} is no number")
    return int(value)


def _device(text: str) -> tuple[str, bool]:
    try:
        spec = parse_spec(text)
    except SpecError as error:
        raise ValueError(f"pci: malformed {text!r}{f': {error}' if str(error) else ''}") from None
    if spec.bdf is None:
        raise ValueError(f"pci: {text!r} has no address")
    return str(spec.bdf), bool(spec.permissive)


def parse_driver(text: str) -> tuple[str, dict[str, int]]:
    """(driver, parameters): ``("", {})`` for ``none`` and ``(no guest)``."""
    if text == NO_GUEST:
        return "", {}
    name, _, parameters = text.strip().partition(" ")
    if name in ("", NO_DRIVER):
        return "", {}
    if name != AERPROBE:
        raise ValueError(f"driver {name!r}; allowed: {AERPROBE}, {NO_DRIVER}, {NO_GUEST}")
    options: dict[str, int] = {}
    for item in filter(None, parameters.split(",")):
        key, _, value = item.partition("=")
        try:
            options[key] = int(value, 0)
        except ValueError:
            raise ValueError(f"parameter {item!r}: {value!r} is no number") from None
    return name, options


def parse_node(line: str) -> Node | None:
    """A line of a XenStore listing; None for one that says that a directory is missing."""
    found = _NODE.fullmatch(line)
    if found is None:
        return None
    return Node(found["path"], found["value"], tuple(found["perms"].split(",")))
