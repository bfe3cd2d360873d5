"""``xenaer campaign``: run a file of faults, look at what came of it, play or shrink a case, list, begin."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from xenaer.boot import data_dir
from xenaer.cli_base import StopError, out, shipped
from xenaer.yaml_lines import closest

RUNS = Path("xenaer-runs")
SEED_MAX = (1 << 53) - 1  # as in a file: every reader of JSON keeps it as it is
WORLDS = ("simulated", "processes", "both")

FileArgument = Annotated[str | None, typer.Argument(help="campaign file, or name of a shipped one", show_default=False)]
RunsOption = Annotated[Path, typer.Option("--runs", help="folder of run directories")]
FromOption = Annotated[
    Path | None, typer.Option("--from", help="run directory [default: the latest one]", show_default=False)
]
CaseArgument = Annotated[str, typer.Argument(help="case id, as a run shows it; its beginning is enough")]

app = typer.Typer(help="Fault campaigns: run, report, replay, trace, shrink, list, new.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add ``campaign`` and what is below it to ``parent``."""
    parent.add_typer(app, name="campaign")


@app.command()
def run(  # noqa: PLR0913, PLR0917 - the options of a run
    file: FileArgument = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, max=SEED_MAX, help="instead of the file's")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="workers [one per processor]")] = None,
    world: Annotated[str | None, typer.Option("--world", help="simulated, processes or both")] = None,
    executor: Annotated[str, typer.Option("--executor", help="local, or dask://HOST:PORT")] = "local",
    size: Annotated[str | None, typer.Option("--size", help="one of the sizes that the file names")] = None,
    host: Annotated[str | None, typer.Option("--host", help="host file instead of the campaign's")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="go on with the run in this directory")] = None,
    runs: RunsOption = RUNS,
    json: Annotated[bool, typer.Option("--json", help="print results.json")] = False,
) -> None:
    """Play all cases; exit status 0 if the campaign passed, 1 if it failed, 2 if it could not run."""
    from xenaer.campaign import running  # noqa: PLC0415 - loads all roles

    if (file is None) == (resume is None):
        raise StopError("name a campaign file, or go on with a run: --resume DIR")
    if world is not None and world not in WORLDS:
        raise StopError(f"--world {world!r}; {closest(world, WORLDS)}")
    host_path = shipped("hosts", host) if host is not None else None
    request = running.Request(
        shipped("campaigns", file) if file is not None else None,
        seed,
        jobs,
        world,
        executor,
        size,
        host_path,
        resume,
        runs,
    )
    with _explained():
        finished = running.run(request)
    out(finished.json_text() if json else "\n".join(finished.lines()))
    raise typer.Exit(finished.status)


@app.command()
def replay(
    case: CaseArgument,
    run_folder: FromOption = None,
    journal: Annotated[Path | None, typer.Option("--journal", help="write its journal there, as JSON Lines")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="print its journal")] = False,
) -> None:
    """Play one case again; exit status 1 if its journal is not the same to the bit."""
    from xenaer.campaign import again  # noqa: PLC0415

    with _explained():
        replayed = again.replay(_latest(run_folder), case)
    if journal is not None:
        journal.write_text("".join(text + "\n" for text in replayed.journal_lines()), encoding="utf-8")
    if trace:
        out("\n".join(replayed.trace()))
    out("\n".join(replayed.lines()))
    raise typer.Exit(0 if replayed.same else 1)


@app.command()
def shrink(
    case: CaseArgument,
    run_folder: FromOption = None,
    output: Annotated[Path | None, typer.Option("--output", help="file to write [the case's id, .yaml]")] = None,
) -> None:
    """Write the smallest campaign file that still fails as this case does."""
    from xenaer.campaign import again  # noqa: PLC0415

    with _explained():
        found = again.shrink_case(_latest(run_folder), case, output)
    out("\n".join(found.lines()))


@app.command()
def report(
    run_folder: FromOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="file to write [report.html, where the run is]", show_default=False)
    ] = None,
) -> None:
    """Write the page that shows a run: one HTML file that needs nothing else."""
    from xenaer.report.write import report as write  # noqa: PLC0415

    with _explained():
        path = write(_latest(run_folder), output)
    out(f"{path} is written; open it in a browser")


@app.command()
def trace(
    case: CaseArgument,
    output: Annotated[Path, typer.Option("--output", help="file to write")],
    run_folder: FromOption = None,
) -> None:
    """Write one case as a trace for ui.perfetto.dev; a case whose journal was not kept is played again."""
    from xenaer.report.tracing import trace_case  # noqa: PLC0415

    with _explained():
        found = trace_case(_latest(run_folder), case, output)
    out("\n".join(found))


@app.command("list")
def list_(runs: RunsOption = RUNS) -> None:
    """The shipped campaigns, and the runs in this folder."""
    from xenaer.campaign import running  # noqa: PLC0415

    out("\n".join(running.listing(runs)))


@app.command()
def new(file: Annotated[Path, typer.Argument(help="file to write")]) -> None:
    """Write a commented campaign file to begin with."""
    if file.exists():
        raise StopError(f"{file} exists; name another file")
    text = (data_dir("campaigns") / "starter.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("name: starter", f"name: {_name(file)}", 1), encoding="utf-8")
    out(f"{file} is written; play it with: xenaer campaign run {shlex.quote(str(file))}")


def _name(file: Path) -> str:
    kept = "".join(char if char.isalnum() or char in "_.-" else "-" for char in file.stem)
    return kept if kept[:1].isalnum() else "campaign"


def _latest(folder: Path | None) -> Path:
    if folder is not None:
        return folder
    latest = RUNS / "latest"
    if not latest.is_dir():
        raise StopError(f"there is no run in {RUNS}; name one with --from")
    return latest


@contextmanager
def _explained() -> Iterator[None]:
    """What cannot be run is one line and exit status 2."""
    from xenaer.campaign.run.dispatch import ExecutorError  # noqa: PLC0415
    from xenaer.campaign.run.run_folder import RunFolderError  # noqa: PLC0415
    from xenaer.campaign.smallest import NoCaseError  # noqa: PLC0415
    from xenaer.campaign.worlds.machine import SetupError  # noqa: PLC0415

    try:
        yield
    except (RunFolderError, ExecutorError, SetupError, NoCaseError) as error:
        raise StopError(str(error.args[0])) from error
