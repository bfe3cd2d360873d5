"""What a guest's own records prove. It may write anything there, so nothing but its drivers' doings is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from protocol.ers import ChannelState
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.facts_parts import NEVER
from xenaer.campaign.verdict.facts_pciback import oops

FROZEN = int(ChannelState.FROZEN)
ERROR_DETECTED = "error_detected"


def _late(facts: Facts, guest: str, what: str) -> None:
    """A guest that does not run any more does nothing."""
    life = facts.life(guest)
    if life is not None and life.died != NEVER:
        facts.late_acts.append((guest, what))


def _callback(facts: Facts, party: str, r: Any) -> None:
    name, phase = r[3], str(r[4])
    facts.callbacks.append((party, name, phase))
    _late(facts, party, phase)
    bdf = facts.state.names.get((party, name))
    for question in facts.open.values():
        if question.bdf == bdf:
            question.heard.add(phase)
    if phase == ERROR_DETECTED and r[5] == FROZEN:
        facts.frozen[party, name] = facts.at


def _driver(facts: Facts, party: str, r: Any) -> None:
    facts.drivers.append((party, r[3], r[2], str(r[4])))
    _late(facts, party, r[2])


def _workload(facts: Facts, party: str, r: Any) -> None:
    name, good = r[3], r[4] == r[5] and not r[6]
    facts.workloads.append((party, name, good, str(r[6])))
    _late(facts, party, "its workload")
    if (party, name) in facts.frozen and r[5]:
        facts.frozen_use.append((party, name, "its workload"))


def _reissue(facts: Facts, party: str, r: Any) -> None:
    _late(facts, party, "sending again")
    if (party, r[3]) in facts.frozen:
        facts.frozen_use.append((party, r[3], "sending again"))


def _fault(facts: Facts, party: str, r: Any) -> None:
    facts.targets[party] = None
    facts.strikes_now("driver")
    facts.driver_faults.append((party, str(r[4]), str(r[5])))


READERS: Mapping[str, Callable[[Facts, str, Any], None]] = {
    "kernel.oops": oops,
    "fault.driver": _fault,
    "driver.callback": _callback,
    "driver.probe": _driver,
    "driver.remove": _driver,
    "driver.workload": _workload,
    "driver.reissue": _reissue,
}
