"""The recorded machine under the hardened profile: every row of xen-pci-errata.md 9.4.

Four root ports; a function at 01:00.0 and at 02:00.0, two at 03:00, all seized; drivers with the parameters of the
records (section 5). Times of the second action are those of the records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.simulation.kit import COMP_ABORT, MALF_TLP, POISON_TLP, UNX_COMP, Rig, endpoint, guest, host, root_port

A, B, C, D = "01:00.0", "02:00.0", "03:00.0", "03:00.1"
ADVISORY_MASK_OFF = 0xC000  # Correctable Mask without bit 13, as the record's setpci leaves it
AER_COR_MASK = 0x114
Action = Callable[[Rig], object]


@dataclass(frozen=True)
class Case:
    """What happens: ``options`` of the guest's driver (None: no guest), ``later`` is (milliseconds, action).

    ``leaves`` are registers of a function that are not as before although its guest goes on.
    """

    options: dict[str, Any] | None = field(default_factory=dict)
    error: int = COMP_ABORT
    target: str = A
    devices: tuple[str, ...] = (A,)
    driver: str = "scripted"
    kind: str = "pv"
    before: Action | None = None
    later: tuple[float, Action] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    advisory: bool = False
    leaves: dict[str, int] = field(default_factory=dict)


def unmask(rig: Rig) -> None:
    """``setpci``: report advisory errors."""
    dev = next(d for d in rig.system.dom0.core.devices.values() if d.name == f"0000:{A}")
    rig.system.dom0.core.write(dev, AER_COR_MASK, 4, ADVISORY_MASK_OFF)


def background(*words: str) -> Action:
    """An ``xl`` command that the record runs in the background."""
    return lambda rig: rig.start_xl(*words)


def command(*words: str) -> Action:
    """An ``xl`` command."""
    return lambda rig: rig.xl(*words)


def error(bdf: str, bit: int) -> Action:
    """Another injection."""
    return lambda rig: rig.inject(bdf, bit)


HANG = {"ed_ms": 420_000}
DESTROY, DETACH = background("destroy", "g1"), background("pci-detach", "g1", A)
# A masked advisory error sends no message: nobody in dom0 can know that there is something to clear (2.3).
MASKED = {"status": 1 << 13, "DevSta": 1}

CASES: dict[str, Case] = {
    "advisory-nonfatal-unmasked": Case(before=unmask, advisory=True, leaves={"COR_MASK": ADVISORY_MASK_OFF}),
    "advisory-nonfatal": Case(advisory=True, leaves=MASKED),
    "destroy-during-hang": Case(HANG, later=(2_011, DESTROY)),
    "detach-during-recovery": Case({"ed_ms": 6_000}, later=(1_016, DETACH)),
    "fatal-can-recover": Case({"ed_frozen": 2}, MALF_TLP),
    "fatal-ed-disconnect": Case({"ed_frozen": 4}, MALF_TLP),
    "fatal-ed-none": Case({"ed_frozen": 1}, MALF_TLP),
    "fatal-ed-recovered": Case({"ed_frozen": 5}, MALF_TLP),
    "fatal-reset-none": Case({"slot_reset": 1}, MALF_TLP),
    "hang-error-detected": Case(HANG),
    "hvm-fatal": Case(error=MALF_TLP, kind="hvm"),
    "hvm-nonfatal": Case(kind="hvm"),
    "link-dead-nonfatal-need-reset": Case({"ed": 3}, fields={"link_dead_after_reset": True}),
    "no-driver": Case(driver=""),
    "no-err-handler": Case({"no_err_handler": True}),
    "no-slot-reset": Case({"missing": ["slot_reset"]}, MALF_TLP),
    "nonfatal-ed-noaer": Case({"ed": 6}),
    "nonfatal-ed-recovered": Case({"ed": 5}),
    "nonfatal-ed-zero": Case({"ed": 0}),
    "nonfatal-mmio-disconnect": Case({"mmio": 4}),
    "nonfatal-mmio-need-reset": Case({"mmio": 3}),
    "nonfatal-reset-disconnect": Case({"ed": 3, "slot_reset": 4}),
    "paused-guest": Case(before=command("pause", "g1"), later=(4_003, command("unpause", "g1"))),
    "repeat-twice": Case(later=(5_005, error(A, UNX_COMP))),
    "reset-after-recovery-by-detach": Case(error=MALF_TLP, later=(6_018, DETACH)),
    "second-error-during-recovery": Case({"ed_ms": 3_000}, later=(1_008, error(A, POISON_TLP))),
    "shutdown-after-fail": Case({"ed": 4}, later=(4_013, DESTROY)),
    "two-devices-both": Case({"ed_ms": 500}, devices=(A, B), later=(1, error(B, COMP_ABORT))),
    "two-devices-first": Case(devices=(A, B)),
    "two-devices-second": Case(devices=(A, B), target=B),
    "two-functions-one-disconnects": Case({"ed": 4}, target=C, devices=(C, D)),
    "unassigned-fatal": Case(None, MALF_TLP),
    "unassigned": Case(None),
}

# case | callbacks | resets | verdict | aerState writes | guest | outcome
TABLE = """
advisory-nonfatal-unmasked | - | - | - | 0 | lives | -
advisory-nonfatal | - | - | - | 0 | lives | -
destroy-during-hang | - | flr | abandoned | 0 | gone | 01:00.0 detached
detach-during-recovery | ED(1) 2 | flr | abandoned | 0 | lives | 01:00.0 detached
fatal-can-recover | ED(2) 2, SR 5, RS | bus | successful | 0 | lives | 01:00.0 recovered
fatal-ed-disconnect | ED(2) 4 | bus, flr | failed | 1 | gone | 01:00.0 killed
fatal-ed-none | ED(2) 1 | bus, flr | failed | 1 | gone | 01:00.0 killed
fatal-ed-recovered | ED(2) 5, SR 5, RS | bus | successful | 0 | lives | 01:00.0 recovered
fatal-reset-none | ED(2) 3, SR 1 | bus, flr | failed | 1 | gone | 01:00.0 killed
hang-error-detected | - | flr | failed | 1 | gone | 01:00.0 killed
hvm-fatal | - | bus, flr | failed | 1 | gone | 01:00.0 killed
hvm-nonfatal | - | flr | failed | 1 | gone | 01:00.0 killed
link-dead-nonfatal-need-reset | ED(1) 3 | bus, bus | failed | 1 | gone | 01:00.0 faulty
no-driver | - | flr | failed | 1 | gone | 01:00.0 killed
no-err-handler | - | flr | failed | 1 | gone | 01:00.0 killed
no-slot-reset | ED(2) 3, RS | bus | successful | 0 | lives | 01:00.0 recovered
nonfatal-ed-noaer | ED(1) 6 | flr | failed | 1 | gone | 01:00.0 killed
nonfatal-ed-recovered | ED(1) 5, RS | - | successful | 0 | lives | 01:00.0 recovered
nonfatal-ed-zero | ED(1) 0 | flr | failed | 1 | gone | 01:00.0 killed
nonfatal-mmio-disconnect | ED(1) 2, MM 4 | flr | failed | 1 | gone | 01:00.0 killed
nonfatal-mmio-need-reset | ED(1) 2, MM 3, SR 5, RS | bus | successful | 0 | lives | 01:00.0 recovered
nonfatal-reset-disconnect | ED(1) 3, SR 4 | bus, flr | failed | 1 | gone | 01:00.0 killed
paused-guest | ED(1) 2, MM 5, RS | - | successful | 0 | lives | 01:00.0 recovered
repeat-twice | ED(1) 2, MM 5, RS, ED(1) 2, MM 5, RS | - | successful, successful | 0 | lives | 01:00.0 recovered
reset-after-recovery-by-detach | ED(2) 3, SR 5, RS | bus, flr | successful | 0 | lives | 01:00.0 detached
second-error-during-recovery | ED(1) 2, MM 5, RS, ED(1) 2, MM 5, RS | - | successful, successful | 0 | lives \
| 01:00.0 recovered
shutdown-after-fail | ED(1) 4 | flr | failed | 1 | gone | 01:00.0 killed
two-devices-both | ED(1) 2, ED(1) 2, MM 5, MM 5, RS, RS | - | successful, successful | 0 | lives \
| 01:00.0 recovered, 02:00.0 recovered
two-devices-first | ED(1) 2, MM 5, RS | - | successful | 0 | lives | 01:00.0 recovered
two-devices-second | ED(1) 2, MM 5, RS | - | successful | 0 | lives | 02:00.0 recovered
two-functions-one-disconnects | ED(1) 4 | flr, flr | failed | 1 | gone | 03:00.0 killed, 03:00.1 killed
unassigned-fatal | - | bus | successful | 0 | - | 01:00.0 unassigned-ok
unassigned | - | flr | successful | 0 | - | 01:00.0 unassigned-ok
"""
ROWS = {row.split(" | ")[0]: row.split(" | ")[1:] for row in TABLE.strip().splitlines()}


def machine(case: Case) -> Rig:
    """The recorded machine with the guest of one case."""
    ports = [root_port(f"00:{number + 3:02x}.0", number) for number in (1, 2, 3, 4)]
    below = [(A, "00:04.0"), (B, "00:05.0"), (C, "00:06.0"), (D, "00:06.0")]
    functions = [*ports, *(endpoint(bdf, port, **case.fields) for bdf, port in below)]
    if case.options is None:
        return Rig(host(functions, []))
    spec = {"type": case.kind}
    return Rig(host(functions, [guest("g1", *case.devices, driver=case.driver, spec=spec, **case.options)]))


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


def outcomes(rig: Rig, case: Case) -> str:
    """Outcomes as the table writes them; a detach after the recovery shows in the toolstack's records."""
    found = {bdf.removeprefix("0000:"): outcome for bdf, outcome in rig.outcomes().items()}
    if rig.records("pci.detach"):
        found |= dict.fromkeys(case.devices, "detached")
    return ", ".join(f"{bdf} {outcome}" for bdf, outcome in found.items())


def observed(rig: Rig, case: Case) -> list[str]:
    """The columns of the table as this system gives them."""
    texts = (", ".join(rig.callbacks()), ", ".join(rig.resets()), ", ".join(rig.verdicts()), str(len(rig.aerfail)))
    lives = "-" if case.options is None else "lives" if rig.alive("g1") else "gone"
    return [text or "-" for text in (*texts, lives, outcomes(rig, case))]


def test_the_table_is_complete() -> None:
    assert CASES.keys() == ROWS.keys()


@pytest.mark.parametrize("name", CASES)
def test_row_of_9_4(name: str) -> None:
    case = CASES[name]
    rig = run(case)
    assert observed(rig, case) == ROWS[name]
    for bdf in case.devices:
        judge_device(rig, case, bdf)
    rig.check()


def judge_device(rig: Rig, case: Case, bdf: str) -> None:
    """The sentence above the table: clean, or working in the guest's hands; a faulty device is not assignable."""
    outcome = outcomes(rig, case)
    if "faulty" in outcome:
        assert not rig.assignable(bdf)
    elif case.options is not None and rig.alive("g1") and "detached" not in outcome:
        before, after = rig.live[f"0000:{bdf}"], rig.registers(bdf)
        assert {name: value for name, value in after.items() if value != before[name]} == case.leaves
    else:
        assert rig.clean(bdf), rig.registers(bdf)
