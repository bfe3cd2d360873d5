"""Reads a journal into ``Facts``: one pass, a table of small functions by label for each kind of party.

A party is believed about its own business only: a guest may write any label into its journal, and nothing but the
labels of ``facts_guest`` is read there. A record that has not the form of its label is noted and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from protocol.ports import Record
from xenaer.campaign.verdict import facts_guest, facts_hardware, facts_pciback, facts_recovery, facts_stub
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.ground import Ground, State

Reader = Callable[[Facts, str, Any], None]
TABLES: Mapping[str, Mapping[str, Reader]] = {
    "dom0": {**facts_hardware.READERS, **facts_recovery.READERS, **facts_pciback.READERS},
    "hypervisor": facts_stub.READERS,
}
SUPERVISOR = "supervisor-"
DAMAGE_SHOWN = 5  # so many damaged records are named
_UNREADABLE = (IndexError, KeyError, TypeError, ValueError, AttributeError)


def read(ground: Ground, state: State, records: Sequence[tuple[str, Record]], begin: int = 0) -> Facts:
    """What the records from ``begin`` on prove; ``state`` is how things were then, and is left as it is."""
    facts = Facts(ground, state.copy())
    read_on(facts, records, begin)
    return facts


def read_on(facts: Facts, records: Sequence[tuple[str, Record]], begin: int) -> None:
    """What the records from ``begin`` on add to ``facts``, which end there."""
    case = records[begin:] if begin else records
    add, get, guest = facts.labels.add, TABLES.get, facts_guest.READERS
    for at, item in enumerate(case, facts.count):
        try:
            party, record = item
            label = record[2]
            reader = get(party, guest).get(label)
            if reader is not None:
                facts.at = at
                reader(facts, party, record)
            add(label)
        except _UNREADABLE as error:
            _damaged(facts, item, error)
    facts.count += len(case)


def state_after(ground: Ground, records: Sequence[tuple[str, Record]], state: State | None = None) -> State:
    """How things are once these records have been written; ``state``: how they were before (default: nothing ran)."""
    return read(ground, State() if state is None else state, records).state


def _damaged(facts: Facts, item: Any, error: Exception) -> None:
    """Guests and whoever speaks for them may write nonsense; in the journal of dom0 or of the stub it is damage."""
    party = item[0] if isinstance(item, tuple | list) and item else None
    trusted = not isinstance(party, str) or party in TABLES
    if trusted and len(facts.damaged) < DAMAGE_SHOWN:
        facts.damaged.append(f"{type(error).__name__} in {str(item)[:80]!r}")
