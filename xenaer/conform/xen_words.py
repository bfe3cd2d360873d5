"""The texts inside a recorded Xen case: xl configuration, driver parameters, monitor and shell commands.

Source: xen-pci-errata.md 5 (grammar of the input fields) and 4.3 (register lines). Every parser raises ValueError
that says what is wrong; the case form adds file and key.
"""

from __future__ import annotations

import re
import shlex
from typing import Any, NamedTuple

from hypervisor_stub.xl_spec import SpecError, parse_spec
from protocol.bits import COR, UNCOR
from protocol.ids import Sbdf
from xenaer.conform.steps import SETPCI_REGISTERS

NO_GUEST, NO_DRIVER, AERPROBE = "(no guest)", "none", "aerprobe"
GUEST_TYPES = ("pv", "hvm")
XL_WORDS = ("pause", "unpause", "pci-attach", "pci-detach", "destroy", "shutdown", "reboot")
GUEST_NAME = "$G"  # what a preparation calls the guest
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


class Inject(NamedTuple):
    """``pcie_aer_inject_error``: status bits to set in the function called ``name``."""

    name: str
    cor: int
    uncor: int
    advisory: bool


class XlCommand(NamedTuple):
    """An ``xl`` command that changes something."""

    words: tuple[str, ...]


class SetPci(NamedTuple):
    """``setpci``: ``register`` is a name of ``protocol.register_names``."""

    sbdf: Sbdf
    register: str
    value: int


Command = Inject | XlCommand | SetPci


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


def parse_monitor(text: str) -> Inject:
    """``pcie_aer_inject_error [-a] [-c] NAME ERROR``; the error by the monitor's word or as a number."""
    words = text.split()
    flags = {word for word in words[1:] if word.startswith("-")}
    rest = [word for word in words[1:] if word not in flags]
    if words[:1] != ["pcie_aer_inject_error"] or len(rest) < 2 or flags - {"-a", "-c"}:
        raise ValueError(f"monitor command {text!r}; expected: pcie_aer_inject_error [-a] [-c] NAME ERROR")
    cor, uncor = _error(rest[1], correctable="-c" in flags)
    return Inject(rest[0], cor, uncor, "-a" in flags)


def _error(word: str, *, correctable: bool) -> tuple[int, int]:
    """(correctable, uncorrectable) status bits."""
    for bit in UNCOR:
        if bit.qemu == word:
            return 0, bit.mask
    for bit in COR:
        if bit.qemu == word:
            return bit.mask, 0
    try:
        mask = int(word, 0)
    except ValueError:
        known = ", ".join(bit.qemu for bit in (*UNCOR, *COR) if bit.qemu)
        raise ValueError(f"error {word!r}; allowed: {known}, or a number") from None
    return (mask, 0) if correctable else (0, mask)


def parse_shell(text: str, guest: str) -> list[Command]:
    """What a shell line of dom0 changes; commands that only look are left out (errata 5, ``actions``)."""
    found: list[Command] = []
    for statement in re.split(r"[;&|\n]+", text):
        words = statement.replace(GUEST_NAME, guest).split()
        if words[:1] == ["xl"]:
            found += _xl(words)
        elif words[:1] == ["setpci"]:
            found += _setpci(statement)
    return found


def _xl(words: list[str]) -> list[Command]:
    rest = [word for word in words[1:] if word not in ("-v", "-vv", "-vvv")]
    if rest and rest[0] in XL_WORDS:
        return [XlCommand(tuple(rest))]
    return []


def _setpci(statement: str) -> list[Command]:
    words = shlex.split(statement)
    if len(words) < 4 or words[1] != "-s":
        return []
    found: list[Command] = []
    for word in words[3:]:
        place, equals, value = word.partition("=")
        if not equals or ">" in place:
            continue
        name = SETPCI_REGISTERS.get(place.rpartition(".")[0].lower())
        if name is None:
            raise ValueError(f"{statement.strip()!r}: register {place!r}; allowed: {', '.join(SETPCI_REGISTERS)}")
        found.append(SetPci(Sbdf.parse(words[2]), name, int(value, 16)))
    return found


def parse_node(line: str) -> Node | None:
    """A line of a XenStore listing; None for one that says that a directory is missing."""
    found = _NODE.fullmatch(line)
    if found is None:
        return None
    return Node(found["path"], found["value"], tuple(found["perms"].split(",")))


def parse_registers(line: str) -> tuple[Sbdf, dict[str, tuple[int, ...]]]:
    """``BUS:SLOT.F name=hex[,hex] ...``: the function and the values of each name."""
    address, *fields = line.split()
    values: dict[str, tuple[int, ...]] = {}
    for item in fields:
        name, equals, text = item.partition("=")
        try:
            values[name] = tuple(int(dword, 16) for dword in text.split(","))
        except ValueError:
            raise ValueError(f"{item!r} is no register value") from None
        if not equals:
            raise ValueError(f"{item!r} is no register value")
    return Sbdf.parse(address), values


def parse_counters(line: str) -> tuple[Sbdf, str, Any]:
    """``BDF FILE: ...``: the function, the sysfs file, and a number or a map of names to numbers."""
    head, colon, text = line.partition(": ")
    address, _, file = head.partition(" ")
    words = text.split()
    if not colon or not file or not words:
        raise ValueError(f"{line!r} is no counter line")
    sbdf = Sbdf.parse(address)
    numbers = [word for word in words if word.isdecimal()]
    if len(words) == 1 and numbers:
        return sbdf, file, int(words[0])
    if len(words) != 2 * len(numbers):
        raise ValueError(f"{line!r} is no counter line")
    return sbdf, file, {words[i]: int(words[i + 1]) for i in range(0, len(words), 2)}
