"""The recorded machine under the hardened profile: every row of xen-pci-errata.md 9.4.

Four root ports; a nic at 01:00.0 and at 02:00.0, two functions at 03:00, all seized; drivers with the parameters of
the records (section 5). Times of the second action are those of the records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from protocol.topology import FunctionSpec, GuestSpec
from tests.simulation.kit import (
    COMP_ABORT,
    MALF_TLP,
    POISON_TLP,
    UNX_COMP,
    Rig,
    endpoint,
    guest,
    host,
    root_port,
)

A, B, C, D = "01:00.0", "02:00.0", "03:00.0", "03:00.1"
ADVISORY_MASK_OFF = 0xC000  # Correctable Mask without bit 13, as the record's setpci leaves it
AER_COR_MASK = 0x114
Action = Callable[[Rig], None]


@dataclass(frozen=True)
class Case:
    """One row of 9.4: the input, then what the table expects. ``later`` is (milliseconds, action)."""

    name: str
    options: dict[str, Any] | None  # of the driver; None: no guest at all
    callbacks: str
    resets: str
    verdict: str
    writes: int
    lives: bool
    outcome: str
    error: int = COMP_ABORT
    target: str = A
    devices: tuple[str, ...] = (A,)
    driver: str = "scripted"
    kind: str = "pv"
    before: Action | None = None
    later: tuple[float, Action] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    advisory: bool = False
    leaves: dict[str, int] = field(default_factory=dict)  # registers that are not as before


def _unmask(rig: Rig) -> None:
    dev = next(d for d in rig.system.dom0.core.devices.values() if d.name == f"0000:{A}")
    rig.system.dom0.core.write(dev, AER_COR_MASK, 4, ADVISORY_MASK_OFF)


HANG = {"ed_ms": 420_000}
KILLED, RECOVERED, DETACHED = f"{A} killed", f"{A} recovered", f"{A} detached"
GOOD = "ED(1) 2, MM 5, RS"
TWICE = f"{GOOD}, {GOOD}"
BOTH = "ED(1) 2, ED(1) 2, MM 5, MM 5, RS, RS"
DESTROY, DETACH = (lambda rig: rig.start_xl("destroy", "g1")), (lambda rig: rig.start_xl("pci-detach", "g1", A))
AGAIN = "successful, successful"
NO_ERROR: dict[str, Any] = {"error": COMP_ABORT, "advisory": True}
FATAL: dict[str, Any] = {"error": MALF_TLP}
TWO: dict[str, Any] = {"devices": (A, B)}
# A masked advisory error sends no message: nobody in dom0 can know that there is something to clear (2.3).
MASKED = {"status": 1 << 13, "DevSta": 1}
NO, YES = False, True

# fmt: off
CASES = (
    #    case                            driver options                callbacks                  resets      verdict       writes alive outcome
    Case("advisory-nonfatal-unmasked",   {},                           "",                        "",         "",           0, YES, "", before=_unmask, leaves={"COR_MASK": ADVISORY_MASK_OFF}, **NO_ERROR),
    Case("advisory-nonfatal",            {},                           "",                        "",         "",           0, YES, "", leaves=MASKED, **NO_ERROR),
    Case("destroy-during-hang",          HANG,                         "",                        "flr",      "abandoned",  0, NO,  DETACHED, later=(2_011, DESTROY)),
    Case("detach-during-recovery",       {"ed_ms": 6_000},             "ED(1) 2",                 "flr",      "abandoned",  0, YES, DETACHED, later=(1_016, DETACH)),
    Case("fatal-can-recover",            {"ed_frozen": 2},             "ED(2) 2, SR 5, RS",       "bus",      "successful", 0, YES, RECOVERED, **FATAL),
    Case("fatal-ed-disconnect",          {"ed_frozen": 4},             "ED(2) 4",                 "bus, flr", "failed",     1, NO,  KILLED, **FATAL),
    Case("fatal-ed-none",                {"ed_frozen": 1},             "ED(2) 1",                 "bus, flr", "failed",     1, NO,  KILLED, **FATAL),
    Case("fatal-ed-recovered",           {"ed_frozen": 5},             "ED(2) 5, SR 5, RS",       "bus",      "successful", 0, YES, RECOVERED, **FATAL),
    Case("fatal-reset-none",             {"slot_reset": 1},            "ED(2) 3, SR 1",           "bus, flr", "failed",     1, NO,  KILLED, **FATAL),
    Case("hang-error-detected",          HANG,                         "",                        "flr",      "failed",     1, NO,  KILLED),
    Case("hvm-fatal",                    {},                           "",                        "bus, flr", "failed",     1, NO,  KILLED, kind="hvm", **FATAL),
    Case("hvm-nonfatal",                 {},                           "",                        "flr",      "failed",     1, NO,  KILLED, kind="hvm"),
    Case("link-dead-nonfatal-need-reset", {"ed": 3},                   "ED(1) 3",                 "bus, bus", "failed",     1, NO,  f"{A} faulty", fields={"link_dead_after_reset": True}),
    Case("no-driver",                    {},                           "",                        "flr",      "failed",     1, NO,  KILLED, driver=""),
    Case("no-err-handler",               {"no_err_handler": True},     "",                        "flr",      "failed",     1, NO,  KILLED),
    Case("no-slot-reset",                {"missing": ["slot_reset"]},  "ED(2) 3, RS",             "bus",      "successful", 0, YES, RECOVERED, **FATAL),
    Case("nonfatal-ed-noaer",            {"ed": 6},                    "ED(1) 6",                 "flr",      "failed",     1, NO,  KILLED),
    Case("nonfatal-ed-recovered",        {"ed": 5},                    "ED(1) 5, RS",             "",         "successful", 0, YES, RECOVERED),
    Case("nonfatal-ed-zero",             {"ed": 0},                    "ED(1) 0",                 "flr",      "failed",     1, NO,  KILLED),
    Case("nonfatal-mmio-disconnect",     {"mmio": 4},                  "ED(1) 2, MM 4",           "flr",      "failed",     1, NO,  KILLED),
    Case("nonfatal-mmio-need-reset",     {"mmio": 3},                  "ED(1) 2, MM 3, SR 5, RS", "bus",      "successful", 0, YES, RECOVERED),
    Case("nonfatal-reset-disconnect",    {"ed": 3, "slot_reset": 4},   "ED(1) 3, SR 4",           "bus, flr", "failed",     1, NO,  KILLED),
    Case("paused-guest",                 {},                           GOOD,                      "",         "successful", 0, YES, RECOVERED, before=lambda rig: rig.xl("pause", "g1"), later=(4_003, lambda rig: rig.xl("unpause", "g1"))),
    Case("repeat-twice",                 {},                           TWICE,                     "",         AGAIN,        0, YES, RECOVERED, later=(5_005, lambda rig: rig.inject(A, UNX_COMP))),
    Case("reset-after-recovery-by-detach", {},                         "ED(2) 3, SR 5, RS",       "bus, flr", "successful", 0, YES, DETACHED, later=(6_018, DETACH), **FATAL),
    Case("second-error-during-recovery", {"ed_ms": 3_000},             TWICE,                     "",         AGAIN,        0, YES, RECOVERED, later=(1_008, lambda rig: rig.inject(A, POISON_TLP))),
    Case("shutdown-after-fail",          {"ed": 4},                    "ED(1) 4",                 "flr",      "failed",     1, NO,  KILLED, later=(4_013, DESTROY)),
    Case("two-devices-both",             {"ed_ms": 500},               BOTH,                      "",         AGAIN,        0, YES, f"{RECOVERED}, {B} recovered", later=(1, lambda rig: rig.inject(B, COMP_ABORT)), **TWO),
    Case("two-devices-first",            {},                           GOOD,                      "",         "successful", 0, YES, RECOVERED, **TWO),
    Case("two-devices-second",           {},                           GOOD,                      "",         "successful", 0, YES, f"{B} recovered", target=B, **TWO),
    Case("two-functions-one-disconnects", {"ed": 4},                   "ED(1) 4",                 "flr, flr", "failed",     1, NO,  f"{C} killed, {D} killed", target=C, devices=(C, D)),
    Case("unassigned-fatal",             None,                         "",                        "bus",      "successful", 0, YES, f"{A} unassigned-ok", **FATAL),
    Case("unassigned",                   None,                         "",                        "flr",      "successful", 0, YES, f"{A} unassigned-ok"),
)
# fmt: on


def machine(case: Case) -> Rig:
    """The recorded machine with the guest of one case."""
    ports = [root_port(f"00:{number + 3:02x}.0", number) for number in (1, 2, 3, 4)]
    below = [(A, "00:04.0"), (B, "00:05.0"), (C, "00:06.0"), (D, "00:06.0")]
    nics: list[FunctionSpec] = [endpoint(bdf, port, **case.fields) for bdf, port in below]
    guests: list[GuestSpec] = []
    if case.options is not None:
        spec = {"type": case.kind}
        guests.append(guest("g1", *case.devices, driver=case.driver, spec=spec, **case.options))
    return Rig(host([*ports, *nics], guests))


def run(case: Case) -> Rig:
    """Everything that happens in one case."""
    rig = machine(case)
    if case.before is not None:
        case.before(rig)
    rig.inject(case.target, case.error, advisory=case.advisory)
    if case.later is not None:
        rig.settle(case.later[0])
        case.later[1](rig)
    return rig.settle(450_000)


def outcome_of(rig: Rig, case: Case) -> str:
    """Outcomes as the table writes them; a detach after the recovery shows in the toolstack's records."""
    found = {bdf.removeprefix("0000:"): outcome for bdf, outcome in rig.outcomes().items()}
    if rig.records("pci.detach"):
        found |= {bdf: "detached" for bdf in case.devices}
    return ", ".join(f"{bdf} {outcome}" for bdf, outcome in found.items())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_row_of_9_4(case: Case) -> None:
    rig = run(case)
    assert ", ".join(rig.callbacks()) == case.callbacks
    assert ", ".join(rig.resets()) == case.resets
    assert ", ".join(rig.verdicts()) == case.verdict
    assert len(rig.aerfail) == case.writes
    if case.options is not None:
        assert rig.alive("g1") is case.lives
    assert outcome_of(rig, case) == case.outcome
    judge_devices(rig, case)
    rig.check()


def judge_devices(rig: Rig, case: Case) -> None:
    """The sentence above the table: clean, or working in the guest's hands; a faulty device is not assignable."""
    for bdf in case.devices:
        if "faulty" in case.outcome:
            assert not rig.assignable(bdf)
        elif case.lives and case.options is not None and "detached" not in case.outcome:
            changed = {k: v for k, v in rig.registers(bdf).items() if v != rig.live[f"0000:{bdf}"][k]}
            assert changed == case.leaves
        else:
            assert rig.clean(bdf), (rig.registers(bdf), rig.seized[f"0000:{bdf}"])
