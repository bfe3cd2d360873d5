"""How far a fault got, as the journal proves it: five questions with yes or no."""

from __future__ import annotations

from xenaer.campaign.case import Effect
from xenaer.campaign.verdict.afterwards import CLEAN, FAILED, Afterwards
from xenaer.campaign.verdict.facts import Facts


def effect_of(facts: Facts, after: Afterwards) -> Effect:
    """Injected, seen by the device, by a root port, by the core, by a guest.

    A root port that sent no interrupt was told otherwise if the core knows: by firmware, or by containment.
    """
    core = bool(facts.errors or facts.recoveries)
    root_port = bool(facts.interrupts or facts.ports_told) or core
    device = any(status for _, _, _, status in facts.errors) or any(
        each.state != CLEAN for each in after.devices.values()
    )
    return Effect(
        injected=any((facts.injected, facts.touched, facts.ports_told, facts.struck, facts.targets, facts.operated)),
        device=device or root_port,
        root_port=root_port,
        core=core,
        guest=_guest(facts, after),
    )


def _guest(facts: Facts, after: Afterwards) -> bool:
    """A guest was asked, told, or lost something."""
    if facts.questions or facts.callbacks or facts.kills:
        return True
    if any(life.ending() for lives in facts.lives.values() for life in lives):
        return True
    return any(work.state == FAILED for work in after.workload.values())
