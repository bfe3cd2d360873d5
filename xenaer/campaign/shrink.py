"""From a case that fails to the smallest that still fails in the same way: fewest faults, guests, devices, switches.

A case is a campaign file with one case, as plain data; ``reductions`` lists every way to make it a little smaller,
largest steps first, and ``shrink`` takes each one that keeps the failure, until none does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from xenaer.campaign.build import Case
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult
from xenaer.campaign.expectations import applies
from xenaer.form import Form

Data = dict[str, Any]
TRIES_MAX = 2_000
KEPT = {"setup", "workload", "settle_s", "case_limit_s"}  # of a campaign, as they are
NEEDED = frozenset({"device", "devices", "guest", "errors", "how", "does", "phase", "target", "which", "label", "name"})
NUMBER = re.compile(r"[0-9a-f]{4}:[0-9a-f:.]+|\b[0-9a-f]*[0-9][0-9a-f.]*")
NUMBERS = {"count": 1, "ms": 1, "for_ms": 1, "rate_per_s": 1.0}  # what a number is tried at


def same_problem(before: CaseResult, now: CaseResult) -> bool:
    """It fails as it did: the same outcome, and nothing that was not wrong before; numbers and devices may differ."""
    if now.good or now.outcome != before.outcome:
        return False
    known = {_kind(text) for text in before.problems}
    return bool(now.problems) and all(_kind(text) in known for text in now.problems)


def _kind(problem: str) -> str:
    return NUMBER.sub("#", problem)


def as_data(campaign: Campaign, case: Case, host: Any, order: list[int]) -> Data:
    """One case as a campaign file of its own; ``host`` as it is to be written there, ``order`` that of its events."""
    form = campaign.form
    data: Data = {
        "name": f"{form.name}-{case.case_id}"[:63],
        "about": f"Case {case.case_id} of {form.name}, made as small as it fails.",
        "host": host,
    }
    data |= campaign.filled_variant(case.values)
    data |= form.model_dump(include=KEPT, by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")
    data |= {
        "faults": [_plain(step) for step in case.steps],
        "explore": {"matrix": {}},
        "exact": {"seed": case.seed, "order": order},
    }
    kept = [_plain(item) for item in form.expect if applies(item, case.values)]
    data["expect"] = [{key: value for key, value in item.items() if key not in ("where", "rates")} for item in kept]
    return {key: value for key, value in data.items() if value not in ([], {}, None)} | {"host": host}


def _plain(form: Form) -> Data:
    """What of a form differs from its defaults, as it is written in a file."""
    return form.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")


def shrink(
    data: Data, fails: Callable[[Data], bool], guests: list[str], devices: list[str], tries: int = TRIES_MAX
) -> tuple[Data, int]:
    """The smallest form of ``data`` that still ``fails``, and how many were tried; ``guests``, ``devices`` may go."""
    tried, smaller = 0, True
    seen: set[str] = {repr(data)}
    while smaller:
        smaller = False
        for candidate in reductions(data, guests, devices):
            text = repr(candidate)
            if text in seen or tried >= tries:
                continue
            seen.add(text)
            tried += 1
            if fails(candidate):
                data, smaller = candidate, True
                break
    return data, tried


def reductions(data: Data, guests: list[str], devices: list[str]) -> Iterator[Data]:
    """Every way to make a case a little smaller."""
    for key in ("setup", "drivers"):
        if data.get(key):
            yield _changed(data, (key,), None)
    for key in ("faults", "setup", "defects", "drivers"):
        yield from _shorter(data, (key,))
    yield from _without(data, [*guests, *devices])
    if data.get("exact", {}).get("order"):
        yield _changed(data, ("exact", "order"), None)
    for index, step in enumerate(data.get("faults", [])):
        yield from _smaller_step(data, ("faults", index), step)


def _without(data: Data, names: list[str]) -> Iterator[Data]:
    """Guests and devices of which nothing is said are left out: all together, then one by one."""
    gone, rest = data.get("without", []), {key: value for key, value in data.items() if key != "host"}
    free = [name for name in names if name not in gone and not _mentions(rest, name)]
    for left_out in ([free] if len(free) > 1 else []) + [[name] for name in free]:
        yield data | {"without": [*gone, *left_out]}


def _smaller_step(data: Data, place: tuple[str | int, ...], value: Any) -> Iterator[Data]:
    if not isinstance(value, dict):
        return
    for key, part in value.items():
        inner = (*place, key)
        if isinstance(part, list) and len(part) > 1:
            yield from _shorter(data, inner)
        elif isinstance(part, dict) and key != "at":
            yield from _smaller_step(data, inner, part)
        elif key in NUMBERS and part != NUMBERS[key]:
            yield _changed(data, inner, NUMBERS[key])
        if len(place) > 1 and key not in NEEDED and key not in ("at", *NUMBERS) and not isinstance(part, dict):
            yield _changed(data, inner, None)


def _shorter(data: Data, place: tuple[str | int, ...]) -> Iterator[Data]:
    """The list at ``place`` without one of its items; the last first."""
    items = _at(data, place)
    for index in reversed(range(len(items or ()))):
        yield _changed(data, place, [*items[:index], *items[index + 1 :]] or None)


def _at(data: Any, place: tuple[str | int, ...]) -> Any:
    for part in place:
        data = data.get(part) if isinstance(data, dict) else data[part]
    return data


def _changed(data: Data, place: tuple[str | int, ...], value: Any) -> Data:
    """A copy with another value at ``place``; None takes the key away."""
    result = deepcopy(data)
    above = _at(result, place[:-1])
    if value is None:
        above.pop(place[-1])
    else:
        above[place[-1]] = value
    return result


def _mentions(value: Any, name: str) -> bool:
    if isinstance(value, dict):
        return any(_mentions(part, name) for part in value.values()) or name in value
    if isinstance(value, list):
        return any(_mentions(part, name) for part in value)
    return bool(value == name)
