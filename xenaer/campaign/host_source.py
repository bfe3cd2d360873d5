"""Where the host of a campaign comes from: a host file, a dump of a real machine, or the campaign file itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from protocol.topology import HostSpec
from xenaer.campaign.form import CampaignForm, ExploreForm, LspciHostForm, MutantsForm
from xenaer.host import HostError, load_host, read_host
from xenaer.lspci_dump import DumpError
from xenaer.lspci_import import GuestError, import_dump
from xenaer.yaml_lines import Document, InputError, parse, validate


def host_of(
    document: Document, form: CampaignForm, path: Path, option: str | Path | None, problems: list[str]
) -> HostSpec | None:
    """The host (``option`` instead of the one that is named); None if ``problems`` were found and added."""
    given: Any = form.host
    try:
        if option is not None:
            return load_host(option)
        if form.explore is not None and form.explore.brings_all:
            return _brought(form.explore, path, document)
        if isinstance(given, str):
            return load_host(path.parent / given)
        if isinstance(given, dict) and "lspci" in given:
            return _imported(document, path)
        if isinstance(given, dict):
            return read_host(_part(document, "host"))
    except InputError as error:
        problems += error.problems
        return None
    except (DumpError, GuestError) as error:
        problems.append(document.problem(("host",), str(error)))
        return None
    problems.append(document.problem((), "key 'host' is missing; name a host file there or with --host"))
    return None


def _brought(explore: ExploreForm, path: Path, document: Document) -> HostSpec:
    """The host of the first case of an exploration that brings its hosts."""
    if explore.mutants is not None:
        return _of_mutants(explore.mutants, path, document)
    assert explore.scenarios is not None
    return _of_scenarios(explore.scenarios.rows, document)


def _of_scenarios(patterns: list[str], document: Document) -> HostSpec:
    """The host of the first scenario: each case has that of its own."""
    from xenaer.campaign.worlds.play_scenarios import host_of_scenario, rows_like  # noqa: PLC0415 - loads all roles

    names = rows_like(patterns)
    if not names:
        raise HostError([document.problem(("explore", "scenarios", "rows"), "no scenario is called like that")])
    return host_of_scenario(names[0])


def _of_mutants(form: MutantsForm, path: Path, document: Document) -> HostSpec:
    """The host of the first campaign that is played: each has its own."""
    from xenaer.campaign.mutants.plan import first_host  # noqa: PLC0415 - it reads campaigns, as who calls this does

    try:
        return first_host(path, form)
    except InputError as error:
        text = error.problems[0]
    except ValueError as error:
        text = str(error)
    raise HostError([document.problem(("explore", "mutants", "campaigns", 0, "file"), text)])


def _part(document: Document, key: str) -> Document:
    """What stands below a key as a document of its own."""
    marks = {place[1:]: mark for place, mark in document.marks.items() if place[:1] == (key,)}
    return Document(document.filename, document.data[key], marks)


def _imported(document: Document, path: Path) -> HostSpec:
    form, problems = validate(_part(document, "host"), LspciHostForm)
    if form is None or problems:
        raise HostError(problems)
    dump = path.parent / form.lspci
    try:
        text = dump.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise HostError([document.problem(("host", "lspci"), f"cannot read {dump}: {reason}")]) from None
    return read_host(parse(import_dump(text, str(dump), document.data["name"], form.guests).text, str(dump)))
