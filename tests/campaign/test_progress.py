"""progress: how far a run is, in numbers, in lines and as a bar."""

from __future__ import annotations

import contextlib
import io
import os
import pty

from tests.campaign.test_store import row
from xenaer.campaign.case import Outcome
from xenaer.campaign.run.progress import Meter, Progress, shown


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_rate_and_time_left_are_of_this_sitting() -> None:
    clock, seen = Clock(), list[Progress]()
    meter = Meter(100, seen.append, clock)
    meter.found([("", "recovered", 20, 20), ("s", "lost", 10, 0)])
    clock.now_s += 2
    meter.add([row(number) for number in range(30, 44)])
    meter.add([row(44, outcome=Outcome.LOST, good=False)])  # too soon after the last report
    assert len(seen) == 1
    assert (seen[0].done, seen[0].rate, seen[0].left_s, seen[0].failing) == (44, 7.0, 8.0, 10)
    meter.report()
    assert (seen[1].done, seen[1].outcomes["lost"], seen[1].failing) == (45, 11, 11)
    assert seen[0].outcomes["lost"] == 10


def test_without_a_total_nothing_is_said_of_the_end() -> None:
    clock, seen = Clock(), list[Progress]()
    meter = Meter(None, seen.append, clock)
    clock.now_s += 10
    meter.add([row(1)])
    assert seen[0].left_s is None
    assert seen[0].line() == "1 cases, 0/s; recovered 1, failing 0"


def test_a_line_for_people() -> None:
    clock, seen = Clock(), list[Progress]()
    meter = Meter(2_000_000, seen.append, clock)
    meter.found([("", "lost", 7, 0)])
    clock.now_s += 1
    meter.add([row(number) for number in range(200)])
    assert seen[0].line() == "207 of 2000000 cases, 200/s, 2.8 h left; recovered 200, lost 7, failing 7"


def test_no_terminal_gets_a_line_now_and_then_and_the_last_one() -> None:
    stream = io.StringIO()
    with shown(stream, interval_s=1000) as show:
        for done in range(1, 11):
            show(Progress(done, 10, 5.0))
    assert stream.getvalue() == "10 of 10 cases, 5/s; failing 0\n"
    with shown(stream, interval_s=0) as show:
        show(Progress(1, None, 5.0))
        show(Progress(2, None, 5.0))
    assert len(stream.getvalue().splitlines()) == 3


def test_a_terminal_gets_a_bar() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream, shown(stream) as show:
        show(Progress(3, 10, 5.0, left_s=75.0))
    text = b""
    with contextlib.suppress(OSError):  # that is how the end of a terminal is told
        while data := os.read(ours, 65536):
            text += data
    assert b"3/10" in text
    assert b"75 s left" in text
    os.close(ours)
