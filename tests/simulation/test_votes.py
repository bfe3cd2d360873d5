"""Every answer in every phase, non-fatal and fatal: 1024 conversations against an expectation written from H-rules.

Sixteen systems of 64 guests, each below a root port of its own; all errors of a system happen at once, so that the
recoveries also run beside one another (H1).
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any, NamedTuple

import pytest

from protocol.topology import HostSpec
from tests.simulation.kit import COMP_ABORT, MALF_TLP, Rig, endpoint, guest, host, root_port

CAN_RECOVER, NEED_RESET, RECOVERED = 2, 3, 5
VOTES = (CAN_RECOVER, NEED_RESET, 4, 1, RECOVERED, 0, 6, 99)
ACCEPTED = (CAN_RECOVER, NEED_RESET, RECOVERED)  # H8 without DISCONNECT, and without NONE, which kills (H15)
SECOND = tuple(product(VOTES, VOTES))  # (mmio_enabled, slot_reset)


class Expected(NamedTuple):
    """What the guest's driver is called for, what is reset below its port, and whether the guest lives."""

    callbacks: list[str]
    resets: list[str]
    lives: bool


def expected(fatal: bool, ed: int, mmio: int, slot_reset: int) -> Expected:
    """H8, H15, H16 (who fails is killed and not asked again), H17 (frozen: reset), H21; T4 (only RECOVERED is good)."""
    said = [f"ED({2 if fatal else 1}) {ed}"]
    owed = ["bus"] if fatal else []  # a frozen recovery resets the link whoever is left (9.1)
    if ed not in ACCEPTED:
        return Expected(said, [*owed, "flr"], lives=False)
    status = ed
    if not fatal and ed == CAN_RECOVER:
        said.append(f"MM {mmio}")
        status = mmio
        if mmio in (4, 1, 0, 6, 99):
            return Expected(said, ["flr"], lives=False)
    resets = []
    if fatal or status == NEED_RESET:
        said.append(f"SR {slot_reset}")
        resets = ["bus"]
        status = slot_reset
    if status != RECOVERED:
        return Expected(said, [*resets, "flr"], lives=False)
    return Expected([*said, "RS"], resets, lives=True)


def bdf(number: int) -> str:
    """The function of guest ``number``."""
    return f"{number + 1:02x}:00.0"


def many_guests(ed: int) -> HostSpec:
    """One guest for each pair of later answers."""
    functions, guests = [], []
    for number, (mmio, slot_reset) in enumerate(SECOND):
        port = f"00:{number // 8 + 1:02x}.{number % 8}"
        functions += [root_port(port, number + 1), endpoint(bdf(number), port)]
        options: dict[str, Any] = {"ed": ed, "ed_frozen": ed, "mmio": mmio, "slot_reset": slot_reset}
        guests.append(guest(f"g{number}", bdf(number), **options))
    return host(functions, guests)


@cache
def after(fatal: bool, ed: int) -> Rig:
    """The system after the recoveries."""
    rig = Rig(many_guests(ed))
    for number in range(len(SECOND)):
        rig.inject(bdf(number), MALF_TLP if fatal else COMP_ABORT)
    return rig.settle()


@pytest.mark.parametrize("ed", VOTES)
@pytest.mark.parametrize("fatal", [False, True], ids=["nonfatal", "fatal"])
def test_every_vote_in_every_phase(fatal: bool, ed: int) -> None:
    rig = after(fatal, ed)
    states = {str(d["name"]) for d in rig.system.ctl("hypervisor", "status", [])["domains"]}
    outcomes, wrong = rig.outcomes(), []
    resets = [(e["subject"], e["method"]) for e in rig.records("pci.reset")]
    for number, (mmio, slot_reset) in enumerate(SECOND):
        port, name = f"0000:00:{number // 8 + 1:02x}.{number % 8}", f"g{number}"
        mine = [method for subject, method in resets if subject in (f"0000:{bdf(number)}", port)]
        found = Expected(rig.callbacks(name), mine, name in states)
        want = expected(fatal, ed, mmio, slot_reset)
        if found != want or (outcomes[f"0000:{bdf(number)}"] == "recovered") is not want.lives:
            wrong.append(f"{ed} {mmio} {slot_reset}: {found}, not {want}")
        before = rig.live if want.lives else rig.seized
        if rig.registers(bdf(number)) != before[f"0000:{bdf(number)}"]:
            wrong.append(f"{ed} {mmio} {slot_reset}: registers")
    assert not wrong, "\n".join(wrong)
    assert len(rig.aerfail) == len(set(rig.aerfail)) == len(SECOND) - sum(name.startswith("g") for name in states)
    rig.check()
