"""A case as a sequence diagram: lanes, rows in the order of the journal, and stretches of time to look at.

A row is [ns since the row before, lane, other lane or -1, kind, text]. What happens on the way from one lane to another
is an arrow; the rest happens on its lane. Log lines (kind ``log``) have their level in place of the other lane. Texts
are numbers in a list that all cases of a page share, since journals say the same things again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from protocol.ers import result_name
from xenaer.report.spans import KILL, PHASE, RECOVERY, Raw, Spans, fields
from xenaer.story import GOOD_VOTES, error_names, severity_word, short, vote_word

HARDWARE, CORE, PCIBACK, STUB = "hardware", "AER core", "pciback", "stub"
GUESTS_MAX = 4  # with lanes of their own
OTHER_GUESTS = "others"
ROWS_MAX = 1_500  # of one case
RANGES_MAX = 60
KINDS = ("dim", "log", "call", "ask", "answer", "error", "reset", "kill", "fault", "good", "bad")
HARDWARE_LABELS = ("hw.", "bench.")
STUB_LABELS = ("kill.", "domain.", "evtchn.", "grant.", "party.", "pci.attach", "pci.detach", "pci.step", "pci.faulty")
PCIBACK_WORDS = ("pciback", "xen-pciback", "xen_pciback")
GOOD = (*GOOD_VOTES, "done")

Place = tuple[int, int, str, str]  # lane, other lane or -1, kind, text


class Texts:
    """Texts that are written once."""

    def __init__(self) -> None:
        self.every: list[str] = []
        self.size = 0  # characters, about what the page pays for them
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of a text."""
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self.every)
            self.every.append(text)
            self.size += len(text) + 4
        return found


class Diagram:
    """Turns the records of one case into rows."""

    def __init__(self, records: Sequence[Raw], owner: dict[str, str]) -> None:
        self._records = records[:ROWS_MAX]
        self.cut = len(records) - len(self._records)
        self._spans = Spans(self._records, owner)
        self.asked = _askers(self._spans)
        self._guests = _guests(self._records)
        names = [*self._guests[:GUESTS_MAX], *([OTHER_GUESTS] if len(self._guests) > GUESTS_MAX else [])]
        self.lanes = [HARDWARE, CORE, PCIBACK]
        for name in names:
            self.lanes += [f"pcifront {name}", f"driver {name}"]
        self.lanes.append(STUB)

    def plain(self, texts: Texts) -> dict[str, Any]:
        """For the page."""
        rows, before = [], self._records[0][0] if self._records else 0
        begin = before
        for record in self._records:
            lane, other, kind, text = self._place(record)
            rows.append([record[0] - before, lane, other, KINDS.index(kind), texts.number(text)])
            before = record[0]
        return {"lanes": self.lanes, "rows": rows, "ranges": self._ranges(begin), "cut": self.cut}

    def _ranges(self, begin: int) -> list[list[Any]]:
        """Stretches: whole recoveries, kills, phases."""
        last = self._records[-1][0] if self._records else 0
        wanted = [span for span in self._spans.spans if span.kind in (RECOVERY, PHASE, KILL)]
        wanted.sort(key=lambda span: (span.begin, span.kind == PHASE))
        return [
            [span.kind, span.name, span.begin - begin, (last if span.end is None else span.end) - begin]
            for span in wanted[:RANGES_MAX]
        ]

    # -- lanes -------------------------------------------------------------------------------------
    def _place(self, record: Raw) -> Place:
        label = record[3]
        rule = ARROWS.get(label)
        if rule is not None:
            return rule(self, record)
        lane = self.lane(self.home(record))
        if label == "printk":
            level = record[5] if len(record) > 5 and isinstance(record[5], int) else 6
            line = str(record[6]) if len(record) > 6 else ""
            return lane, level, "log", line
        kind = "fault" if label.startswith(("fault.", "hw.storm", "hw.gone", "hw.reset_fault", "hw.mask")) else "dim"
        return lane, -1, kind, said(record)

    def lane(self, name: str) -> int:
        """The number of a lane."""
        return self.lanes.index(name) if name in self.lanes else len(self.lanes) - 1

    def front(self, guest: str) -> int:
        """pcifront of a guest."""
        if guest not in self._guests:
            return 3 if len(self.lanes) > 4 else self.lane(STUB)
        return 3 + 2 * min(self._guests.index(guest), GUESTS_MAX)

    def driver(self, guest: str) -> int:
        """The driver of a guest; a party that is no guest has none, whatever its journal says."""
        return self.front(guest) + 1 if guest in self._guests else self.front(guest)

    def asked_guest(self, record: Raw) -> int:
        """The lane of the guest that this question is for."""
        return self.front(self.asked.get((record[4], record[0], record[5]), ""))

    def home(self, record: Raw) -> str:
        """The lane on which something happens that concerns nobody else."""
        party, label = record[1], record[3]
        if party in self._guests:
            front = self.lanes[self.front(party)]
            drivers = label.startswith(("driver.", "fault.driver")) or (label == "printk" and not _of_pcifront(record))
            return front.replace("pcifront ", "driver ", 1) if drivers else front
        if party != "dom0" or label.startswith(STUB_LABELS):
            return STUB
        if label.startswith(HARDWARE_LABELS):
            return HARDWARE
        if label.startswith(("pciback.", "fault.message")) or (label == "printk" and _of_pciback(record)):
            return PCIBACK
        return CORE


def _of_pciback(record: Raw) -> bool:
    return len(record) > 6 and str(record[6]).startswith(PCIBACK_WORDS)


def _of_pcifront(record: Raw) -> bool:
    return len(record) > 6 and str(record[6]).startswith("pcifront")


def _guests(records: Iterable[Raw]) -> list[str]:
    """Guests that say anything, those that are asked first before the others."""
    every = dict.fromkeys(str(r[1]) for r in records if r[1] not in ("dom0", "hypervisor", "control"))
    found = [name for name in every if not name.startswith("supervisor")]
    called = dict.fromkeys(str(r[1]) for r in records if r[3] == "driver.call" and r[1] in found)
    return [*called, *(name for name in found if name not in called)]


def _askers(spans: Spans) -> dict[tuple[str, int, str], str]:
    """(function, time, phase) of a question -> guest, as its answer or its owner tells."""
    found = {(s.args["device"], s.begin, s.name): str(s.args["guest"]) for s in spans.spans if "guest" in s.args}
    for flow in spans.flows:
        if flow.kind == "ask" and flow.end_track is not None:
            for key in found:
                if key[1] == flow.begin and f"questions about {key[0]}" == flow.begin_track[1]:
                    found[key] = flow.end_track[0]
    return found


# -- what stands in a row --------------------------------------------------------------------------
def said(record: Raw) -> str:
    """A record that has no sentence of its own."""
    values = " ".join(f"{name}={value}" for name, value in fields(record).items() if value not in ("", None))
    return " ".join(part for part in (record[3], short(str(record[4])), values) if part)


def _error(seq: Diagram, record: Raw) -> Place:
    given = fields(record)
    severity = severity_word(given.get("severity", ""))
    text = f"{severity} {error_names(severity, given.get('status', ''))} {short(record[4])}".replace("  ", " ")
    return seq.lane(HARDWARE), seq.lane(CORE), "error", text


def _inject(seq: Diagram, record: Raw) -> Place:
    given = fields(record)
    names = [error_names(kind, given.get(key)) for kind, key in (("correctable", "cor"), ("fatal", "uncor"))
             if given.get(key)]  # fmt: skip
    return seq.lane(HARDWARE), -1, "fault", f"⚡ {short(record[4])} {' '.join(names)}"


def _irq(seq: Diagram, record: Raw) -> Place:
    return seq.lane(HARDWARE), seq.lane(CORE), "call", f"irq {short(record[4])}"


def _ask(seq: Diagram, record: Raw) -> Place:
    return seq.lane(PCIBACK), seq.asked_guest(record), "ask", f"{record[5]}? {short(record[4])}"


def _pciback_call(seq: Diagram, record: Raw) -> Place:
    return seq.lane(CORE), seq.lane(PCIBACK), "call", f"{record[5]} {short(record[4])}"


def _pciback_return(seq: Diagram, record: Raw) -> Place:
    return seq.lane(PCIBACK), seq.lane(CORE), "call", vote_word(fields(record).get("result"))


def _driver_call(seq: Diagram, record: Raw) -> Place:
    front = seq.front(record[1])
    return front, seq.driver(record[1]), "ask", str(record[5])


def _driver_callback(seq: Diagram, record: Raw) -> Place:
    front, phase = seq.front(record[1]), str(record[5])
    word = "done" if phase == "resume" else vote_word(fields(record).get("answer"))
    return seq.driver(record[1]), front, "answer" if word in GOOD else "bad", word


def _answer(seq: Diagram, record: Raw) -> Place:
    given = fields(record)
    situation = str(given.get("situation", ""))
    answered = [key for key in seq.asked if key[0] == record[4] and key[1] <= record[0]]
    guest = seq.asked[max(answered, key=lambda key: key[1])] if answered else ""
    if not situation.startswith("answer"):
        return seq.lane(PCIBACK), -1, "bad", f"✗ {situation} {short(record[4])}"
    done = given.get("phase") == "resume"
    value = given.get("answer")
    word = "done" if done else result_name(value) if isinstance(value, int) else str(value)
    return seq.front(guest), seq.lane(PCIBACK), "answer" if word in GOOD else "bad", word


def _reset(seq: Diagram, record: Raw) -> Place:
    given = fields(record)
    good = given.get("result") == 0
    text = f"↻ {given.get('method', 'bus')} reset {short(record[4])}: {'done' if good else given.get('result')}"
    return seq.lane(CORE), seq.lane(HARDWARE), "reset" if good else "bad", text


def _give_up(seq: Diagram, record: Raw) -> Place:
    return seq.lane(PCIBACK), seq.lane(STUB), "kill", f"aerfail {short(record[4])}"


def _kill(seq: Diagram, record: Raw) -> Place:
    return seq.lane(STUB), -1, "kill", f"☠ {record[4]} is killed (policy {record[5]})"


def _kill_step(seq: Diagram, record: Raw) -> Place:
    given = fields(record)
    step, bdf, result = (str(given.get(key, "")) for key in ("step", "bdf", "result"))
    text = f"{step} {short(bdf)} {result}".replace("  ", " ")
    kind = "bad" if result in ("failed", "bad", "timeout") else "kill"
    other = seq.front(record[4]) if step == "stop" else seq.lane(HARDWARE) if bdf else -1
    return seq.lane(STUB), other, kind, text


def _begin(seq: Diagram, record: Raw) -> Place:
    return seq.lane(CORE), -1, "error", f"recovery of {short(record[4])}, channel {str(record[5]).lower()}"


def _phase(seq: Diagram, record: Raw) -> Place:
    return seq.lane(CORE), -1, "call", f"{record[5]} {short(record[4])}"


def _vote(seq: Diagram, record: Raw) -> Place:
    given = fields(record)
    return seq.lane(CORE), -1, "dim", f"vote {given.get('vote') or '-'} → {given.get('merged', '')}"


def _end(seq: Diagram, record: Raw) -> Place:
    given = fields(record)
    good = given.get("verdict") == "successful"
    return seq.lane(CORE), -1, "good" if good else "bad", f"{'✔' if good else '✘'} recovery {given.get('verdict', '')}"


def _died(seq: Diagram, record: Raw) -> Place:
    return seq.front(record[4]), seq.lane(STUB), "kill", f"process of {record[4]} ended"


def _oops(seq: Diagram, record: Raw) -> Place:
    return seq.lane(seq.home(record)), -1, "bad", f"! {record[5]}: {record[6] if len(record) > 6 else ''}"


def _workload(seq: Diagram, record: Raw) -> Place:
    given = fields(record)
    good = not given.get("error") and given.get("asked") == given.get("verified")
    text = f"workload {given.get('verified')} of {given.get('asked')} {given.get('error', '')}".strip()
    return seq.driver(record[1]), -1, "good" if good else "bad", text


ARROWS: dict[str, Callable[[Diagram, Raw], Place]] = {
    "hw.inject": _inject,
    "aer.irq": _irq,
    "aer.error": _error,
    "recovery.begin": _begin,
    "recovery.phase": _phase,
    "recovery.vote": _vote,
    "recovery.end": _end,
    "pciback.ask": _ask,
    "pciback.call": _pciback_call,
    "pciback.return": _pciback_return,
    "pciback.answer": _answer,
    "pciback.kill": _give_up,
    "driver.call": _driver_call,
    "driver.callback": _driver_callback,
    "driver.workload": _workload,
    "pci.reset": _reset,
    "kill.incident": _kill,
    "kill.step": _kill_step,
    "domain.died": _died,
    "kernel.oops": _oops,
}
