"""Compares what was emitted with what was recorded: times are free, their order counts."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from typing import Any

from xenaer.conform.case import OUTPUTS

Value = Any
FREE: dict[str, Callable[[Any], Any]] = {
    "dmesg": lambda lines: [line[1:] for line in lines],  # level and text
    "left_without_state": sorted,
}
SHOWN = 20  # lines of difference per key


def differing(emitted: dict[str, Value], recorded: dict[str, Value], fields: Sequence[str] = OUTPUTS) -> list[str]:
    """Keys of ``fields`` that are recorded and differ."""
    return [key for key in fields if key in recorded and _free(key, emitted[key]) != _free(key, recorded[key])]


def explain(key: str, emitted: Value, recorded: Value) -> list[str]:
    """A readable difference of one key: lines with ``-`` (recorded) and ``+`` (emitted)."""
    old, new = _lines(_free(key, recorded)), _lines(_free(key, emitted))
    lines = [line for line in difflib.unified_diff(old, new, lineterm="", n=1) if line[:3] not in ("---", "+++")]
    more = len(lines) - SHOWN
    return [f"  {key}:", *(f"    {line}" for line in lines[:SHOWN]), *([f"    ... {more} more"] if more > 0 else [])]


def comparable(recorded: dict[str, Value], fields: Sequence[str]) -> bool:
    """The file has answers: ``registers`` and ``counters`` count only with their second half."""
    given = [key for key in fields if key in recorded]
    halves = {"registers": "changed", "counters": "after"}
    return any(
        key not in halves or any(halves[key] in entry for entry in recorded[key].values() if isinstance(entry, dict))
        for key in given
    )


def _free(key: str, value: Value) -> Value:
    rule = FREE.get(key)
    try:
        return value if rule is None else rule(value)
    except (TypeError, IndexError, KeyError):
        return value  # a recording of another shape is different, not an error


def _lines(value: Value) -> list[str]:
    if isinstance(value, list):
        return [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in value]
    if isinstance(value, dict):
        return [line for key in sorted(value) for line in _flat(str(key), value[key])]
    return [str(value)]


def _flat(path: str, value: Value) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for key, item in value.items() for line in _flat(f"{path} {key}", item)]
    return [f"{path} {value if isinstance(value, str) else json.dumps(value)}"]
