"""The host as a tree for the blast-radius picture, and what there is to say about it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from protocol.topology import BRIDGES, FunctionSpec, HostSpec
from xenaer.story import short
from xenaer.view import KIND_WORDS

NODES_MAX = 220
NAMES_MAX = 12


def tree(host: HostSpec, sources: Iterable[str]) -> dict[str, Any]:
    """Functions with their parents, guests with their functions; ``hidden`` functions had no room."""
    owned = {entry.bdf: guest.name for guest in host.guests for entry in guest.devices}
    shown = _shown(host, {*owned, *(part for source in sources for part in source.split(" + "))})
    nodes = [
        {
            "bdf": f.bdf,
            "parent": f.parent,
            "name": f.name or short(f.bdf),
            "kind": KIND_WORDS.get(f.model if f.kind == "endpoint" else f.kind, f.kind),
            "guest": owned.get(f.bdf, ""),
            "aer": _has_aer(f),
        }
        for f in shown
    ]
    guests = [{"name": guest.name, "type": guest.type, "policy": guest.policy} for guest in host.guests]
    return {"nodes": nodes, "guests": guests, "hidden": len(host.functions) - len(shown)}


def _shown(host: HostSpec, wanted: set[str]) -> list[FunctionSpec]:
    """All functions; of a large host those that matter and the ports above them."""
    if len(host.functions) <= NODES_MAX:
        return host.functions
    parents = {f.bdf: f.parent for f in host.functions}
    keep: set[str] = set()
    for bdf in wanted:
        each = bdf
        while each in parents and each not in keep:
            keep.add(each)
            each = parents[each]
    return [f for f in host.functions if f.bdf in keep][:NODES_MAX]


def _has_aer(function: FunctionSpec) -> bool:
    return function.aer and function.pcie


def remarks(host: HostSpec) -> list[str]:
    """What the picture of this host cannot show, in sentences."""
    found = []
    if not any(f.kind in BRIDGES for f in host.functions):
        found.append(
            "This host has no bridges, so nothing is above or below anything else: the picture shows its devices side "
            "by side, and not which of them share a port. If it was imported, the dump may lack its root ports."
        )
    silent = [f.name or short(f.bdf) for f in host.functions if f.kind not in BRIDGES and not _has_aer(f)]
    if silent:
        more = f" and {len(silent) - NAMES_MAX} more" if len(silent) > NAMES_MAX else ""
        found.append(
            f"Without AER, so they report no errors of their own: {', '.join(silent[:NAMES_MAX])}{more}. What their "
            "errors would do cannot be seen here; errors of the ports above them can."
        )
    if not host.guests:
        found.append("This host has no guests, so the picture shows only where errors arise.")
    elif not any(guest.devices for guest in host.guests):
        found.append("No guest of this host has a device, so no error can reach one.")
    return found


def blast(counted: Counter[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Per source and error: cases, and outcomes of each guest."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for (source, error, text), count in sorted(counted.items()):
        if not source:
            continue
        entry = found.setdefault((source, error), {"source": source, "error": error, "cases": 0, "guests": {}})
        entry["cases"] += count
        for guest, outcome in json.loads(text).items():
            outcomes = entry["guests"].setdefault(guest, {})
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    return list(found.values())
