"""Random campaigns: any guests, any errors, any orders of the operator; at the end the invariants hold."""

from __future__ import annotations

import random

import pytest

from protocol.ids import DOM0, DOMID_IO
from protocol.topology import GuestSpec, HostSpec
from tests.simulation.kit import (
    BAD_TLP,
    COMP_ABORT,
    DLP,
    MALF_TLP,
    UNX_COMP,
    Rig,
    endpoint,
    guest,
    host,
    root_port,
    switch,
)

ROOTS = ("00:04.0", "00:1c.0")
FUNCTIONS = ("01:00.0", "01:00.1", "04:00.0", "05:00.0", "05:00.1")
PORTS = (*ROOTS, "02:00.0", "03:00.0", "03:01.0")
ERRORS = (COMP_ABORT, UNX_COMP, MALF_TLP, DLP)
VOTES = (5, 5, 5, 3, 2, 4, 1, 6, 0, 99)
FAILURES = ("raise", "exit", "spin", "hang", "panic")
COMMANDS = ("destroy", "shutdown", "pause", "unpause", "create", "pci-attach", "pci-detach", "reboot")


def some_host(chance: random.Random) -> HostSpec:
    """A card with two functions below a root port, and a switch with three more; three guests share them."""
    functions = [root_port(ROOTS[0], 1), root_port(ROOTS[1], 2, last=5)]
    functions += switch("02:00.0", ROOTS[1], 3, {"03:00.0": 4, "03:01.0": 5})
    parents = (ROOTS[0], ROOTS[0], "03:00.0", "03:01.0", "03:01.0")
    for bdf, parent in zip(FUNCTIONS, parents, strict=True):
        dead = chance.random() < 0.05
        functions.append(endpoint(bdf, parent, flr=chance.random() < 0.8, link_dead_after_reset=dead))
    owners = [chance.randrange(4) for _ in FUNCTIONS]
    guests = [some_guest(chance, n, [b for b, o in zip(FUNCTIONS, owners, strict=True) if o == n]) for n in range(3)]
    return host(functions, guests)


def some_guest(chance: random.Random, number: int, devices: list[str]) -> GuestSpec:
    """A guest with any votes, delays and failures."""
    options: dict[str, object] = {
        "ed": chance.choice((2, *VOTES)), "ed_frozen": chance.choice((3, *VOTES)), "mmio": chance.choice(VOTES),
        "slot_reset": chance.choice(VOTES), "restore": chance.random() < 0.5,
        "ed_ms": chance.choice((0, 0, 3, 300)), "resume_ms": chance.choice((0, 0, 3, 300)),
    }  # fmt: skip
    if chance.random() < 0.3:
        phase = chance.choice(("error_detected", "mmio_enabled", "slot_reset", "resume"))
        options["fail"] = {phase: chance.choice(FAILURES)}
    spec = {
        "type": chance.choice(("pv", "pv", "pv", "hvm")),
        "policy": chance.choice(("destroy", "destroy", "destroy", "poweroff", "preserve", "ignore")),
        "on_crash": chance.choice(("destroy", "restart", "preserve")),
    }
    return guest(f"g{number}", *devices, driver="scripted", spec=spec, **options)


def campaign(seed: int) -> Rig:
    """Twelve things happen at random distances; then there is time for everything to end."""
    chance = random.Random(seed)
    rig = Rig(some_host(chance), seed)
    for _ in range(12):
        name = f"g{chance.randrange(3)}"
        if chance.random() < 0.6:
            where = chance.choice((*FUNCTIONS, *FUNCTIONS, *PORTS))
            rig.inject(where, chance.choice(ERRORS), chance.choice((0, 0, BAD_TLP)))
        else:
            word = chance.choice(COMMANDS)
            rig.start_xl(word, name, *([chance.choice(FUNCTIONS)] if word.startswith("pci") else []))
        rig.settle(chance.choice((0, 0.05, 1, 20, 150, 3_000)))
    return rig.settle(4_000_000)


@pytest.mark.parametrize("seed", range(40))
def test_random_campaign(seed: int) -> None:
    rig = campaign(seed)
    rig.check()
    for bdf in FUNCTIONS:
        judge(rig, bdf)


def configuration(registers: dict[str, int]) -> dict[str, int]:
    """Registers without status: a message that arrives during a bus reset of its root port is lost (T26)."""
    return {name: value for name, value in registers.items() if name not in ("status", "DevSta")}


def judge(rig: Rig, bdf: str) -> None:
    """A function is faulty and hidden, or a guest's, or as at seizure; nobody else can reach it.

    dom0 finds faults in recoveries, the stub finds others in the resets that it orders (KILL-5).
    """
    psdev, iommu = rig.psdev(bdf), rig.system.dom0.resets.iommu
    if psdev.faulty or rig.fault(bdf):
        assert not rig.assignable(bdf)
    elif psdev.domid is None:
        assert configuration(rig.registers(bdf)) == configuration(rig.seized[f"0000:{bdf}"])
    domain = rig.system.hypervisor.machine.domains.get(iommu.owner(psdev.dev.sbdf))
    assert f"0000:{bdf}" in domain.functions if domain else iommu.owner(psdev.dev.sbdf) in (DOM0, DOMID_IO)
