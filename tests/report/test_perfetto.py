"""A case as Chrome trace JSON: what a viewer needs is there, begins and ends match, questions lead to answers."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.labels import LABELS
from tests.report.rig import made_up, played, row
from xenaer.campaign.case import Outcome
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.cli import main
from xenaer.report.journals import JournalError, unpack
from xenaer.report.perfetto import text, trace
from xenaer.report.sequence import Diagram, Texts
from xenaer.story import error_names

REQUIRED = {"ph", "ts", "pid", "tid", "name"}
MORE = {"B": set[str](), "E": set[str](), "M": {"args"}, "i": {"s"}, "s": {"id", "cat"}, "f": {"id", "cat", "bp"}}


def check(data: dict[str, Any], sane: bool = True) -> list[dict[str, Any]]:
    """The events of a trace that a viewer can draw."""
    events: list[dict[str, Any]] = data["traceEvents"]
    open_spans = defaultdict[tuple[int, int], list[str]](list)
    flows: dict[int, float] = {}
    before = 0.0
    names = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    for event in events:
        phase = event["ph"]
        assert event.keys() >= REQUIRED | MORE[phase]
        if phase == "M":
            continue
        assert event["ts"] >= before
        before = event["ts"]
        track = event["pid"], event["tid"]
        assert track in names
        if phase == "B":
            open_spans[track].append(event["name"])
        elif phase == "E":
            assert open_spans[track].pop() == event["name"]
        elif phase == "s":
            assert flows.setdefault(event["id"], event["ts"]) == event["ts"]
            assert open_spans[track] or not sane
        elif phase == "f":
            assert flows[event["id"]] <= event["ts"]
            assert open_spans[track] or not sane
    assert not any(open_spans.values())
    assert sorted(flows) == sorted(event["id"] for event in events if event["ph"] == "f")
    return events


@pytest.fixture(name="run", scope="module")
def fixture_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with failing cases, whose journals were kept, and others."""
    return played(tmp_path_factory.mktemp("traced"))


def test_a_failing_case(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder.read(run) as folder:
        names = [found.case_id for found in folder.store.rows("good = 0")]
    assert names
    kinds = set()
    for name in names:
        output = tmp_path / "trace.json"
        assert main(["campaign", "trace", name, "--from", str(run), "--output", str(output)]) == 0
        data = json.loads(output.read_text(encoding="utf-8"))
        assert data["otherData"]["case"] == name
        kinds |= {event.get("cat") for event in check(data)}
    assert kinds >= {"recovery", "phase", "question", "call", "reset", "kill", "step", "flow", "log"}
    assert "ui.perfetto.dev" in capsys.readouterr().out


def test_a_case_without_journal_is_played_again(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder.read(run) as folder:
        name = next(folder.store.rows("good = 1")).case_id
    output = tmp_path / "trace.json"
    assert main(["campaign", "trace", name, "--from", str(run), "--output", str(output)]) == 0
    assert "played again" in capsys.readouterr().out
    events = check(json.loads(output.read_text(encoding="utf-8")))
    assert {"ask", "answer"} <= {event["name"] for event in events if event["ph"] == "s"}
    parties = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert parties >= {"dom0", "left"}


def test_questions_lead_to_the_guest_that_was_asked(run: Path, tmp_path: Path) -> None:
    with RunFolder.read(run) as folder:
        name = next(folder.store.rows("good = 1 AND json_extract(recipe, '$.values.source') = 0")).case_id
    output = tmp_path / "trace.json"
    assert main(["campaign", "trace", name, "--from", str(run), "--output", str(output)]) == 0
    events = check(json.loads(output.read_text(encoding="utf-8")))
    parties = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    asked = [event for event in events if event["ph"] == "s" and event["name"] == "ask"]
    assert {parties[ends[event["id"]]["pid"]] for event in asked} == {"left"}
    assert {parties[event["pid"]] for event in asked} == {"dom0"}


def test_a_case_that_is_not_there(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", "trace", "777777", "--from", str(run), "--output", str(tmp_path / "t")]) == 2
    assert "no case '777777'" in capsys.readouterr().err


def test_a_damaged_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = made_up(tmp_path, [row(0, Outcome.HANG, journal=b"\xc1nothing")])
    assert main(["campaign", "trace", "000000", "--from", str(path), "--output", str(tmp_path / "t")]) == 2
    assert "not a journal" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01", b"x"])
def test_what_is_no_journal(data: bytes) -> None:
    with pytest.raises(JournalError):
        unpack(data)


VALUES = st.one_of(
    st.integers(-2, 9), st.text(max_size=4), st.none(), st.booleans(), st.lists(st.integers(0, 3), max_size=2)
)
NAMES = st.sampled_from(["0000:01:00.0", "0000:02:00.0", "left", "right", ""])
PARTIES = st.sampled_from(["dom0", "left", "right", "hypervisor", "supervisor-left"])
RECORDS = st.lists(
    st.tuples(st.integers(0, 5), PARTIES, st.sampled_from(["irq", "work", ""]), st.sampled_from(sorted(LABELS)), NAMES,
              st.lists(VALUES, max_size=5)), max_size=40)  # fmt: skip


def test_a_register_that_is_none() -> None:
    """The bits of a negative number never end."""
    assert error_names("fatal", -1) == "-1"
    assert error_names("fatal", 1 << 40) == str(1 << 40)
    assert error_names("correctable", 1) == "RxErr"


@settings(max_examples=300, deadline=None)
@given(RECORDS)
def test_any_records_make_a_trace_and_a_diagram(found: list[tuple[Any, ...]]) -> None:
    """A guest may write anything into its journal."""
    time, journal = 0, []
    for step, party, task, label, subject, values in found:
        time += step * 1000
        journal.append((time, party, task, label, subject, *values))
    records = unpack(msgpack.packb(journal))
    assert len(records) == len(journal)
    data = trace(records, {"0000:01:00.0": "left"}, {})
    check(json.loads(text(data)), sane=False)
    shown = Diagram(records, {"0000:01:00.0": "left"}).plain(Texts())
    assert len(shown["rows"]) == len(records)
    for _, lane, other, _, _ in shown["rows"]:
        assert 0 <= lane < len(shown["lanes"])
        assert isinstance(other, int)
