"""Was each function reset, and in the right order, when a guest ended or its function went to the next one (KILL-4).

The order of KILL-4: nothing of the guest has an effect any more, its process is dead, DMA is blocked; then the reset;
then the function is taken from the domain. A function that is kept from everybody as faulty needs no reset (KILL-5).
"""

from __future__ import annotations

from typing import NamedTuple

from xenaer.campaign.verdict.afterwards import Afterwards
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.facts_parts import NEVER, Life

MISSING, WRONG_ORDER = "missing", "wrong-order"


class ResetFault(NamedTuple):
    """A function whose reset is missing or came at the wrong moment. ``guest`` had it; ``text`` is a sentence."""

    kind: str
    guest: str
    bdf: str
    text: str


def reset_faults(facts: Facts, after: Afterwards) -> list[ResetFault]:
    """Every function that was not reset as KILL-4 wants it; missing ones first."""
    found = [
        fault
        for lives in facts.lives.values()
        for life in lives
        if life.done != NEVER or life.destroyed != NEVER
        for bdf in life.functions
        if (fault := _judge(facts, after, life, bdf)) is not None
    ]
    found += [
        ResetFault(MISSING, last, bdf, f"{bdf} was handed from {last} to {following} without a reset that worked")
        for bdf, last, following in facts.handed_on
    ]
    return sorted(found, key=lambda fault: fault.kind != MISSING)


def _judge(facts: Facts, after: Afterwards, life: Life, bdf: str) -> ResetFault | None:
    """One function of a guest that has ended; rows in order, the first that fits."""
    if bdf in facts.left and bdf not in facts.assigned:
        return None  # its slot has lost it: there is nothing to reset, and nobody else has it
    released = _first_after(facts.released.get(bdf, ()), life.end_begun())
    following = _first_after(facts.assigned.get(bdf, ()), life.end_begun())
    goods = [at for at in facts.good_resets.get(bdf, ()) if following == NEVER or at < following]
    own, good = life.resets.get(bdf, (NEVER, False))
    if any(life.dead != NEVER and at > life.dead and (released == NEVER or at < released) for at in goods):
        return _early_block(facts, life, bdf, own)
    device = after.devices.get(bdf)
    if not good and (bdf in facts.faulty or (device is not None and device.faulty)):
        return None
    if own != NEVER and good:
        return ResetFault(WRONG_ORDER, life.guest, bdf, f"{bdf} was reset {_too_early(life, own)}")
    if released != NEVER and any(at > released for at in goods):
        return ResetFault(WRONG_ORDER, life.guest, bdf, f"{bdf} was taken from {life.guest} before its reset")
    return ResetFault(MISSING, life.guest, bdf, f"{bdf} was not reset with success when {life.guest} ended")


def _too_early(life: Life, at: int) -> str:
    if life.dead == NEVER or at < life.dead:
        return f"while {life.guest} was still running"
    return f"after it had been taken from {life.guest}"


def _early_block(facts: Facts, life: Life, bdf: str, own: int) -> ResetFault | None:
    """The reset is good; was DMA blocked only after it?"""
    block = next((at for at, step, of, _ in life.steps if step == "block_dma" and of == bdf), NEVER)
    if own != NEVER and block > own:
        return ResetFault(WRONG_ORDER, life.guest, bdf, f"{bdf} was reset before its DMA was blocked")
    return None


def _first_after(moments: list[int] | tuple[()], at: int) -> int:
    return next((moment for moment in moments if moment > at), NEVER)
