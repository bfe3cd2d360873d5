"""Interleavings: everything that may happen next is tried, and of equivalent orders only one is played to its end.

An order is a sequence of steps, each a *lane*: the party whose state it changes and where it comes from. Steps of
different parties commute, since parties share nothing and messages keep their order; so once an order has been
played, a step that was put off need not be tried first again until something of its own party has happened
(sleep sets). What deviates least from the default order comes first, and a finding is shown with the first order
that has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Lane = tuple[str, str]
Lanes = frozenset[Lane]
Pick = Callable[[list[Lane]], int]
Run = Callable[[Pick], Iterable[str]]  # plays one order, says what was wrong with its end

NOTHING: Lanes = frozenset()
UNBOUNDED = 1 << 30


class Redundant(BaseException):
    """Raised through a run: an order equivalent to this one has been played."""


@dataclass(slots=True)
class Order:
    """How an order begins: the ways taken, what sleeps afterwards, and its deviations as text."""

    ways: tuple[int, ...] = ()
    asleep: Lanes = NOTHING
    deviations: tuple[str, ...] = ()


@dataclass(slots=True)
class Finding:
    """What is wrong, the order of fewest deviations that shows it, and how many orders do."""

    text: str
    schedule: tuple[str, ...]
    count: int = 1


@dataclass(slots=True)
class Report:
    """``complete`` orders were played to the end, ``redundant`` ones given up; ``cut``: the limit came first."""

    complete: int = 0
    redundant: int = 0
    cut: bool = False
    findings: dict[str, Finding] = field(default_factory=dict)

    def note(self, texts: Iterable[str], schedule: tuple[str, ...]) -> None:
        """One complete order and what was wrong at its end."""
        self.complete += 1
        for text in texts:
            found = self.findings.get(text)
            if found is None:
                self.findings[text] = Finding(text, schedule)
            else:
                found.count += 1


class Walk:
    """One run along an order; ``others`` are those that branch off after its given beginning."""

    __slots__ = ("_asleep", "_bound", "_order", "_path", "others")

    def __init__(self, order: Order, bound: int) -> None:
        self._order = order
        self._bound = bound
        self._asleep = order.asleep
        self._path: list[int] = []
        self.others: list[Order] = []

    def pick(self, lanes: list[Lane]) -> int:
        """Which of these steps is next."""
        path, asleep = self._path, self._asleep
        if len(path) < len(self._order.ways):
            way = self._order.ways[len(path)]
        elif len(lanes) == 1 and not asleep:
            way = 0
        else:
            way = self._first_awake(lanes, asleep)
            if len(lanes) > way + 1 and len(self._order.deviations) < self._bound:
                self._branch(lanes, way)
            if asleep:
                party = lanes[way][0]
                self._asleep = frozenset(lane for lane in asleep if lane[0] != party)
        path.append(way)
        return way

    def _first_awake(self, lanes: list[Lane], asleep: Lanes) -> int:
        for way, lane in enumerate(lanes):
            if lane not in asleep:
                return way
        raise Redundant

    def _branch(self, lanes: list[Lane], taken: int) -> None:
        done = [*self._asleep, lanes[taken]]
        before = tuple(self._path)
        for way in range(taken + 1, len(lanes)):
            lane = lanes[way]
            if lane in self._asleep:
                continue
            asleep = frozenset(other for other in done if other[0] != lane[0])
            deviation = f"step {len(before)}: {_text(lane)} before {_text(lanes[taken])}"
            self.others.append(Order((*before, way), asleep, (*self._order.deviations, deviation)))
            done.append(lane)


def _text(lane: Lane) -> str:
    return f"{lane[0]} ({lane[1]})"


def explore(run: Run, bound: int = UNBOUNDED, limit: int = UNBOUNDED) -> Report:
    """Play orders with up to ``bound`` deviations, at most ``limit`` of them."""
    report = Report()
    waiting = deque([Order()])
    while waiting:
        if report.complete + report.redundant >= limit:
            report.cut = True
            return report
        order = waiting.popleft()
        walk = Walk(order, bound)
        try:
            texts = run(walk.pick)
        except Redundant:
            report.redundant += 1
        else:
            report.note(texts, order.deviations)
        waiting.extend(walk.others)
    return report
