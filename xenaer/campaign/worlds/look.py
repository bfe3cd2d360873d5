"""What is looked up in a simulated system once a case is over: guests, their workloads, their devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dom0_pciback.pcie.function import Function
from domu_pcifront.bus import GuestBus
from hypervisor_stub.domains import state_letters
from protocol.ers import Severity
from protocol.layout_aer import AER
from xenaer.campaign.steps.judge import config_state, letters_state
from xenaer.campaign.verdict.afterwards import ABSENT, CLEAN, FAILED, VERIFIED, Afterwards, DeviceAfter, Workload
from xenaer.campaign.verdict.ground import State
from xenaer.simulation.system import SimError, SimSystem

REST_MS = 1.0  # the last doorbells of the traffic are still on their way
WORDS = {Severity.CORRECTABLE: "COR", Severity.NONFATAL: "NONFATAL", Severity.FATAL: "FATAL"}


def look(system: SimSystem, state: State, units: int, images: Mapping[str, bytes]) -> Afterwards:
    """Everything that the verdict asks for. ``state``: who has what now; ``images``: configuration spaces after boot.

    Traffic of ``units`` goes through every device whose driver carries any, of every guest that runs.
    """
    machine = system.hypervisor.machine
    guests = dict.fromkeys((guest.name for guest in system.host.guests), "absent")
    guests |= {domain.name: letters_state(state_letters(domain.life, domain.reason)) for domain in machine.domains}
    running = [name for name, found in guests.items() if found == "running"]
    workload = {key: work for name in running for key, work in _traffic(system, state, name, units)} if units else {}
    system.advance(REST_MS)
    return Afterwards(
        guests=guests,
        workload=workload,
        devices=dict(_devices(system, images)),
        counters=dict(_counters(system)),
    )


def _traffic(system: SimSystem, state: State, name: str, units: int) -> Iterator[tuple[tuple[str, str], Workload]]:
    bus: GuestBus | None = getattr(system.parts.guests[name].domu, "bus", None)  # a guest without manners has none
    for device in list(bus.devices.values()) if bus is not None else ():
        if device.driver is None:
            continue
        key = name, state.names.get((name, device.name), device.name)
        try:
            done = dict(system.ctl(name, "workload", [device.devfn, units])).get(device.name, 0)
        except SimError as error:
            yield key, Workload(FAILED, str(error))
            continue
        if done == units:
            yield key, Workload(VERIFIED)
        elif done:
            yield key, Workload(FAILED, f"{done} of {units} verified")


def _devices(system: SimSystem, images: Mapping[str, bytes]) -> Iterator[tuple[str, DeviceAfter]]:
    dom0 = system.dom0
    assert dom0.hierarchy is not None
    for sbdf, psdev in dom0.pciback.slots.items():
        function, bdf = dom0.hierarchy.functions.get(sbdf), str(sbdf)
        owner = "" if psdev.domid is None else dom0.pciback.guest_name(psdev.domid)
        if function is None or not function.accessible():
            yield bdf, DeviceAfter(ABSENT, "does not answer", owner, psdev.faulty)
        elif bytes(function.config.data) == images.get(bdf):
            yield bdf, DeviceAfter(CLEAN, "", owner, psdev.faulty, (0, 0))
        else:
            found, text = config_state(bytes(function.config.data))
            yield bdf, DeviceAfter(found, text, owner, psdev.faulty, _left(function))


def _counters(system: SimSystem) -> Iterator[tuple[str, dict[str, int]]]:
    """What was counted since ``SimMachine.begin``, which gives every device new counters; zeros are left out."""
    for dev in system.dom0.core.devices.values():
        if dev.aer_info is not None:
            totals = dev.aer_info.stats.totals
            found = {word: totals[severity] for severity, word in WORDS.items() if totals[severity]}
            if found:
                yield dev.name, found


def _left(function: Function) -> tuple[int, int] | None:
    """Unmasked status bits that are still set."""
    aer, peek = function.aer, function.config.peek
    if not aer:
        return None
    return (
        peek(aer + AER.COR_STATUS, 4) & ~peek(aer + AER.COR_MASK, 4),
        peek(aer + AER.UNCOR_STATUS, 4) & ~peek(aer + AER.UNCOR_MASK, 4),
    )
