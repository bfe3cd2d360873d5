"""Commands on files and whole runs: run, demo, check, schema, bench, process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from xenaer.boot import data_dir
from xenaer.campaign.file import load_campaign, load_script
from xenaer.campaign.steps.play import Runner
from xenaer.campaign.steps.script import Script
from xenaer.campaign.steps.system import System
from xenaer.cli_base import RunOption, StopError, World, out, shipped
from xenaer.cli_system import PASS_ON
from xenaer.control import read_system, run_dir
from xenaer.host import load_host
from xenaer.journal import line
from xenaer.schema import schema_text, schemas, write_schemas
from xenaer.view import View
from xenaer.yaml_lines import closest, load

ROLES = ("hypervisor", "dom0", "guest")
DEMO = "2008-letter"

WorldOption = Annotated[World, typer.Option("--world", help="real processes, or virtual time in this one")]
JournalOption = Annotated[Path | None, typer.Option("--journal", help="write the journal there, as JSON Lines")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    for command in (run, demo, check, schema, bench):
        app.command(command.__name__)(command)
    app.command("process", **PASS_ON)(process)


def run(
    script: Annotated[str, typer.Argument(help="script file, or name of a shipped campaign")],
    host: Annotated[str | None, typer.Option("--host", help="host file instead of the script's")] = None,
    world: WorldOption = World.PROCESSES,
    journal: JournalOption = None,
    attach: Annotated[bool, typer.Option("--attach", help="use the system that runs in --run")] = False,
    run_folder: RunOption = None,
) -> None:
    """Run a script on a system of its own, or on a running one; exit status 1 if an expectation failed."""
    if attach and world is World.SIMULATED:
        raise StopError("--attach needs a running system; --world simulated makes one of its own")
    host_path = shipped("hosts", host) if host is not None else None
    loaded = load_script(shipped("campaigns", script), host_path)
    with attached(run_folder) if attach else system_for(loaded, world) as system:
        runner = Runner(system, loaded)
        runner.on_step = lambda result: out(result.line())
        good = run_and_save(runner, journal)
    done, total = sum(result.good for result in runner.results), len(loaded.steps)
    out(f"{loaded.name}: {'good' if good else 'FAILED'}, {done} of {total} steps as expected")
    raise typer.Exit(0 if good else 1)


def demo(
    world: WorldOption = World.PROCESSES,
    journal: JournalOption = Path("xenaer-demo.jsonl"),
) -> None:
    """Play the letter of 2008: an error, a recovery, a guest that is killed, a device that serves on."""
    loaded = load_script(shipped("campaigns", DEMO))
    with system_for(loaded, world) as system:
        runner = Runner(system, loaded)
        with View(loaded) as view:
            runner.on_records, runner.on_begin, runner.on_step = view.records, view.begin, view.step
            good = run_and_save(runner, journal)
        view.summary(runner.results, str(journal or ""))
    raise typer.Exit(0 if good else 1)


@contextmanager
def attached(folder: Path | None) -> Iterator[System]:
    """The system that runs already; it goes on afterwards. Raises NoSystemError."""
    from xenaer import local  # noqa: PLC0415

    found = run_dir(folder)
    system = local.ProcessSystem(found, read_system(found).address)
    try:
        yield system
    finally:
        system.close()


@contextmanager
def system_for(script: Script, world: World) -> Iterator[System]:
    """A fresh system for one script: in virtual time, or as processes in a temporary run directory."""
    if world is World.SIMULATED:
        from xenaer.simulation.system import SimSystem  # noqa: PLC0415

        system: System = SimSystem(script.host)
        try:
            yield system
        finally:
            system.close()
        return
    from xenaer import local  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="xenaer-", ignore_cleanup_errors=True) as folder:
        run_folder = Path(folder)
        local.up(script.host, run_folder, "ipc")
        try:
            system = local.ProcessSystem(run_folder)
            try:
                yield system
            finally:
                system.close()
        finally:
            local.down(run_folder)


def run_and_save(runner: Runner, journal: Path | None) -> bool:
    """Run the script; write the journal also when the run breaks off."""
    if journal is not None and not journal.resolve().parent.is_dir():
        raise StopError(f"--journal {journal}: there is no folder {journal.parent}")
    try:
        return runner.run()
    finally:
        if journal is not None:
            with journal.open("w", encoding="utf-8") as file:
                file.writelines(line(item) + "\n" for item in runner.entries)


def check(file: Annotated[str, typer.Argument(help="host or campaign file, or name of a shipped one")]) -> None:
    """Check a host or campaign file; says everything that is wrong with it."""
    path = _shipped_file(file)
    data = load(path).data
    if isinstance(data, dict) and ("steps" in data or "explore" in data):
        form = load_campaign(path).form
        what = f"{len(form.steps)} steps" if form.steps is not None else f"{len(form.faults)} faults"
        out(f"{path}: good: campaign {form.name}, {what}")
        return
    spec = load_host(path)
    devices = sum(function.kind == "endpoint" for function in spec.functions)
    out(f"{path}: good: {len(spec.functions) - devices} ports, {devices} devices, {len(spec.guests)} guests")


def _shipped_file(file: str) -> Path:
    """A file by path, or a shipped host or campaign by name."""
    found = data_dir("campaigns") / f"{file}.yaml"
    return found if found.exists() and not Path(file).exists() else shipped("hosts", file)


def schema(
    which: Annotated[str, typer.Argument(help="host or campaign")] = "host",
    write: Annotated[Path | None, typer.Option("--write", help="write all schemas to this folder")] = None,
) -> None:
    """The JSON Schema of host or campaign files."""
    if write is not None:
        for path in write_schemas(write):
            out(str(path))
        return
    names = {name.split(".", maxsplit=1)[0]: name for name in schemas()}
    if which not in names:
        raise StopError(f"no schema {which!r}; {closest(which, names)}")
    out(schema_text(schemas()[names[which]]).rstrip("\n"))


def bench(
    json: Annotated[bool, typer.Option("--json", help="figures as JSON")] = False,
) -> None:
    """Measure recoveries in both worlds."""
    from xenaer import bench as measure  # noqa: PLC0415

    raise typer.Exit(measure.main(json))


def process(context: typer.Context, role: Annotated[str, typer.Argument(help="hypervisor, dom0 or guest")]) -> None:
    """Run one process of a system in the foreground (for containers); options as --name value."""
    if role not in ROLES:
        raise StopError(f"no process role {role!r}; {closest(role, ROLES)}")
    options = parse_options(list(context.args))
    from xenaer import roles  # noqa: PLC0415

    try:
        status = roles.run_process(role, options)
    except roles.RoleError as error:
        raise StopError(str(error)) from None
    raise typer.Exit(status)


def parse_options(words: list[str]) -> dict[str, str]:
    """``--name value`` and ``--name=value`` as a dictionary, dashes as underscores. Raises StopError."""
    options: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise StopError(f"{word!r} is not an option; expected --name value")
        given = value if equals else next(rest, None)
        if given is None:
            raise StopError(f"option --{name} needs a value")
        options[name.replace("-", "_")] = given
    return options
