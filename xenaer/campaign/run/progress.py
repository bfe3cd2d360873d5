"""How far a run is: a bar when it goes to a terminal, else a plain line now and then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from xenaer.campaign.run.rows import Row

LINE_S = 10.0  # between two plain lines
REPORT_S = 0.1  # between two reports


@dataclass(frozen=True, slots=True)
class Progress:
    """``done`` of ``total`` cases (None: not known); ``rate`` is cases per second of this sitting, ``left_s`` seconds.

    ``outcomes`` counts all cases that are done, ``failing`` those that are not good.
    """

    done: int
    total: int | None
    rate: float
    outcomes: Counter[str] = field(default_factory=Counter)
    failing: int = 0
    left_s: float | None = None

    def line(self) -> str:
        """One line for people."""
        of = "" if self.total is None else f" of {self.total}"
        left = "" if self.left_s is None else f", {_duration(self.left_s)} left"
        return f"{self.done}{of} cases, {self.rate:.0f}/s{left}; {self.counts()}".rstrip("; ")

    def counts(self) -> str:
        """The outcomes, the most frequent one first, and how many cases failed."""
        seen = [f"{outcome} {count}" for outcome, count in sorted(self.outcomes.items(), key=lambda i: (-i[1], i[0]))]
        return ", ".join([*seen, f"failing {self.failing}"])


OnProgress = Callable[[Progress], None]


class Meter:
    """Counts what is finished and reports it, not too often. ``clock`` in seconds."""

    def __init__(self, total: int | None, on_progress: OnProgress, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._on_progress = on_progress
        self._clock = clock
        self._begin_s = clock()
        self._reported_s = float("-inf")
        self._outcomes: Counter[str] = Counter()
        self._before = self._failing = 0

    def found(self, counts: Iterable[tuple[str, str, int, int]]) -> None:
        """Cases of an earlier sitting: (stratum, outcome, how many, how many of them good)."""
        for _, outcome, count, good in counts:
            self._outcomes[outcome] += count
            self._failing += count - good
            self._before += count

    def add(self, rows: Iterable[Row]) -> None:
        """Cases that were finished now."""
        for row in rows:
            self._outcomes[row.outcome] += 1
            self._failing += not row.good
        if self._clock() - self._reported_s >= REPORT_S:
            self.report()

    def report(self) -> None:
        """Say how far the run is."""
        self._reported_s = self._clock()
        done = self._outcomes.total()
        rate = (done - self._before) / max(self._reported_s - self._begin_s, 1e-9)
        left_s = (self._total - done) / rate if self._total is not None and rate else None
        self._on_progress(Progress(done, self._total, rate, self._outcomes.copy(), self._failing, left_s))


@contextmanager
def shown(stream: IO[str], interval_s: float = LINE_S) -> Iterator[OnProgress]:
    """A function that shows progress on ``stream``, in the way that fits it."""
    if stream.isatty():
        with _bar(stream) as show:
            yield show
    else:
        yield _lines(stream, interval_s)


def _lines(stream: IO[str], interval_s: float) -> OnProgress:
    last_s, over = time.monotonic(), False

    def show(progress: Progress) -> None:
        nonlocal last_s, over
        over, before = progress.done == progress.total, over
        if time.monotonic() - last_s >= interval_s or (over and not before):
            last_s = time.monotonic()
            stream.write(progress.line() + "\n")
            stream.flush()

    return show


@contextmanager
def _bar(stream: IO[str]) -> Iterator[OnProgress]:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    with Bar(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("", total=None, text="")

        def show(progress: Progress) -> None:
            left = "" if progress.left_s is None else f"{_duration(progress.left_s)} left  "
            text = f"{progress.rate:.0f}/s  {left}{progress.counts()}"
            bar.update(task, completed=progress.done, total=progress.total, text=text)

        yield show


def _duration(seconds: float) -> str:
    """``75 s``, ``12 min``, ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
