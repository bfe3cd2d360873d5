"""Random errors, ends of guests and orders on shipped hosts: what ``hardened`` promises, the verdict finds kept."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from protocol.bits import COR, UNCOR
from protocol.topology import COLLECTORS
from xenaer.boot import data_dir
from xenaer.campaign.case import Outcome
from xenaer.campaign.verdict.afterwards import Afterwards
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.facts_read import read, read_on, state_after
from xenaer.campaign.verdict.ground import Ground
from xenaer.campaign.verdict.verdict import decide
from xenaer.campaign.worlds.look import look
from xenaer.host import load_host
from xenaer.simulation import SimSystem

KEPT = frozenset(
    {
        Outcome.NO_EFFECT,
        Outcome.CORRECTED_LOGGED,
        Outcome.RECOVERED,
        Outcome.RECOVERED_AFTER_RESET,
        Outcome.GUEST_KILLED_REQUIRED,
    }
)
PAUSES_MS = (0.0, 0.01, 0.05, 0.2, 1.0, 50.0, 110.0, 500.0, 6_000.0)
ENDS = ("destroy", "reboot", "shutdown")


def case(name: str, seed: int) -> tuple[Facts, Afterwards]:
    """A random case on a host: up to five errors, now and then the end of a guest."""
    chance, spec = random.Random(seed), load_host(data_dir("hosts") / f"{name}.yaml")
    system = SimSystem(replace(spec, timing=replace(spec.timing, aer_budget_ms=5_000)), seed)
    system.advance(40_000)
    ground, records = Ground(system.host), system.raw_records()
    begin, state = len(records), state_after(ground, records)
    places = [f.bdf for f in spec.functions if f.kind == "endpoint"] * 3
    places += [f.bdf for f in spec.functions if f.kind in COLLECTORS]
    for _ in range(chance.randint(1, 5)):
        cor = sum({chance.choice(COR).mask for _ in range(chance.randint(0, 2))})
        uncor = sum({chance.choice(UNCOR).mask for _ in range(chance.randint(0 if cor else 1, 2))})
        system.ctl("dom0", "inject", [chance.choice(places), cor, uncor])
        system.advance(chance.choice(PAUSES_MS))
        if chance.random() < 0.15:
            system.ctl("hypervisor", "xl", [chance.choice(ENDS), chance.choice(spec.guests).name])
    system.advance(60_000)
    facts = read(ground, state, records, begin)
    before = len(records)
    after = look(system, facts.state, 4, {})
    read_on(facts, records, before)
    return facts, replace(after, counters=None)


@pytest.mark.parametrize("name", ["one-nic", "letter"])
@pytest.mark.parametrize("seed", range(12))
def test_hardened_keeps_its_promise(name: str, seed: int) -> None:
    verdict = decide(*case(name, seed))
    assert verdict.outcome in KEPT, verdict.text
    assert not verdict.broken
