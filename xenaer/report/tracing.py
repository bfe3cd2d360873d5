"""``xenaer campaign trace``: one case of a run as a file for the Perfetto UI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xenaer.campaign.again import find_case, replay
from xenaer.campaign.case import CaseResult
from xenaer.campaign.run.rows import to_result
from xenaer.campaign.run.run_folder import RunFolder, explained
from xenaer.campaign.smallest import NoCaseError
from xenaer.report.gather import shared_host, subject_of
from xenaer.report.journals import JournalError, kept, owners, unpack
from xenaer.report.perfetto import text, trace


def trace_case(path: Path, name: str, output: Path) -> list[str]:
    """Write the trace of a case; lines for people. Raises NoCaseError, RunFolderError, InputError."""
    with RunFolder.read(path) as folder:
        row = find_case(folder, name)
        result, file = to_result(row), kept(folder.path, row.case_id)
        owned = owners(shared_host(subject_of(folder).campaign))
    journal, remark = _journal(path, result, file)
    try:
        records = unpack(journal)
    except JournalError as error:
        raise NoCaseError(f"{file}: {error}; play the case again with: xenaer campaign replay {name} --trace") from None
    about = {"case": result.case_id, "outcome": str(result.outcome), "text": result.text, "stratum": result.stratum}
    data = trace(records, owned, about)
    with explained(output):
        output.write_text(text(data), encoding="utf-8", errors="backslashreplace")
    return list(_lines(result, output, len(data["traceEvents"]), remark))


def _journal(path: Path, result: CaseResult, file: Path) -> tuple[bytes, str]:
    if file.is_file():
        with explained(file):
            return file.read_bytes(), ""
    again = replay(path, result.case_id)
    remark = "its journal was not kept: played again"
    return again.now.journal or b"\x90", remark if again.same else f"{remark}, AND IT WAS ANOTHER ONE THIS TIME"


def _lines(result: CaseResult, output: Path, events: int, remark: str) -> Iterator[str]:
    yield f"{result.case_id} {result.outcome}: {result.text}"
    if remark:
        yield remark
    yield f"{output} is written, {events} events; open it in https://ui.perfetto.dev or chrome://tracing"
