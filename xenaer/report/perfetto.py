"""A case as Chrome trace JSON, which ui.perfetto.dev and chrome://tracing open: a process per party, a thread per task.

What lasts is a pair of ``B`` and ``E``, questions and answers are flows (``s``, ``f``), every other record and every
log line is an instant (``i``). Times are microseconds since the beginning of the case; events are in the order of time,
and at one time ends come before begins, the inner end before the outer one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from xenaer.journal import LEVELS
from xenaer.report.spans import ANSWER, CALL, HANDLERS, QUESTION, Flow, Raw, Span, Spans, Track, fields

Event = dict[str, Any]
US = 1000  # ns
LOG = "printk"
FIRST = ("dom0", "hypervisor")  # parties that come first
SHOWN_AS_SPAN = {"driver.call", "recovery.phase", "aer.root_reset_begin"}


def trace(records: Sequence[Raw], owner: dict[str, str], about: dict[str, Any]) -> dict[str, Any]:
    """The whole file. ``about`` is told in it as it is."""
    found = Spans(records, owner)
    last = max((record[0] for record in records), default=0)
    tracks = _Tracks(records, found.spans)
    events = [*_instants(records, tracks), *_spans(found.spans, last, tracks), *_flows(found.flows, tracks)]
    events.sort(key=lambda item: item[0])
    return {
        "traceEvents": [*tracks.names(), *(event for _, event in events)],
        "displayTimeUnit": "ns",
        "otherData": about,
    }


def text(data: dict[str, Any]) -> str:
    """As it is written: one event per line."""
    events = ",\n".join(json.dumps(event, ensure_ascii=False, default=_plain) for event in data["traceEvents"])
    rest = json.dumps({key: value for key, value in data.items() if key != "traceEvents"}, ensure_ascii=False)
    return f'{{"traceEvents": [\n{events}\n],\n{rest[1:]}\n'


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


class _Tracks:
    """Numbers of parties and tasks."""

    def __init__(self, records: Iterable[Raw], spans: Iterable[Span]) -> None:
        self._pids: dict[str, int] = {}
        self._tids: dict[Track, int] = {}
        seen = [*((str(record[1]), str(record[2])) for record in records), *(span.track for span in spans)]
        for party in FIRST:
            if any(track[0] == party for track in seen):
                self._pid(party)
        for track in seen:
            self._pid(track[0])
            self._tids.setdefault(track, len(self._tids) + 1)

    def _pid(self, party: str) -> int:
        return self._pids.setdefault(party, len(self._pids) + 1)

    def place(self, track: Track) -> dict[str, int]:
        """Where an event belongs."""
        return {"pid": self._pids[track[0]], "tid": self._tids[track]}

    def names(self) -> Iterator[Event]:
        """Metadata: what tracks are called."""
        for party, pid in self._pids.items():
            head = {"ph": "M", "ts": 0, "pid": pid, "tid": 0}
            yield {**head, "name": "process_name", "args": {"name": party}}
            yield {**head, "name": "process_sort_index", "args": {"sort_index": pid}}
        for track in self._tids:
            yield {"ph": "M", "ts": 0, **self.place(track), "name": "thread_name", "args": {"name": track[1] or "-"}}


Sortable = tuple[tuple[int, int, int], Event]  # (ns, rank, tie)
ENDS, BEGINS, REST = range(3)
HOLDERS = (QUESTION, CALL)


def _instants(records: Iterable[Raw], tracks: _Tracks) -> Iterator[Sortable]:
    for number, record in enumerate(records):
        now, party, task, label, subject = record[:5]
        if label in SHOWN_AS_SPAN:
            continue
        head = {"ph": "i", "ts": now / US, **tracks.place((party, task)), "s": "t"}
        if label == LOG:
            level, line = (*record[5:7], "", "")[:2]
            word = LEVELS[level] if isinstance(level, int) and 0 <= level < len(LEVELS) else str(level)
            event = {**head, "cat": "log", "name": str(line), "args": {"level": word}}
        else:
            name = f"{label} {subject}".strip()
            category = "record" if label not in HANDLERS else label.partition(".")[0]
            event = {**head, "cat": category, "name": name, "args": fields(record)}
        yield (now, REST, number), event


def _spans(spans: Iterable[Span], last: int, tracks: _Tracks) -> Iterator[Sortable]:
    """Pairs that match: a span that outlives the one around it ends with that one."""
    by_track = defaultdict[Track, list[Span]](list)
    for span in spans:
        by_track[span.track].append(span)
    tie = 0
    for track, found in by_track.items():
        waiting: list[tuple[int, Span]] = []
        for begin, end, span in _nested(found, last):
            while waiting and waiting[-1][0] <= begin:
                tie += 1
                yield _end(*waiting.pop(), tie, tracks.place(track))
            tie += 1
            bound = min(end, waiting[-1][0]) if waiting else end
            args = {**span.args, **({} if span.end is not None else {"unended": True})}
            event = {"ph": "B", "ts": begin / US, **tracks.place(track), "cat": span.kind, "name": span.name}
            yield (begin, ENDS if begin == bound else BEGINS, tie), {**event, "args": args}
            waiting.append((bound, span))
            if begin == bound:  # it takes no time: its end follows at once
                tie += 1
                yield _end(*waiting.pop(), tie, tracks.place(track))
        while waiting:
            tie += 1
            yield _end(*waiting.pop(), tie, tracks.place(track))


def _nested(spans: list[Span], last: int) -> list[tuple[int, int, Span]]:
    """Outer ones first. Questions and calls that take no time get a nanosecond, for flows to hold on to."""
    ends = [(span.begin, last if span.end is None else span.end, span) for span in spans]
    wide = [(begin, max(end, begin + (span.kind in HOLDERS)), span) for begin, end, span in ends]
    return sorted(wide, key=lambda item: (item[0], -item[1]))


def _end(now: int, span: Span, tie: int, place: dict[str, int]) -> Sortable:
    return (now, ENDS, tie), {"ph": "E", "ts": now / US, **place, "cat": span.kind, "name": span.name}


def _flows(flows: Iterable[Flow], tracks: _Tracks) -> Iterator[Sortable]:
    """Only those that arrived: a viewer draws no arrow to nowhere."""
    arrived = [flow for flow in flows if flow.end_track is not None]
    for number, flow in enumerate(arrived, 1):
        assert flow.end_track is not None
        head = {"cat": "flow", "name": flow.kind, "id": number}
        begin = {"ph": "s", "ts": flow.begin / US, **tracks.place(flow.begin_track), **head}
        yield (flow.begin, REST, 2 * number), begin
        now = max(flow.begin, flow.end - 1) if flow.kind == ANSWER else flow.end  # inside the question that it ends
        end = {"ph": "f", "bp": "e", "ts": now / US, **tracks.place(flow.end_track), **head}
        yield (now, REST, 2 * number + 1), end
