"""``xenaer conform``: recorded cases of a real kernel or a real Xen against the emulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xenaer.cli_base import StopError, out
from xenaer.yaml_lines import InputError, closest

if TYPE_CHECKING:
    from xenaer.conform.kinds import Conform


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("conform")(conform)


def conform(
    cases: Annotated[list[Path], typer.Argument(help="recorded cases, or folders of them")],
    emit: Annotated[Path | None, typer.Option("--emit", help="write what the emulation gives to this folder")] = None,
    fields: Annotated[str, typer.Option("--fields", help="compare and write only these keys, comma-separated")] = "",
    explore: Annotated[
        int | None, typer.Option("--explore", min=1, help="orders that are tried for a racy case [64]")
    ] = None,
) -> None:
    """Perform recorded cases in virtual time and compare; exit status 1 unless all are identical."""
    from xenaer.conform.kinds import Conform  # noqa: PLC0415
    from xenaer.conform.run import INTERLEAVINGS, case_files  # noqa: PLC0415

    conform = Conform(_fields(fields), explore or INTERLEAVINGS)
    if emit is not None:
        emit.mkdir(parents=True, exist_ok=True)
    files = case_files(cases)
    if not files:
        raise StopError("no case files")
    report = _Report(emit)
    for path in files:
        report.add(path, conform)
    raise typer.Exit(report.end(len(files)))


def _fields(text: str) -> tuple[str, ...]:
    from xenaer.conform.kinds import OUTPUTS  # noqa: PLC0415

    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in OUTPUTS:
            raise StopError(f"--fields: no key {name!r}; {closest(name, OUTPUTS)}")
    return names or OUTPUTS


class _Report:
    """Prints a verdict per case as it comes, and the totals."""

    def __init__(self, emit: Path | None) -> None:
        self.emit = emit
        self.counts = {"identical": 0, "different": 0, "unsupported": 0, "written": 0}
        self.problems: list[str] = []

    def add(self, path: Path, conform: Conform) -> None:
        try:
            loaded = conform.load(path)
        except InputError as error:
            self.problems += error.problems
            return
        if self.emit is None and not loaded.comparable:
            self.problems.append(f"{path}: has no answers to compare with; use --emit")
            return
        outcome = conform.run(loaded)
        if outcome.verdict == "unsupported":
            self.counts["unsupported"] += 1
            out(f"{loaded.name}: unsupported: {outcome.text[0]}")
        elif self.emit is not None:
            self.counts["written"] += 1
            text = json.dumps(conform.written(loaded, outcome.emitted), ensure_ascii=False)
            (self.emit / path.name).write_text(text + "\n", encoding="utf-8")
        else:
            self.counts[outcome.verdict] += 1
            out(f"{loaded.name}: {outcome.verdict}")
            for line in outcome.text:
                out(line)

    def end(self, total: int) -> int:
        """Print the totals; the exit status."""
        counts = self.counts
        done = f"{counts['written']} of {total} written" if self.emit else f"{counts['identical']} of {total} identical"
        out(done + (f", {counts['unsupported']} unsupported" if counts["unsupported"] else ""))
        if self.problems:
            raise InputError(self.problems)
        return 0 if counts["identical"] + counts["written"] == total else 1
