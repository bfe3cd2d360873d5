"""What of a journal lasts: recoveries and their phases, questions to guests, calls of drivers, resets, kills.

Each span lies on a track, (party, name); spans of a track lie inside one another or beside one another. What never
ended has ``end`` None. Questions and resets of a device have a track of their own, since they overlap what else the
task does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from protocol.ers import result_name
from protocol.labels import LABELS

Track = tuple[str, str]
Raw = tuple[Any, ...]  # ns, party, task, label, subject, fields...
RECOVERY, PHASE, QUESTION, CALL, RESET, KILL, STEP = "recovery", "phase", "question", "call", "reset", "kill", "step"
ASK, ANSWER = "ask", "answer"


@dataclass(slots=True)
class Span:
    """``kind`` is one of the words above; ``args`` are told where there is room."""

    track: Track
    kind: str
    name: str
    begin: int
    end: int | None = None
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Flow:
    """From one track to another: a question or its answer. ``end_track`` is None if it never arrived."""

    kind: str
    begin_track: Track
    begin: int
    end_track: Track | None = None
    end: int = 0


def fields(record: Raw) -> dict[str, Any]:
    """The fields of a record by name; what its label does not name is left out."""
    return dict(zip(LABELS.get(record[3], ()), record[5:], strict=False))


class Spans:
    """Reads the records of a case in their order. ``owner`` says which guest has a function; it may know less."""

    def __init__(self, records: Iterable[Raw], owner: dict[str, str]) -> None:
        self.spans: list[Span] = []
        self.flows: list[Flow] = []
        self._owner = dict(owner)
        self._open: dict[tuple[str, ...], Span] = {}
        self._asked: list[tuple[str, str, Span, Flow]] = []  # guest or "", phase, question, flow to the guest
        self._called: dict[Track, tuple[Span, Flow]] = {}  # question that a guest's driver is answering
        self._resetting: dict[Track, int] = {}  # task -> when it last said that it resets
        self._stepped: dict[Track, int] = {}  # task -> end of its last step of a kill
        for record in records:
            handler = HANDLERS.get(record[3])
            if handler is not None:
                handler(self, record)

    # -- recoveries ----------------------------------------------------------------------------
    def recovery_begin(self, record: Raw) -> None:
        """A recovery begins; it lasts until the last end that its task writes."""
        now, track = record[0], (record[1], record[2])
        self._close(("phase", *track), now)
        self._open.pop(("recovery", *track), None)
        given = {"device": record[4], **fields(record)}
        self._begin(("recovery", *track), Span(track, RECOVERY, f"recovery {record[4]}", now, None, given))

    def recovery_end(self, record: Raw) -> None:
        """It may be told once per function."""
        now, track = record[0], (record[1], record[2])
        self._close(("phase", *track), now)
        found = self._open.get(("recovery", *track))
        if found is not None:
            found.end = now
            found.args.update(fields(record))

    def phase(self, record: Raw) -> None:
        """A phase lasts until the next one."""
        now, track = record[0], (record[1], record[2])
        self._close(("phase", *track), now)
        self._begin(("phase", *track), Span(track, PHASE, str(record[5]), now, None, {"device": record[4]}))

    def phase_over(self, record: Raw) -> None:
        """A reset follows."""
        self._close(("phase", record[1], record[2]), record[0])
        self._resetting[record[1], record[2]] = record[0]

    # -- questions and answers ------------------------------------------------------------------
    def ask(self, record: Raw) -> None:
        """pciback asks the guest that has the function."""
        now, _, _, _, bdf, phase = record[:6]
        track = (record[1], f"questions about {bdf}")
        self._close(("ask", bdf), now)
        guest = self._owner.get(bdf, "")
        span = Span(track, QUESTION, str(phase), now, None, {"device": bdf, "guest": guest, **fields(record)})
        self._begin(("ask", bdf), span)
        flow = Flow(ASK, track, now)
        self.flows.append(flow)
        self._asked.append((guest, str(phase), span, flow))

    def answer(self, record: Raw) -> None:
        """The answer, or why there is none."""
        now, bdf = record[0], record[4]
        given = fields(record)
        span = self._open.get(("ask", bdf))
        if span is None:
            return
        span.args.update(given, answer=_vote(given.get("answer")))
        self._close(("ask", bdf), now)
        self._asked = [item for item in self._asked if item[2] is not span]
        for track, (question, back) in list(self._called.items()):
            if question is span:
                del self._called[track]
                if back.end_track is None and back.begin and str(given.get("situation", "")).startswith("answer"):
                    back.end_track, back.end = span.track, now

    def call(self, record: Raw) -> None:
        """A guest's driver is called: the oldest question of this phase that it may belong to."""
        now, party, task, _, device, phase = record[:6]
        track = (party, task)
        self._close(("call", *track), now)
        self._begin(("call", *track), Span(track, CALL, f"driver: {phase}", now, None, {"device": device}))
        for item in self._asked:
            guest, asked, question, flow = item
            if asked == phase and guest in ("", party):
                flow.end_track, flow.end = track, now
                self._asked.remove(item)
                self._called[track] = question, Flow(ANSWER, track, 0)
                return

    def called(self, record: Raw) -> None:
        """The driver has answered."""
        now, track = record[0], (record[1], record[2])
        span = self._open.get(("call", *track))
        if span is not None:
            span.args["answer"] = _vote(fields(record).get("answer"))
            self._close(("call", *track), now)
        if track in self._called:
            flow = self._called[track][1]
            flow.begin = now if span is None else max(span.begin, now - 1)  # still inside the call
            self.flows.append(flow)

    # -- resets, kills, owners --------------------------------------------------------------------
    def said(self, record: Raw) -> None:
        """dom0 says when a reset begins, in its log only."""
        text = str(record[6]) if len(record) > 6 else ""
        if text.endswith(": resetting") or ": reset via" in text:
            self._resetting.setdefault((record[1], record[2]), record[0])

    def reset(self, record: Raw) -> None:
        """A function, or what is below a port, was reset."""
        now, party, task, _, bdf = record[:5]
        begin: int = self._resetting.pop((party, task), now)
        given = fields(record)
        name = f"{given.get('method', 'bus')} reset of {bdf}"
        self.spans.append(Span((party, f"resets of {bdf}"), RESET, name, begin, now, given))

    def kill(self, record: Raw) -> None:
        """A guest is killed, until its domain is gone."""
        now, party, task, _, guest = record[:5]
        self._close(("kill", guest), now)
        self._begin(("kill", guest), Span((party, task), KILL, f"kill {guest}", now, None, fields(record)))

    def step(self, record: Raw) -> None:
        """Steps are written when they are done."""
        now, track, given = record[0], (record[1], record[2]), fields(record)
        begin = self._stepped.setdefault(track, now)
        self._stepped[track] = now
        name = f"{given.get('step', '')} {given.get('bdf', '')}".strip()
        self.spans.append(Span(track, STEP, name, begin, now, given))

    def destroyed(self, record: Raw) -> None:
        """The end of a kill."""
        self._close(("kill", record[4]), record[0])

    def attached(self, record: Raw) -> None:
        """A function has another owner."""
        self._owner[record[4]] = str(record[5])

    def detached(self, record: Raw) -> None:
        """A function has no owner."""
        self._owner.pop(record[4], None)

    # -- helpers -----------------------------------------------------------------------------------
    def _begin(self, key: tuple[str, ...], span: Span) -> None:
        self._open[key] = span
        self.spans.append(span)

    def _close(self, key: tuple[str, ...], now: int) -> None:
        span = self._open.pop(key, None)
        if span is not None and span.end is None:
            span.end = now


def _vote(value: Any) -> str:
    return result_name(value) if isinstance(value, int) else str(value or "")


HANDLERS: dict[str, Callable[[Spans, Raw], None]] = {
    "recovery.begin": Spans.recovery_begin,
    "recovery.end": Spans.recovery_end,
    "recovery.phase": Spans.phase,
    "recovery.report": Spans.phase,
    "aer.root_reset_begin": Spans.phase_over,
    "aer.root_reset": Spans.reset,
    "pciback.ask": Spans.ask,
    "pciback.answer": Spans.answer,
    "driver.call": Spans.call,
    "driver.callback": Spans.called,
    "printk": Spans.said,
    "pci.reset": Spans.reset,
    "kill.incident": Spans.kill,
    "kill.step": Spans.step,
    "domain.destroy": Spans.destroyed,
    "pci.attach": Spans.attached,
    "pci.detach": Spans.detached,
}
