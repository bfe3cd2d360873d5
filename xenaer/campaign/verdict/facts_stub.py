"""What the hypervisor stub's records prove: lives and deaths of guests, kills, and who has a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.facts_parts import NEVER, Life
from xenaer.campaign.verdict.facts_pciback import oops, party_lost

FAILED = "failed"
TEARDOWN = "teardown "  # the task that ends a domain, and what it detaches
MS = 1_000_000
REVOKING = frozenset({"mark", "dying", "pause"})
LAST_STEPS = frozenset({"destroy", "remove_nodes", "detach_devices"})


def _snapshot(facts: Facts, life: Life) -> None:
    """The end begins: what the guest has now is what has to be reset, but what a detach has cut off and reset."""
    if not life.functions:
        owners, used = facts.state.owners, facts.used
        given_back = {bdf for bdf in facts.cut_off if not used.get(bdf)}
        mine = (bdf for bdf in owners if owners[bdf] == life.guest and bdf not in given_back)
        life.functions = dict.fromkeys(mine)


def _current(facts: Facts, guest: str) -> Life:
    life = facts.life(guest)
    if life is None:  # it began before the case, and nobody said so
        life = Life(guest, NEVER, NEVER)
        facts.lives[guest] = [life]
    return life


def _create(facts: Facts, party: str, r: Any) -> None:
    guest, domid = str(r[3]), int(r[4])
    facts.state.domids[domid] = guest
    facts.state.alive[guest] = domid
    facts.state.connected.discard(guest)
    facts.frozen = {key: at for key, at in facts.frozen.items() if key[0] != guest}
    facts.lives.setdefault(guest, []).append(Life(guest, domid, facts.at))


def _shutdown(facts: Facts, party: str, r: Any) -> None:
    life = _current(facts, r[3])
    _snapshot(facts, life)
    if life.shutdown == NEVER:
        life.shutdown, life.reason = facts.at, int(r[4])
    _ran_until(facts, life)


def _died(facts: Facts, party: str, r: Any) -> None:
    life = _current(facts, r[3])
    _snapshot(facts, life)
    life.died = facts.at
    if life.ending() == "died":
        facts.strikes_now("death")
    _ran_until(facts, life)


def _ran_until(facts: Facts, life: Life) -> None:
    if life.dead == NEVER:
        life.dead = facts.at
    if life.revoked == NEVER:
        life.revoked = facts.at


def _destroyed(facts: Facts, party: str, r: Any) -> None:
    life = _current(facts, r[3])
    life.destroyed = facts.at
    facts.state.alive.pop(r[3], None)
    facts.state.connected.discard(r[3])
    begun_ns = life.report_ns
    if begun_ns:
        facts.phase_ms["kill"] = max((r[0] - begun_ns) / MS, facts.phase_ms.get("kill", 0.0))


def _report(facts: Facts, party: str, r: Any) -> None:
    _current(facts, r[3]).report_ns = r[0]


def _incident(facts: Facts, party: str, r: Any) -> None:
    """A guest that ended before is not killed any more (KILL-8)."""
    life = _current(facts, r[3])
    if not life.ending():
        life.incident, life.policy = facts.at, str(r[4])
        _snapshot(facts, life)


def _step(facts: Facts, party: str, r: Any) -> None:
    life = _current(facts, r[3])
    step, bdf, result = str(r[4]), str(r[5]), str(r[6])
    _snapshot(facts, life)
    life.steps.append((facts.at, step, bdf, result))
    if bdf:
        life.functions[bdf] = None
    if step in REVOKING and life.revoked == NEVER:
        life.revoked = facts.at
    if step in ("stop", "pause") and result in ("ok", "dead"):
        _ran_until(facts, life)
    elif step == "reset":
        _own_reset(facts, life, bdf, result)
    elif step in LAST_STEPS:
        life.done = facts.at
    if life.incident == NEVER and life.shutdown == NEVER and life.died == NEVER:
        facts.operated.add(life.guest)


def _own_reset(facts: Facts, life: Life, bdf: str, result: str) -> None:
    """The step is written when it is done: the reset that it is about is the last one of the function.

    One that failed may not have touched the function at all, which a recovery had found faulty before.
    """
    now = facts.at, False
    life.resets[bdf] = now if result == FAILED else facts.last_reset.get(bdf, now)


def _attach(facts: Facts, party: str, r: Any) -> None:
    facts.operated.add(r[3])


def _detach_step(facts: Facts, party: str, r: Any) -> None:
    """A step of libxl's detach, which an operator asks for, or the end of a domain in ``linux``."""
    bdf, step = str(r[3]), str(r[4])
    facts.operated.add(bdf)
    facts.detach_steps.add(step)
    if step == "block_dma":
        facts.cut_off.add(bdf)
    guest = r[1].removeprefix(TEARDOWN)
    if guest == r[1]:
        facts.leaving.add(bdf)
        return
    life = _current(facts, guest)
    _snapshot(facts, life)
    life.functions[bdf] = None
    if step == "reset":
        _own_reset(facts, life, bdf, str(r[5]))


def _faulty(facts: Facts, party: str, r: Any) -> None:
    facts.faulty[r[3]] = str(r[4])


def _clean(facts: Facts, party: str, r: Any) -> None:
    facts.faulty.pop(r[3], None)


def _paused(facts: Facts, party: str, r: Any) -> None:
    facts.operated.add(r[3])


READERS: Mapping[str, Callable[[Facts, str, Any], None]] = {
    "kernel.oops": oops,
    "party.lost": party_lost,
    "domain.create": _create,
    "domain.shutdown": _shutdown,
    "domain.died": _died,
    "domain.destroy": _destroyed,
    "domain.pause": _paused,
    "kill.report": _report,
    "kill.incident": _incident,
    "kill.step": _step,
    "pci.attach": _attach,
    "pci.step": _detach_step,
    "pci.faulty": _faulty,
    "pci.clean": _clean,
}
