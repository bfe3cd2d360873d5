"""What is looked up in a system of processes once a case is over, through its control connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kernel_stub.rpc import RpcError
from protocol.layout_aer import AER
from protocol.topology import HostSpec
from xenaer.campaign.steps.judge import config_state, find_extended, letters_state
from xenaer.campaign.steps.system import System
from xenaer.campaign.verdict.afterwards import FAILED, VERIFIED, Afterwards, DeviceAfter, Workload
from xenaer.campaign.verdict.ground import State
from xenaer.control import ControlError

Key = tuple[str, str]


def look(system: System, host: HostSpec, state: State, units: int) -> Afterwards:
    """As ``look.look``; of a system that does not answer any more nothing is known but that its guests are absent."""
    try:
        status: dict[str, Any] = system.ctl("hypervisor", "status", [])
    except (ControlError, RpcError):
        return Afterwards(guests=dict.fromkeys((guest.name for guest in host.guests), "absent"))
    guests = dict.fromkeys((guest.name for guest in host.guests), "absent")
    guests |= {domain["name"]: letters_state(domain["state"]) for domain in status["domains"]}
    running = [name for name, found in guests.items() if found == "running"]
    workload = {key: work for name in running for key, work in _traffic(system, state, name, units)} if units else {}
    return Afterwards(guests=guests, workload=workload, devices=dict(_devices(system, status)))


def _traffic(system: System, state: State, name: str, units: int) -> Iterator[tuple[Key, Workload]]:
    """One request for all devices of the guest, and one for each if that fails."""
    devices = [own for guest, own in state.names if guest == name]
    try:
        done: dict[str, int] = dict(system.ctl(name, "workload", [-1, units]))
    except (ControlError, RpcError) as error:
        for own in devices:
            bdf = state.names.get((name, own), own)
            yield (name, bdf), _one(system, name, own, units, str(error))
        return
    for own, count in done.items():
        key = name, state.names.get((name, own), own)
        if count:
            yield key, Workload(VERIFIED) if count == units else Workload(FAILED, f"{count} of {units} verified")


def _one(system: System, name: str, own: str, units: int, text: str) -> Workload:
    slot, _, function = own.rpartition(":")[2].partition(".")
    devfn = int(slot, 16) << 3 | int(function)
    try:
        done = dict(system.ctl(name, "workload", [devfn, units])).get(own, 0)
    except (ControlError, RpcError) as error:
        return Workload(FAILED, str(error) or text)
    return Workload(VERIFIED) if done == units else Workload(FAILED, f"{done} of {units} verified")


def _devices(system: System, status: dict[str, Any]) -> Iterator[tuple[str, DeviceAfter]]:
    for device in status["devices"]:
        bdf = device["bdf"]
        try:
            data = bytes(system.ctl("dom0", "config", [bdf]))
        except (ControlError, RpcError):
            continue
        found, text = config_state(data)
        yield (
            bdf,
            DeviceAfter(found, text, device["domain"], device["fault"], _left(data) if found != "absent" else None),
        )


def _left(data: bytes) -> tuple[int, int] | None:
    aer = find_extended(data, AER.cap_id)
    if not aer:
        return None

    def read(offset: int) -> int:
        return int.from_bytes(data[aer + offset : aer + offset + 4], "little")

    return (
        read(AER.COR_STATUS) & ~read(AER.COR_MASK) & 0xFFFFFFFF,
        read(AER.UNCOR_STATUS) & ~read(AER.UNCOR_MASK) & 0xFFFFFFFF,
    )
