"""Compares emitted with recorded keys of a Xen case: times, counts of polls and hashed pointers are free.

Source: golden/xen/README.md ("How to compare"), xenaer's reading of xen-pci-errata.md R8, R13, ORD-5 and 7.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from xenaer.conform.compare import explain
from xenaer.conform.xen_emit import DOM0_LINES, GUEST_LINES, NOT_RECORDED
from xenaer.conform.xen_keys import OUTPUTS

_STAMP = re.compile(r"\[ *\d+\.\d+\] ")
_REPEATED = re.compile(r" ?\(x\d+\)$")
_POINTER = re.compile(r" @ 0x[0-9a-f]+")
RECONFIGURING = "Reconfiguring device ..."  # xenwatch comes in between where it likes (ORD-5)
REGISTER_LINE = re.compile(r"[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] \S+=")
_MISSING = object()


def value_of(data: dict[str, Any], key: str) -> Any:
    """The value at a path like ``after.regs``; ``_MISSING`` if it is not there."""
    value: Any = data
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return value


def recorded_keys(recorded: dict[str, Any], fields: Sequence[str] = OUTPUTS) -> list[str]:
    """Keys of ``fields`` that the file has and that can be compared."""
    found = []
    for key in fields:
        value = value_of(recorded, key)
        if value is not _MISSING and not (key == "after.regs" and not _are_registers(value)):
            found.append(key)
    return found


def _are_registers(value: Any) -> bool:
    """Where reading the registers blocked, the file has the text of the blocked tasks (errata 7)."""
    return isinstance(value, list) and all(isinstance(line, str) and REGISTER_LINE.match(line) for line in value)


def differing(emitted: dict[str, Any], recorded: dict[str, Any], fields: Sequence[str] = OUTPUTS) -> list[str]:
    """Keys that are recorded and differ."""
    return [
        key
        for key in recorded_keys(recorded, fields)
        if _free(key, value_of(emitted, key)) != _free(key, value_of(recorded, key))
    ]


def explained(key: str, emitted: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """A readable difference of one key."""
    return explain(key, _free(key, value_of(emitted, key)), _free(key, value_of(recorded, key)))


def _free(key: str, value: Any) -> Any:
    rule = FREE.get(key)
    try:
        return value if rule is None else rule(value)
    except (TypeError, AttributeError):
        return value  # a recording of another shape is different, not an error


def _dom0(recorded: list[str]) -> list[str]:
    """The lines that count; those whose place is chance come last."""
    texts = [text for text in _texts(recorded, DOM0_LINES) if not NOT_RECORDED.match(text)]
    anywhere = [text for text in texts if text.endswith(RECONFIGURING)]
    return [text for text in texts if not text.endswith(RECONFIGURING)] + anywhere


def _guest(recorded: list[str]) -> list[str]:
    """Without repetitions: how often a poll saw the flag is chance."""
    return [text for text, _ in groupby(_REPEATED.sub("", text).rstrip() for text in _texts(recorded, GUEST_LINES))]


def _texts(recorded: list[str], beginnings: tuple[str, ...]) -> list[str]:
    texts = [_POINTER.sub(" @", _STAMP.sub("", line, count=1)) for line in recorded]
    return [text for text in texts if text.startswith(beginnings)]


FREE: dict[str, Callable[[Any], Any]] = {"dom0_dmesg": _dom0, "domU_console": _guest}
