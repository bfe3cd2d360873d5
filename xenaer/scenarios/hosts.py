"""Hosts on which scenarios are played, in a few words.

Every host has the same machine: port 00:04.0 with functions A and B of one card, port 00:05.0 with C, and a
bridge K below 00:06.0 that pciback has seized by mistake.
"""

from __future__ import annotations

from typing import Any

from protocol.ids import Sbdf
from protocol.topology import AssignmentSpec, FunctionSpec, GuestDriverSpec, GuestSpec, HostSpec, TimingSpec

PLACES = {"A": "0000:01:00.0", "B": "0000:01:00.1", "C": "0000:02:00.0", "K": "0000:03:00.0"}
PORTS = {"A": "0000:00:04.0", "B": "0000:00:04.0", "C": "0000:00:05.0", "K": "0000:00:06.0"}
NO_DRIVERS_ID = 0x1110  # no guest driver claims it
TIMING = {"aer_budget_ms": 300_000, "connect_grace_ms": 30_000}


def place(name: str) -> str:
    """The machine address behind a letter; anything else is taken as it is."""
    return PLACES.get(name, name)


def letter(bdf: str) -> str:
    """The letter of a machine address."""
    return next((name for name, full in PLACES.items() if full == bdf), bdf)


def guest(
    name: str, devices: str, *, permissive: bool = False, spec: dict[str, Any] | None = None, **driver: Any
) -> GuestSpec:
    """A guest with the devices named by letters, all with the scripted driver and these options."""
    kind = driver.pop("driver", "scripted")
    plan = [AssignmentSpec(place(d), GuestDriverSpec(kind, dict(driver)), permissive) for d in devices]
    return GuestSpec(name, devices=plan, **(spec or {}))


def host(*guests: GuestSpec, fields: dict[str, dict[str, Any]] | None = None, **options: Any) -> HostSpec:
    """The machine with these guests; ``fields`` of FunctionSpec by letter, ``options`` of HostSpec or TimingSpec."""
    timing = TIMING | {key: options.pop(key) for key in list(options) if key.endswith("_ms")}
    functions = [_port(PORTS[name], bus) for name, bus in (("A", 1), ("C", 2))]
    functions += [_endpoint(name, (fields or {}).get(name, {})) for name in ("A", "B", "C")]
    functions.append(FunctionSpec(PORTS["K"], "root_port", secondary=3, subordinate=4, dom0_driver="pcieport"))
    bridge = {"secondary": 4, "subordinate": 4, "dom0_driver": "pciback"}
    functions.append(FunctionSpec(PLACES["K"], "upstream_port", PORTS["K"], **bridge))  # type: ignore[arg-type]
    functions.sort(key=lambda function: Sbdf.parse(function.bdf))
    return HostSpec("scenario", functions, list(guests), timing=TimingSpec(**timing), **options)


def _port(bdf: str, bus: int) -> FunctionSpec:
    return FunctionSpec(bdf, "root_port", secondary=bus, subordinate=bus, dom0_driver="pcieport")


def _endpoint(name: str, fields: dict[str, Any]) -> FunctionSpec:
    return FunctionSpec(PLACES[name], "endpoint", PORTS[name], **({"device": NO_DRIVERS_ID} | fields))
