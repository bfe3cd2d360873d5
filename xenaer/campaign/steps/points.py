"""Program points: places in the course of a case at which something may be made to happen.

A point is a plain value with a text form (``to_form`` is what ``at:`` of a step takes). ``watch`` waits for one;
``passed`` lists all that a finished run has passed through, which is what an exhaustive campaign needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from protocol.ids import Sbdf
from protocol.ports import Record
from xenaer.campaign.steps.judge import matches
from xenaer.campaign.steps.point_form import MatchForm, PointForm
from xenaer.journal import Entry, entry
from xenaer.lock_names import kind

PHASE_OF = {"pciback.ask": "asked", "driver.call": "called", "pciback.answer": "answered"}
LABEL_OF = {when: label for label, when in PHASE_OF.items()}
TASK, LABEL, SUBJECT, FIRST = 1, 2, 3, 4  # where a record has them
LockEvent = tuple[str, str, str]  # party, what happened (waiting, taken, released), name of the lock
UNTOLD = frozenset({"printk", "bench.config_read"})  # no points of their own: log lines accompany other records


@dataclass(frozen=True, slots=True)
class TimePoint:
    """So many milliseconds after the case began."""

    ms: float

    def to_form(self) -> dict[str, Any]:
        """As ``at:`` takes it."""
        return {"ms": self.ms}


@dataclass(frozen=True, slots=True)
class PhasePoint:
    """A phase of a recovery at one device (None: any), as an address of the machine."""

    phase: str
    device: str | None = None
    when: str = "asked"
    nth: int = 1

    def to_form(self) -> dict[str, Any]:
        """As ``at:`` takes it."""
        return _without_defaults({"phase": self.phase, "device": self.device, "when": self.when}, self.nth)


@dataclass(frozen=True, slots=True)
class RecordPoint:
    """A journal record. ``subject`` as the journal writes it; ``fields`` by name."""

    label: str
    subject: str | None = None
    party: str | None = None
    task: str | None = None
    fields: tuple[tuple[str, Any], ...] = ()
    nth: int = 1

    def match(self) -> MatchForm:
        """The same as a form."""
        return MatchForm(
            label=self.label, subject=self.subject, party=self.party, task=self.task, fields=dict(self.fields)
        )

    def to_form(self) -> dict[str, Any]:
        """As ``at:`` takes it."""
        return _without_defaults({"record": self.match().model_dump(exclude_defaults=True)}, self.nth)


@dataclass(frozen=True, slots=True)
class LockPoint:
    """Something that happens to a lock. ``name`` may be a pattern, or a kind of lock."""

    name: str
    party: str | None = None
    when: str = "taken"
    nth: int = 1

    def to_form(self) -> dict[str, Any]:
        """As ``at:`` takes it."""
        lock = _without_defaults({"name": self.name, "party": self.party, "when": self.when}, 1)
        return _without_defaults({"lock": lock}, self.nth)


Point = TimePoint | PhasePoint | RecordPoint | LockPoint


def _without_defaults(form: dict[str, Any], nth: int) -> dict[str, Any]:
    kept = {key: value for key, value in form.items() if value is not None and (key, value) not in _DEFAULTS}
    return kept | ({"nth": nth} if nth != 1 else {})


_DEFAULTS = (("when", "asked"),)


def show(point: Point) -> str:
    """A point as a short text: ``phase slot_reset of 0000:01:00.0 asked, no. 2``."""
    if isinstance(point, TimePoint):
        return f"{point.ms:g} ms"
    nth = f", no. {point.nth}" if point.nth != 1 else ""
    if isinstance(point, PhasePoint):
        return f"phase {point.phase}{f' of {point.device}' if point.device else ''} {point.when}{nth}"
    party = f" of {point.party}" if point.party else ""
    if isinstance(point, LockPoint):
        return f"lock {point.name}{party} {point.when}{nth}"
    fields = "".join(f" {key}={value}" for key, value in point.fields)
    return f"record {point.label}{f' {point.subject}' if point.subject else ''}{fields}{party}{nth}"


# -- waiting for one ---------------------------------------------------------------------------------
class Watch:
    """``system.Watch`` for a point: says when it is reached, counted from now on."""

    def __init__(self, point: Point) -> None:
        self.point = point
        self.ms = point.ms if isinstance(point, TimePoint) else 0.0
        self.kills = ""
        self.of: Literal["time", "record", "lock"] = "record"
        if isinstance(point, TimePoint | LockPoint):
            self.of = "time" if isinstance(point, TimePoint) else "lock"
        self._left = 1 if isinstance(point, TimePoint) else point.nth
        self.owners = Owners()
        self._match = point.match() if isinstance(point, RecordPoint) else None
        pattern = point.label if isinstance(point, RecordPoint) else ""
        self._exact = "" if any(char in pattern for char in "*?[") else pattern

    @property
    def needs_owners(self) -> bool:
        """``owners`` must be told who has which device: the guest, where its handlers are called, has other names."""
        return isinstance(self.point, PhasePoint) and self.point.when == "called" and self.point.device is not None

    def record(self, party: str, record: Record) -> bool:
        """See ``system.Watch``."""
        return self._hit(party, record) and self._count()

    def entry(self, item: Entry) -> bool:
        """See ``system.Watch``."""
        names = [key for key in item if key not in ("t", "party", "task", "label", "subject")]
        record = (0, item["task"], item["label"], item["subject"], *(item[name] for name in names))
        return self.record(item["party"], record)

    def lock(self, party: str, when: str, name: str) -> bool:
        """See ``system.Watch``."""
        point = self.point
        assert isinstance(point, LockPoint)
        fits = when == point.when and point.party in (None, party)
        return fits and (kind(name) == point.name or fnmatchcase(name, point.name)) and self._count()

    def _hit(self, party: str, record: Record) -> bool:
        if self._match is not None:
            if self._exact and record[LABEL] != self._exact:
                return False
            return matches(entry(party, record), self._match, self._match.subject)
        point = self.point
        assert isinstance(point, PhasePoint)
        if self.needs_owners:
            self.owners.see(party, record)
        if record[LABEL] != LABEL_OF[point.when] or record[FIRST] != point.phase:
            return False
        return point.device is None or self.owners.machine_address(party, record) == point.device

    def _count(self) -> bool:
        self._left -= 1
        return self._left == 0


class Owners:
    """Which guest has which function of the machine, and how the guest calls it."""

    def __init__(self) -> None:
        self._guest: dict[str, str] = {}  # function -> guest
        self._names: dict[str, str] = {}  # function -> its name in the guest

    def know(self, bdf: str, guest: str, name: str) -> None:
        """A guest has a function and calls it ``name`` ("": not yet); pciback writes two digits after the dot."""
        self._guest[bdf] = guest
        if name:
            slot, _, function = name.rpartition(".")
            self._names[bdf] = str(Sbdf.parse(f"{slot}.{int(function, 16):x}"))

    def devfn(self, guest: str, bdf: str) -> int | None:
        """The number under which a guest has a function (``Sbdf.number``); None if it does not have it."""
        name = self._names.get(bdf) if self._guest.get(bdf) == guest else None
        return Sbdf.parse(name).number if name is not None else None

    def copy(self) -> Owners:
        """The same, to be changed."""
        other = Owners()
        other._guest, other._names = dict(self._guest), dict(self._names)
        return other

    def see(self, party: str, record: Record) -> None:
        """One more record."""
        if record[LABEL] == "pci.attach":
            self._guest[record[SUBJECT]] = record[FIRST]
        elif record[LABEL] == "pciback.export":
            self._names[record[SUBJECT]] = str(Sbdf.from_number(record[FIRST]))

    def machine_address(self, party: str, record: Record) -> str:
        """The function that a record of a phase is about; a guest's own name if nobody knows better."""
        subject = str(record[SUBJECT])
        if record[LABEL] != "driver.call":
            return subject
        found = (bdf for bdf, guest in self._guest.items() if guest == party and self._names.get(bdf) == subject)
        return next(found, subject)


# -- all of a run ------------------------------------------------------------------------------------
def passed(
    records: Iterable[tuple[str, Record]],
    locks: Iterable[LockEvent] = (),
    owners: Owners | None = None,
    *,
    every: bool = False,
) -> list[Point]:
    """All points of a finished run, each once: phases, then records, then locks, in the order of their first time.

    ``records`` are (party, record); ``owners`` is who had which device before the first of them. ``every``: also the
    second time of a point, the third, ... (``nth``).
    """
    phases: list[Point] = []
    others: list[Point] = []
    owners = owners.copy() if owners is not None else Owners()
    for party, record in records:
        owners.see(party, record)
        phases += _phase(owners, party, record)
        if record[LABEL] not in UNTOLD:
            others.append(RecordPoint(record[LABEL], record[SUBJECT], party))
    events = [LockPoint(name, party, when) for party, when, name in locks]
    return list(_numbered([*phases, *others, *events], {}, every=every))


def _phase(owners: Owners, party: str, record: Record) -> list[Point]:
    when = PHASE_OF.get(record[LABEL])
    return [] if when is None else [PhasePoint(str(record[FIRST]), owners.machine_address(party, record), when)]


def _numbered(points: Iterable[Point], seen: dict[Point, int], *, every: bool) -> Iterator[Point]:
    for point in points:
        seen[point] = number = seen.get(point, 0) + 1
        if number == 1:
            yield point
        elif every and not isinstance(point, TimePoint):
            yield replace(point, nth=number)


def point_of(form: PointForm, device: str | None, subject: str | None) -> Point:
    """The point that a form means; ``device`` and ``subject`` are resolved."""
    if form.ms is not None:
        return TimePoint(form.ms)
    if form.phase is not None:
        return PhasePoint(form.phase, device, form.when, form.nth)
    if form.lock is not None:
        return LockPoint(form.lock.lock, form.lock.party, form.lock.when, form.nth)
    assert form.record is not None
    match = form.record
    return RecordPoint(match.label, subject, match.party, match.task, tuple(match.fields.items()), form.nth)
