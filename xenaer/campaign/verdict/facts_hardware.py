"""What dom0's records about the hardware prove: errors, root ports, resets, owners.

An injected error is *pending* until the core has logged it (correctable) or has begun a recovery for it
(uncorrectable), or until the function was reset or restored. A bit that is set again while its
recovery is under way cannot be told from the first one, by nobody: it is not pending a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from protocol.layout_aer import (
    AER_ROOT_COR_RCV,
    AER_ROOT_MULTI_COR_RCV,
    AER_ROOT_MULTI_UNCOR_RCV,
    AER_ROOT_UNCOR_RCV,
)
from xenaer.campaign.verdict.facts import Facts

MULTIPLE = AER_ROOT_MULTI_COR_RCV | AER_ROOT_MULTI_UNCOR_RCV
CORRECTABLE = "CORRECTABLE"
SEVERITIES = {word: word for word in (CORRECTABLE, "NONFATAL", "FATAL")}  # what else a record says is damage
DEAD = "dead"
PERM_FAILURE = "PERM_FAILURE"
PART_OF_RECOVERY = "recovery of "  # tasks of groups, in hardened


# -- errors ------------------------------------------------------------------------------------------
def _inject(facts: Facts, party: str, r: Any) -> None:
    bdf, cor, uncor = r[3], int(r[4]), int(r[5])
    facts.strikes_now("inject")
    seen = facts.injected.setdefault(bdf, [0, 0, 0])
    seen[0] |= cor
    seen[1] |= uncor
    seen[2] += 1
    masked = facts.masked.get(bdf, (0, 0))
    cor &= ~masked[0]
    uncor &= ~(facts.in_flight.get(bdf, 0) | masked[1])
    in_reset = facts.reset_begun and any(port in facts.reset_begun for port in facts.ground.above.get(bdf, ())[1:])
    if (cor or uncor) and not in_reset:
        waiting = facts.pending.setdefault(bdf, [0, 0])
        waiting[0] |= cor
        waiting[1] |= uncor
        facts.told.discard(bdf)


def settle(facts: Facts, bdf: str, cor: int, uncor: int) -> None:
    """These bits of a function wait for nobody any more."""
    waiting = facts.pending.get(bdf)
    if waiting is not None:
        waiting[0] &= ~cor
        waiting[1] &= ~uncor
        if not (waiting[0] or waiting[1]):
            del facts.pending[bdf]


def recovery_takes(facts: Facts, source: str) -> None:
    """A recovery of ``source`` begins: it is about every uncorrectable bit that is set there."""
    facts.unrecovered.pop(source, None)
    for bdf in _about(facts, source):
        facts.in_flight[bdf] = facts.injected.get(bdf, (0, 0))[1]
        settle(facts, bdf, 0, -1)


def recovery_leaves(facts: Facts, source: str, good: bool) -> None:
    """It has ended: an error from here on is a new one.

    A new uncorrectable error of the source means one more round before that (errata 9.2 no. 14), unless nobody is left
    whom it would help; correctable ones were not what the recovery was about.
    """
    if not good:
        settle(facts, source, 0, -1)
    for bdf in _about(facts, source):
        facts.in_flight.pop(bdf, None)


def _about(facts: Facts, source: str) -> tuple[str, ...]:
    """The source; a port that contains errors holds those of everything below it."""
    return (source, *facts.ground.below.get(source, ())) if source in facts.ports_told else (source,)


def _mask(facts: Facts, party: str, r: Any) -> None:
    old = facts.masked.get(r[3], (0, 0))
    facts.masked[r[3]] = old[0] | int(r[4]), old[1] | int(r[5])


def _struck(facts: Facts, party: str, r: Any) -> None:
    """A fault of the function itself: gone, back, a reset that will fail, the slot emptied.

    What is gone reads all ones: nobody can process its errors any more.
    """
    does = r[2].removeprefix("hw.")
    facts.struck[r[3]] = does
    facts.strikes_now(does)
    if does == "gone":
        for bdf in (r[3],) if r[4] == DEAD else facts.ground.mates.get(r[3], (r[3],)):
            settle(facts, bdf, -1, -1)
            facts.unrecovered.pop(bdf, None)


def _stored(facts: Facts, party: str, r: Any) -> None:
    """Whoever writes to ``reset`` in sysfs strikes the function; its guest's driver is not told."""
    directory, _, name = str(r[3]).rpartition("/")
    if name == "reset":
        bdf = directory.rpartition("/")[2]
        facts.struck[bdf] = "sysfs reset"
        facts.operated.add(bdf)


def _message(facts: Facts, party: str, r: Any) -> None:
    facts.targets[r[3]] = None
    facts.strikes_now("message")


def _touch(facts: Facts, party: str, r: Any) -> None:
    facts.touched.append(str(r[3]))


def _port_told(facts: Facts, party: str, r: Any) -> None:
    facts.ports_told.append(str(r[3]))


def _irq(facts: Facts, party: str, r: Any) -> None:
    port, status, source = r[3], r[4], r[5]
    facts.interrupts.append((facts.at, port, status, source))
    if not facts.pending:
        return
    if status & MULTIPLE:
        facts.told.update(bdf for bdf in facts.pending if port in facts.ground.above.get(bdf, ()))
    for received, rid in ((AER_ROOT_COR_RCV, source & 0xFFFF), (AER_ROOT_UNCOR_RCV, source >> 16)):
        bdf = facts.ground.rids.get(rid) if status & received else None  # else it is that of an older message
        if bdf in facts.pending:
            facts.told.add(str(bdf))


def _overflow(facts: Facts, party: str, r: Any) -> None:
    facts.overflows += 1
    _irq(facts, party, r)


def _error(facts: Facts, party: str, r: Any) -> None:
    bdf, severity, status = r[3], SEVERITIES[r[4]], int(r[5])
    facts.errors.append((facts.at, bdf, severity, status))
    waiting = facts.pending.get(bdf)
    if severity != CORRECTABLE:
        if waiting is not None or bdf not in facts.injected:
            facts.unrecovered[bdf] = facts.at
    elif waiting is not None:
        # An advisory error is an uncorrectable one that is reported as correctable.
        settle(facts, bdf, status, 0 if waiting[0] else -1)


def _removed(facts: Facts, party: str, r: Any) -> None:
    facts.removed.add(r[3])
    facts.left.setdefault(r[3], facts.at)


def _state(facts: Facts, party: str, r: Any) -> None:
    """Permanent failure: the slot knows that the function is gone, before dom0 has forgotten it."""
    if r[4] == PERM_FAILURE:
        facts.left.setdefault(r[3], facts.at)


# -- resets ------------------------------------------------------------------------------------------
def _reset(facts: Facts, party: str, r: Any) -> None:
    subject, method, rc = r[3], r[4], int(r[5])
    hit = facts.ground.hit_by(subject, method)
    facts.resets.append((facts.at, subject, method, rc, hit))
    for bdf in hit:
        _was_reset(facts, r[1], bdf, method, rc)


def _was_reset(facts: Facts, task: str, bdf: str, method: str, rc: int) -> None:
    """A recovery has resets of its own; those that somebody else asked for meanwhile are not part of it.

    What was pulled out or ejected is no fault of anybody: its guest lives on without it, as after H11.
    """
    good = not rc
    facts.last_reset[bdf] = facts.at, good
    if good:
        settle(facts, bdf, -1, -1)  # whether it was set before, or while nothing could be set, is not told
        facts.unrecovered.pop(bdf, None)  # several are logged, then recovered one by one: by then it has no error
        facts.good_resets.setdefault(bdf, []).append(facts.at)
        facts.used[bdf] = False
    recovery = facts.recovery_of(bdf)
    if recovery is not None and (task == recovery.task or task.startswith(PART_OF_RECOVERY)):
        recovery.hit.add(bdf)
        if good:
            recovery.lost.pop(bdf, None)
        elif bdf not in facts.left:
            recovery.lost[bdf] = f"{method} reset failed ({rc})"


def _restore(facts: Facts, party: str, r: Any) -> None:
    """No status is left. Of a guest that is at its end nobody is there whom a recovery would ask."""
    settle(facts, r[3], -1, -1)
    facts.in_flight.pop(r[3], None)
    life = facts.life(facts.guest_of(r[3]))
    if life is not None and life.ending():
        facts.unrecovered.pop(r[3], None)


# -- owners ------------------------------------------------------------------------------------------
def _assign(facts: Facts, party: str, r: Any) -> None:
    bdf, domid = r[3], r[4]
    name, before = facts.state.domids.get(domid, f"domain {domid}"), facts.state.owners.get(bdf)
    if before not in (None, name):
        facts.twice_owned.append((bdf, str(before), name))
    if facts.used.get(bdf):
        facts.handed_on.append((bdf, before or "the last guest", name))
    facts.used[bdf] = True
    facts.state.owners[bdf] = name
    facts.leaving.discard(bdf)
    facts.cut_off.discard(bdf)
    facts.operated.add(bdf)
    facts.assigned.setdefault(bdf, []).append(facts.at)


def _deassign(facts: Facts, party: str, r: Any) -> None:
    facts.state.owners.pop(r[3], None)
    facts.leaving.add(r[3])
    facts.released.setdefault(r[3], []).append(facts.at)


READERS: Mapping[str, Callable[[Facts, str, Any], None]] = {
    "hw.inject": _inject,
    "hw.mask": _mask,
    "hw.gone": _struck,
    "hw.back": _struck,
    "hw.reset_fault": _struck,
    "hw.hotplug": _struck,
    "sysfs.store": _stored,
    "fault.message": _message,
    "hw.touch": _touch,
    "hw.dpc_trigger": _port_told,
    "hw.rp_pio": _port_told,
    "dpc.irq": _port_told,
    "aer.irq": _irq,
    "aer.lost": _overflow,
    "aer.error": _error,
    "pci.remove": _removed,
    "pci.state": _state,
    "pci.reset": _reset,
    "pci.restore": _restore,
    "hw.assign": _assign,
    "hw.deassign": _deassign,
}
