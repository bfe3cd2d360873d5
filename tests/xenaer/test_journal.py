"""Journals: field names, merging by time, kernel logs, JSON Lines, and what two worlds must have in common."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from protocol.journal_file import JournalFile
from protocol.labels import VOLATILE
from xenaer.journal import JournalSet, differences, dmesg, entry, line, merge, read_lines, strands, text_line

MS = 1_000_000


def test_fields_have_names() -> None:
    item = entry("dom0", (1_500 * MS, "aer", "pciback.ask", "0000:01:00.0", "resume", 1))
    assert item == {
        "t": 1.5, "party": "dom0", "task": "aer", "label": "pciback.ask", "subject": "0000:01:00.0",
        "phase": "resume", "state": 1,
    }  # fmt: skip


def test_unknown_fields_are_kept() -> None:
    assert entry("dom0", (0, "t", "no.label", "", 1, 2))["field1"] == 2


def test_merge_is_by_time_and_keeps_the_order_of_a_party() -> None:
    one = [entry("a", (1, "t", "printk", "", 6, "a1")), entry("a", (3, "t", "printk", "", 6, "a2"))]
    same = [entry("b", (1, "t", "printk", "", 6, text)) for text in ("b1", "b2")]
    assert [item["text"] for item in merge([one, same])] == ["a1", "b1", "b2", "a2"]


def test_journals_are_read_as_they_grow(tmp_path: Path) -> None:
    first = JournalFile(tmp_path / "dom0.mpk")
    journals = JournalSet(tmp_path, [tmp_path / "dom0.mpk"])
    first.append((2 * MS, "t", "printk", "", 6, "two"))
    first.flush()
    assert [item["text"] for item in journals.read()] == ["two"]
    assert journals.read() == []
    second = JournalFile(tmp_path / "guest@7.mpk")
    second.append((3 * MS, "t", "printk", "", 6, "three"))
    first.append((4 * MS, "t", "printk", "", 6, "four"))
    first.flush()
    second.flush()
    assert [(item["party"], item["text"]) for item in journals.read()] == [("guest", "three"), ("dom0", "four")]


def test_dmesg_of_one_domain() -> None:
    items = [
        entry("dom0", (12_345_678_000, "t", "printk", "", 3, "pcieport: bad")),
        entry("guest", (0, "t", "printk", "", 6, "other")),
        entry("dom0", (0, "t", "aer.irq", "", 1, 2)),
    ]
    assert list(dmesg(items, "dom0")) == ["[   12.345678] pcieport: bad"]
    assert list(dmesg(items, "dom0", "r")) == ["<3>[   12.345678] pcieport: bad"]
    assert list(dmesg(items, "dom0", "x")) == ["kern  :err   : [   12.345678] pcieport: bad"]
    assert list(dmesg(items, "guest")) == ["[    0.000000] other"]


def test_json_lines_round_trip(tmp_path: Path) -> None:
    items = [entry("dom0", (5, "t", "printk", "", 6, "ü")), entry("g", (6, "t", "no.label", "", b"\x01\xff", [1, 2]))]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(line(item) + "\n" for item in items))
    assert [json.loads(text) for text in path.read_text().splitlines()] == list(read_lines(path))
    assert strands(items) == strands(read_lines(path))


def test_bad_json_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"t": 1}\nnonsense\n')
    with pytest.raises(ValueError, match=r"x\.jsonl:2: not JSON"):
        list(read_lines(path))


def test_strands_leave_out_times_and_what_the_environment_draws() -> None:
    assert ("pciback.connect", "gref") in VOLATILE
    one = [entry("dom0", (1, "xenwatch", "pciback.connect", "good", 7, 12))]
    other = [entry("dom0", (99, "xenwatch", "pciback.connect", "good", 8, 13))]
    assert strands(one) == strands(other) == {("dom0", "xenwatch", "good"): [("pciback.connect",)]}


def test_strands_compare_order_within_and_not_between() -> None:
    rows = ((1, "x", "a"), (2, "y", "b"), (3, "x", "c"))
    a, b, c = (entry("dom0", (time, "aer", "recovery.phase", subject, phase)) for time, subject, phase in rows)
    assert strands([a, b, c]) == strands([a, c, b])
    assert strands([a, b, c]) != strands([c, b, a])
    assert differences([a, b, c], [b, a, c]) == []
    assert len(differences([a, b, c], [a, b])) == 1
    assert "record 1" in differences([a, c], [c, a])[0]


def test_text_line() -> None:
    item = entry("dom0", (1_500 * MS, "aer", "pciback.ask", "0000:01:00.0", "resume", 1))
    assert text_line(item).split() == ["1.500000", "dom0", "pciback.ask", "0000:01:00.0", "phase=resume", "state=1"]
