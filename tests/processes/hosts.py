"""Hosts made in code: many ports with one device each, short waiting times, scripted guests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from protocol.topology import AssignmentSpec, FunctionSpec, GuestDriverSpec, GuestSpec, HostSpec, TimingSpec
from xenaer.boot import data_dir
from xenaer.host import load_host

BUDGET_MS = 1500
READY_MS = 10  # of every function, so that a reset costs little


def timing(**changes: int) -> TimingSpec:
    """Waiting times for tests: budgets of a second or two, resets of milliseconds."""
    short = TimingSpec(aer_budget_ms=BUDGET_MS, reset_settle_ms=10, restart_pause_ms=50, backend_wait_ms=3000)
    return replace(short, **changes)


def shipped(name: str, **changes: int) -> HostSpec:
    """A shipped host with the tests' waiting times."""
    host = load_host(data_dir("hosts") / f"{name}.yaml")
    host.timing = timing(**changes)
    for function in host.functions:
        function.ready_ms = READY_MS
    return host


def nic(number: int) -> str:
    """Address of the network device number ``number`` (0, 1, ...) of a ``flat`` host."""
    return f"0000:{number + 1:02x}:00.0"


def root_port(number: int) -> str:
    """Address of the port above it."""
    return f"0000:00:{number + 1:02x}.0"


def flat(guests: list[GuestSpec], devices: int = 0, **changes: Any) -> HostSpec:
    """A host of root ports with one network device each: as many as ``devices``, or one per guest."""
    functions = []
    for number in range(devices or len(guests)):
        port = FunctionSpec(root_port(number), "root_port", secondary=number + 1, subordinate=number + 1)
        port.vendor, port.device, port.dom0_driver = 0x1B36, 0x000C, "pcieport"
        card = FunctionSpec(nic(number), "endpoint", parent=port.bdf, model="nic", role_based=False)
        functions += [port, card]
    for function in functions:
        function.ready_ms = READY_MS
    return HostSpec("flat", functions, guests, timing=timing(**changes.pop("timing", {})), **changes)


def guest(name: str, device: str = "", driver: str = "xnic", /, **more: Any) -> GuestSpec:
    """A guest with at most one device; ``options`` are those of its driver, the rest belongs to the guest."""
    options = more.pop("options", {})
    devices = [AssignmentSpec(device, GuestDriverSpec(driver, options))] if device else []
    return GuestSpec(name, devices=devices, **more)
