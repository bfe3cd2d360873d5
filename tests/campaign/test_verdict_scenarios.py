"""All scenarios of xen-pci.md 7.5 and 10 in both profiles: outcome, guests and invariants are those of the table.

``scenario_verdicts.txt`` was read row by row against the specification. What a reader may stumble over:

* I9, I10, I16, I32, X16 have the policy ``ignore``: their guests had to die, and the operator lets them live.
* I22 hardened: the toolstack removed the backend's directory, so the kill is reported nowhere (H23).
* I13 to I16, I23, I29, D20 hardened: the device was taken away during its recovery, and reset; nobody died (H11).
* S7: the slot is emptied during the recovery. ``hardened`` abandons it, ``linux`` calls it failed; the guest lives.
* I3, X44, X45, S2 in linux: the fatal status bit stays (finding 9), and the device is dead (finding 5).
* I23 linux: libxl resets before it stops the guest (finding 19, BUS-30).
"""

from __future__ import annotations

import pytest

from tests.campaign.verdict_kit import PROFILES, TABLE, facts_of, played, row
from xenaer.campaign.case import Outcome
from xenaer.campaign.verdict.always import INVARIANTS
from xenaer.campaign.verdict.verdict import decide
from xenaer.scenarios.library import PLAYED

NAMES = [scenario.name for scenario in PLAYED]
EXPECTED = {tuple(line.split()[:2]): line for line in TABLE.read_text(encoding="utf-8").splitlines()}
# Which scenarios break which invariant in linux. No scenario breaks any in hardened.
BROKEN_IN_LINUX = {
    "recoveries-end": ["I11", "I12", "I34", "X33", "X42"],  # D2
    "kernels-live": ["I11", "I12", "I34", "X33", "X42"],  # D2
    "not-asked-again": ["I13", "I14", "I21", "I22", "I34", "X24"],  # BE-11
    "reported-once": ["I19", "I21", "I32", "X25", "X32"],  # errata R7, R8
    "reset-between": ["I23", "D25", "S5"],  # finding 19, D25
    "status-stays": ["I9", "S1"],  # errata 9.2 no. 14
    "neighbours": ["S5"],  # D25
}


def test_the_table_has_every_scenario() -> None:
    assert list(EXPECTED) == [(name, profile) for name in NAMES for profile in PROFILES]


@pytest.mark.parametrize("name", NAMES)
def test_verdict(name: str) -> None:
    for profile in PROFILES:
        assert row(name, profile) == EXPECTED[name, profile]


def broken(name: str, profile: str) -> set[str]:
    """Names of the invariants that do not hold."""
    case = played(name, profile)
    return {invariant for invariant, _ in decide(facts_of(case), case.after).broken}


@pytest.mark.parametrize("name", NAMES)
def test_hardened_breaks_no_invariant(name: str) -> None:
    assert not broken(name, "hardened")


@pytest.mark.parametrize("invariant", BROKEN_IN_LINUX)
def test_linux_breaks_it(invariant: str) -> None:
    assert [name for name in NAMES if invariant in broken(name, "linux")] == BROKEN_IN_LINUX[invariant]


def test_what_no_scenario_breaks_is_known() -> None:
    """They need a guest with a data path, statistics, or a defect of ours: ``test_always`` breaks them by hand."""
    unbroken = {row.name for row in INVARIANTS} - BROKEN_IN_LINUX.keys()
    assert unbroken == {"frozen-device", "dead-are-silent", "one-owner", "counters", "answers-fit", "stopped-first"}


GOOD = frozenset(
    {
        Outcome.NO_EFFECT,
        Outcome.RECOVERED,
        Outcome.RECOVERED_AFTER_RESET,
        Outcome.GUEST_KILLED_REQUIRED,
    }
)
LET_LIVE = {"I9", "I10", "I22", "I32", "X16"}  # policy ignore; the report that is written nowhere


@pytest.mark.parametrize("name", NAMES)
def test_hardened_keeps_the_promise(name: str) -> None:
    case = played(name, "hardened")
    verdict = decide(facts_of(case), case.after)
    expected = {Outcome.GUEST_ALIVE_THOUGH_REQUIRED_DEAD} if name in LET_LIVE else GOOD
    assert verdict.outcome in expected, verdict.text


@pytest.mark.parametrize("name", NAMES)
def test_the_proof_is_in_order(name: str) -> None:
    """Whoever knows of an error heard of it from the one before."""
    for profile in PROFILES:
        effect = decide(facts_of(played(name, profile)), played(name, profile).after).effect
        if effect.core:
            assert effect.injected
            assert effect.device
            assert effect.root_port
