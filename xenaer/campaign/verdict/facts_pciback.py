"""What pciback's records prove, and dom0's kernel log: questions and answers, reports, connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dom0_pciback.pciback.profile import BYSTANDER_ROWS, HARDENED_ROWS, LINUX_ROWS
from protocol.ers import Phase
from protocol.ids import Sbdf
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.facts_parts import NEVER, Question

MS = 1_000_000
PHASES = {str(phase): str(phase) for phase in Phase}  # what else a record says is damage
PERMITTED = frozenset({"mmio_enabled", "slot_reset", "resume"})  # phases from which on a driver may use its device
PREFIX = "pciback "
FRONTEND = "fe state changed "
BY_PCIBACK = "xen_pciback: "


def _rows_by_text() -> dict[str, tuple[str, ...]]:
    """Log line of pciback -> labels of its rows in all tables: how rows that ask nobody are recognised."""
    found: dict[str, dict[str, None]] = {}
    for row in (*HARDENED_ROWS, *LINUX_ROWS, *BYSTANDER_ROWS):
        for _, text in filter(None, (row.log, row.first_log)):
            for phase in Phase:
                found.setdefault(text.format(phase=phase), {})[row.label] = None
    return {text: tuple(labels) for text, labels in found.items()}


ROWS_OF_TEXT = _rows_by_text()


def _ask(facts: Facts, party: str, r: Any) -> None:
    bdf, phase = r[3], PHASES[r[4]]
    guest = facts.guest_of(bdf)
    question = Question(facts.at, bdf, guest, phase, int(r[5]))
    question.asked_ns = r[0]
    question.leaving = bdf in facts.leaving
    question.life = facts.life(guest)
    question.recovery = facts.recovery_of(bdf)
    facts.questions.append(question)
    facts.open[bdf] = question
    facts.asked_now[bdf] = phase
    if phase in PERMITTED:
        facts.used[bdf] = True
        if facts.frozen:
            facts.frozen = {key: at for key, at in facts.frozen.items() if facts.state.names.get(key, bdf) != bdf}


def _answer(facts: Facts, party: str, r: Any) -> None:
    question = facts.open.pop(r[3], None)
    if question is None:
        return
    question.done = facts.at
    question.answer = int(r[5])
    question.situation = str(r[6])
    question.ms = ms = (r[0] - question.asked_ns) / MS
    if ms > facts.phase_ms.get(question.phase, -1.0):
        facts.phase_ms[question.phase] = ms


def _kill(facts: Facts, party: str, r: Any) -> None:
    guest = facts.guest_of(r[3])
    life = facts.life(guest)
    facts.kills.append((facts.at, r[3], life, facts.recovery_of(r[3])))
    if life is not None and life.asked_to_kill == NEVER:
        life.asked_to_kill, life.asked_to_kill_ns = facts.at, r[0]


def _export(facts: Facts, party: str, r: Any) -> None:
    bdf, guest = r[3], facts.state.owners.get(r[3], "")
    facts.state.exported[bdf] = guest, r[0]
    facts.state.names[guest, str(Sbdf.from_number(r[4]))] = bdf


def _unexport(facts: Facts, party: str, r: Any) -> None:
    facts.state.exported.pop(r[3], None)


def _connect(facts: Facts, party: str, r: Any) -> None:
    facts.state.connected.add(r[3])


def _disconnect(facts: Facts, party: str, r: Any) -> None:
    """A guest that closed is not young any more, whenever its devices were exported."""
    guest, exported = r[3], facts.state.exported
    facts.state.connected.discard(guest)
    exported.update({bdf: (guest, NEVER) for bdf, (owner, _) in exported.items() if owner == guest})


# -- the kernel itself -------------------------------------------------------------------------------
def _printk(facts: Facts, party: str, r: Any) -> None:
    text = r[5]
    facts.levels[r[4] & 7] += 1
    if text.startswith(PREFIX):
        device, _, said = text.partition(BY_PCIBACK)
        rows = ROWS_OF_TEXT.get(said)
        if rows is not None:
            facts.rows.update(rows)
            facts.said[device[len(PREFIX) : -2]] = rows
    elif text.startswith("xen-pciback ") and FRONTEND in text:
        facts.frontend_states.add(text.rpartition(" ")[2])


def oops(facts: Facts, party: str, r: Any) -> None:
    """A task died of a bug."""
    where = f" ({r[6]})" if len(r) > 6 and r[6] else ""
    facts.oopses.append((party, r[3], f"{r[4]}: {r[5]}{where}"))


def party_lost(facts: Facts, party: str, r: Any) -> None:
    """A party lost the connection to another one."""
    facts.party_lost.append((party, r[3]))


READERS: Mapping[str, Callable[[Facts, str, Any], None]] = {
    "printk": _printk,
    "kernel.oops": oops,
    "party.lost": party_lost,
    "pciback.ask": _ask,
    "pciback.answer": _answer,
    "pciback.kill": _kill,
    "pciback.export": _export,
    "pciback.unexport": _unexport,
    "pciback.connect": _connect,
    "pciback.disconnect": _disconnect,
}
