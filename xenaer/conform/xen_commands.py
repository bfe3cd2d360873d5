"""What a recorded Xen case does: monitor commands of the machine and shell commands of dom0.

Source: xen-pci-errata.md 5 (``inject``, ``actions``, ``pre``). The parsers raise ValueError that says what is wrong.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from protocol.bits import COR, UNCOR
from protocol.ids import Sbdf
from xenaer.conform.steps import SETPCI_REGISTERS

XL_WORDS = ("pause", "unpause", "pci-attach", "pci-detach", "destroy", "shutdown", "reboot")
GUEST_NAME = "$G"  # what a preparation calls the guest


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
