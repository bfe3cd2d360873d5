"""What a person sees: the ladder of phases, kills with their reset, a summary; at most 100 columns, plain in a pipe."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from xenaer.boot import data_dir
from xenaer.campaign.file import load_script
from xenaer.campaign.steps.play import StepResult
from xenaer.host import load_host
from xenaer.journal import Entry
from xenaer.story import WIDTH, Story
from xenaer.view import View, hierarchy_lines

NIC0, NIC1 = "0000:01:00.0", "0000:02:00.0"


def record(t: float, party: str, label: str, subject: str, **fields: Any) -> Entry:
    return {"t": t, "party": party, "task": "t", "label": label, "subject": subject, **fields}


RECOVERY = [
    record(1.0, "dom0", "aer.error", NIC0, severity="NONFATAL", status=1 << 20, header=False),
    record(1.0001, "dom0", "recovery.begin", NIC0, state="NORMAL"),
    record(1.001, "dom0", "pciback.ask", NIC0, phase="error_detected", state=1),
    record(1.002, "good", "driver.callback", "0000:00:00.0", phase="error_detected", state=1, answer=2),
    record(1.003, "dom0", "pciback.answer", NIC0, phase="error_detected", answer=2, situation="answer-valid"),
    record(1.004, "dom0", "pciback.ask", NIC0, phase="resume", state=1),
    record(1.0055, "dom0", "pciback.answer", NIC0, phase="resume", answer=1, situation="answer-none"),
    record(1.006, "dom0", "recovery.end", NIC0, result="RECOVERED", verdict="successful"),
]
KILL = [
    record(2.0, "dom0", "aer.error", NIC1, severity="FATAL", status=1 << 4, header=False),
    record(2.001, "dom0", "pciback.answer", NIC1, phase="error_detected", answer=0, situation="no-aer-handler"),
    record(2.002, "dom0", "pciback.kill", NIC1),
    record(2.003, "hypervisor", "kill.incident", "bad", policy="destroy"),
    record(2.004, "hypervisor", "kill.step", "bad", step="mark", bdf="", result="crash"),
    record(2.005, "hypervisor", "kill.step", "bad", step="stop", bdf="", result="ok"),
    record(2.006, "hypervisor", "kill.step", "bad", step="reset", bdf=NIC1, result="flr"),
    record(2.007, "hypervisor", "kill.step", "bad", step="check", bdf=NIC1, result="bad"),
    record(2.0075, "dom0", "recovery.outcome", NIC1, outcome="killed"),
    record(2.008, "dom0", "recovery.end", NIC1, result="DISCONNECT", verdict="failed"),
    record(2.009, "hypervisor", "domain.destroy", "bad", domid=2),
    record(3.0, "hypervisor", "pci.attach", NIC1, domain="fresh"),
]


def tell(entries: list[Entry]) -> tuple[Story, list[str]]:
    lines: list[str] = []
    story = Story(load_host(data_dir("hosts") / "letter.yaml"), lambda line: lines.append(line.plain.rstrip()))
    story.feed(entries)
    return story, lines


def test_ladder_of_a_recovery() -> None:
    _, lines = tell(RECOVERY)
    assert lines == [
        "  ⚡ 1.000000 s  01:00.0 nic0  non-fatal: UnsupReq",
        "                   recovery of 01:00.0 nic0 begins, channel normal",
        "     +     1.00 ms   dom0  ── error_detected ───────────────▶  good",
        "                                                               driver: error_detected → CAN_RECOVER",
        "     +     3.00 ms   dom0  ◀────────────────── CAN_RECOVER ──  2.00 ms",
        "     +     4.00 ms   dom0  ── resume ───────────────────────▶  good",
        "     +     5.50 ms   dom0  ◀───────────────────────── done ──  1.50 ms",
        "     ✔ recovered: 01:00.0 nic0 after 6.00 ms",
        "",
    ]


def test_kill_with_its_reset() -> None:
    story, lines = tell(KILL)
    text = "\n".join(lines)
    assert "fatal: DLP" in text
    assert "not asked: no-aer-handler" in text
    assert "gives bad up: aerfail" in text
    assert "its process is stopped (SIGKILL)" in text
    assert "02:00.0 nic1 is reset: flr" in text
    assert "check 02:00.0: bad" in text
    assert "mark" not in text
    assert "not recovered: 02:00.0 nic1 after 8.00 ms" in text
    assert "02:00.0 nic1 is attached to fresh" in text
    assert story.owner[NIC1] == "fresh"
    assert (story.kills[0].guest, len(story.kills[0].steps)) == ("bad", 4)


def test_a_reset_is_told_once() -> None:
    """dom0's record of the reset is enough; the step of the kill is not told again."""
    reset = record(2.0055, "dom0", "pci.reset", NIC1, method="flr", result=0)
    _, lines = tell([*KILL[:6], reset, *KILL[6:]])
    assert sum("reset" in line for line in lines) == 1


def test_figures() -> None:
    story, _ = tell(RECOVERY + KILL)
    assert [(r.bdf, r.guest, r.outcome, r.phases) for r in story.recoveries] == [
        (NIC0, "good", "recovered", ["error_detected", "resume"]),
        (NIC1, "bad", "killed", []),
    ]


def test_correctable_errors_are_no_recoveries() -> None:
    story, lines = tell([record(1, "dom0", "aer.error", NIC0, severity="CORRECTABLE", status=1, header=False)])
    assert story.recoveries == []
    assert lines == ["  ⚡ 1.000000 s  01:00.0 nic0  correctable: RxErr"]


def test_records_that_mean_nothing_here_are_passed_over() -> None:
    assert tell([record(1, "dom0", "no.label", "x")])[1] == []


@pytest.mark.parametrize("path", sorted(data_dir("hosts").glob("*.yaml")), ids=lambda path: path.stem)
def test_hierarchy_shows_every_function_once(path: Any) -> None:
    host = load_host(path)
    lines = [line.plain for line in hierarchy_lines(host)]
    for function in host.functions:
        assert sum(function.bdf.removeprefix("0000:") + " " in line for line in lines) == 1
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize("terminal", [True, False])
def test_view_from_begin_to_end(terminal: bool) -> None:
    script = load_script(data_dir("campaigns") / "2008-letter.yaml")
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False, force_terminal=terminal, _environ={})
    results = [
        StepResult(1, 2, "a good one", "workload", True, "nic: 16 of 16 verified", 0, 1),
        StepResult(2, 2, "a bad one", "expect", False, "x" * 200, 1, 2),
    ]
    with View(script, console) as view:
        view.begin(script.steps[0], 1)
        view.records(RECOVERY + KILL)
        for result in results:
            view.step(result)
    view.summary(results, "demo.jsonl")
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for words in ("2008-letter", "✔", "a good one", "a bad one", "recovered", "destroy", "demo.jsonl", "1 of"):
        assert words in text
    assert ("\x1b[" in text) is terminal
    if not terminal:
        assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_resets_of_the_toolstack_are_not_told() -> None:
    """libxl resets a device before it gives it away: nothing has happened to it."""
    assert tell([record(1, "dom0", "pci.reset", NIC0, method="flr", result=0)])[1] == []


def test_two_guests_asked_at_once_have_times_of_their_own() -> None:
    """H1: the wait is per device."""
    asks = [
        record(1 + n / 1000, "dom0", "pciback.ask", bdf, phase="resume", state=1) for n, bdf in enumerate((NIC0, NIC1))
    ]
    answers = [
        record(1 + n / 100, "dom0", "pciback.answer", bdf, phase="resume", answer=1, situation="answer-none")
        for n, bdf in ((1, NIC1), (2, NIC0))
    ]
    _, lines = tell(asks + answers)
    assert [line.split("──  ")[1] for line in lines[2:]] == ["9.00 ms", "20.00 ms"]


def test_expectations_do_not_interrupt_a_ladder() -> None:
    script = load_script(data_dir("campaigns") / "2008-letter.yaml")
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False)
    with View(script, console) as view:
        view.records(RECOVERY[:4])
        view.step(StepResult(1, 9, "the guest is asked", "wait", True, "", 0, 1))
        view.records(RECOVERY[4:])
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.index("recovered: 01:00.0") < text.index("the guest is asked")


def test_a_record_that_comes_late_is_told_in_its_place() -> None:
    """The journals of two parties are not read at the same instant."""
    script = load_script(data_dir("campaigns") / "2008-letter.yaml")
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False)
    with View(script, console) as view:
        view.records(KILL[3:4])
        view.records(KILL[:3])
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.index("fatal: DLP") < text.index("bad is killed")
