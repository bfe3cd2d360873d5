"""``xenaer scenarios`` and ``xenaer explore``: what may happen to a host, scripted and in every order."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from xenaer.cli_base import StopError, out
from xenaer.yaml_lines import closest

if TYPE_CHECKING:
    from xenaer.simulation.explore import Report

ProfileOption = Annotated[str, typer.Option("--profile", help="hardened or linux")]
DefectsOption = Annotated[str, typer.Option("--defects", help="defects to turn over, comma-separated: D3,D10")]
NamesArgument = Annotated[list[str] | None, typer.Argument(help="I1 to I34, X1 to X48, ... [all]", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("scenarios")(scenarios)
    app.command("explore")(explore)


def scenarios(names: NamesArgument = None, profile: ProfileOption = "hardened", defects: DefectsOption = "") -> None:
    """Play scenarios in virtual time and print what came of them; exit status 1 if it is not what is expected."""
    from xenaer.scenarios.expected import expected  # noqa: PLC0415 - loads all roles
    from xenaer.scenarios.library import SCENARIOS  # noqa: PLC0415
    from xenaer.scenarios.scenario import play  # noqa: PLC0415

    switched, different = _defects(profile, defects), 0
    for name in _names(names):
        scenario = SCENARIOS[name]
        if scenario.why_not:
            out(f"{name}: not played: {scenario.why_not}")
            continue
        outcome = play(scenario, profile, switched)
        changed = outcome.changed(expected()[name][profile])
        different += bool(changed)
        out(f"{name}: {scenario.title}" + (f"; not as expected: {', '.join(changed)}" if changed else ""))
        for field, value in outcome._asdict().items():
            if value:
                out(f"    {field:9} {value if isinstance(value, int) else ', '.join(value)}")
    raise typer.Exit(1 if different else 0)


def explore(
    names: NamesArgument = None,
    bound: Annotated[int, typer.Option("--bound", min=0, help="deviations from the default order")] = 2,
    limit: Annotated[int, typer.Option("--limit", min=1, help="orders per scenario on the whole system")] = 200,
    profile: ProfileOption = "hardened",
    defects: DefectsOption = "",
) -> None:
    """Try other orders of events; exit status 1 if an invariant is broken.

    Both ends of the shared page alone are tried in every order, the whole system with up to --bound deviations.
    """
    from xenaer.scenarios.exploring import PROGRAMS, SCENARIOS, explore_page, explore_system  # noqa: PLC0415

    switched = _defects(profile, defects)
    orders = broken = 0
    for name in _names(names):
        if SCENARIOS[name].why_not:
            continue
        begin = time.process_time()
        if name in PROGRAMS:
            report = explore_page(name, profile, switched)
            broken += _print(f"{name} page", report, time.process_time() - begin)
            orders += report.complete
            begin = time.process_time()
        report = explore_system(SCENARIOS[name], profile, switched, bound, limit)
        broken += _print(f"{name} system, up to {bound} deviations", report, time.process_time() - begin)
        orders += report.complete
    out(f"{orders} interleavings, {broken} findings")
    raise typer.Exit(1 if broken else 0)


def _print(what: str, report: Report, seconds: float) -> int:
    rate = report.complete / seconds if seconds > 0 else 0.0
    all_ = "the first ones" if report.cut else "all"
    redundant = f"{report.redundant} equivalent ones given up"
    out(f"{what}: {report.complete} interleavings ({all_}), {redundant}, {rate:.0f} per second")
    for found in report.findings.values():
        out(f"    {found.text}: in {found.count}, first after {'; '.join(found.schedule) or 'no deviation'}")
    return len(report.findings)


def _names(names: list[str] | None) -> list[str]:
    from xenaer.scenarios.library import SCENARIOS  # noqa: PLC0415

    for name in names or ():
        if name not in SCENARIOS:
            raise StopError(f"no scenario {name!r}; {closest(name, SCENARIOS)}")
    return list(names or SCENARIOS)


def _defects(profile: str, text: str) -> list[str]:
    from protocol.topology import DEFECTS  # noqa: PLC0415

    if profile not in ("hardened", "linux"):
        raise StopError(f"--profile: no profile {profile!r}; allowed: hardened, linux")
    found = [name.strip() for name in text.split(",") if name.strip()]
    for name in found:
        if name not in DEFECTS:
            raise StopError(f"--defects: no defect {name!r}; allowed: D1 to D{len(DEFECTS)}")
    return found
