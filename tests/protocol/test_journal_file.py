"""protocol.journal_file: what was flushed survives its writer; readers follow a file that grows."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pytest

from protocol import journal_file
from protocol.journal_file import JournalFile, read_journal


def test_records_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "journal" / "dom0.mpk"
    journal = JournalFile(path)
    first = [(number, "task", "label", "", number * 2, b"\xff", None, True) for number in range(3)]
    for record in first:
        journal.append(record)
    assert read_journal(path) == ([], 0), "nothing is promised before a flush"
    journal.flush()
    records, offset = read_journal(path)
    assert records == first
    journal.append((9, "t", "l", "s"))
    journal.flush()
    journal.flush()
    assert read_journal(path, offset)[0] == [(9, "t", "l", "s")]
    assert len(read_journal(path)[0]) == 4


def test_a_safe_journal_has_each_record_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "j.mpk"
    journal = JournalFile(path, safe=True)
    for number in range(3):
        journal.append((number,))
        assert len(read_journal(path)[0]) == number + 1
    journal.flush()
    assert read_journal(path)[0] == [(0,), (1,), (2,)]


def test_a_missing_file_has_no_records(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "no.mpk", 17) == ([], 17)


def test_a_chunk_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "j.mpk"
    journal = JournalFile(path)
    journal.append((1,))
    journal.flush()
    whole = path.read_bytes()
    end = 4 + int.from_bytes(whole[:4], "little")
    for cut in range(end):
        path.write_bytes(whole[:cut])
        assert read_journal(path) == ([], 0)
    path.write_bytes(whole[:end])
    assert read_journal(path) == ([(1,)], end)


def test_the_file_grows_as_needed_and_stops_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "GROW", 4096)
    monkeypatch.setattr(journal_file, "SIZE_MAX", 3 * 4096)
    path = tmp_path / "j.mpk"
    journal = JournalFile(path)
    record = ("x" * 3000,)
    for _ in range(3):
        journal.append(record)
        journal.flush()
    assert path.stat().st_size > 4096
    assert read_journal(path)[0] == [record] * 3
    journal.append(("x" * 6000,))
    journal.flush()
    assert journal.lost == 1, "the writer goes on all the same"
    assert read_journal(path)[0] == [record] * 3


def test_what_is_no_record_is_left_out(tmp_path: Path) -> None:
    """A guest writes its own journal."""
    path = tmp_path / "j.mpk"
    chunks = [b"\xc1\xc1", msgpack.packb(7), msgpack.packb([1, [2, "x"], "y"]), b"\x81", msgpack.packb([[3, "z"]])]
    path.write_bytes(b"".join(len(chunk).to_bytes(4, "little") + chunk for chunk in chunks) + b"\xff\xff\xff\xffx")
    assert read_journal(path)[0] == [(2, "x"), (3, "z")]


def test_values_that_msgpack_does_not_know_become_text(tmp_path: Path) -> None:
    path = tmp_path / "j.mpk"
    journal = JournalFile(path)
    journal.append((1, Path("somewhere")))
    journal.flush()
    assert read_journal(path)[0] == [(1, "somewhere")]
