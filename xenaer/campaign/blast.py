"""Which guests live and which die, for every function of a host that may report an error, and every severity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from protocol.topology import HostSpec
from xenaer.boot import data_dir
from xenaer.campaign.alone import play_guarded
from xenaer.campaign.case import Task
from xenaer.campaign.chunk import make_player
from xenaer.campaign.explorations import Matrix
from xenaer.campaign.file import load_campaign
from xenaer.campaign.form import LspciHostForm
from xenaer.host import load_host, read_host
from xenaer.lspci_dump import DumpError
from xenaer.lspci_import import GuestError, host_name, import_dump
from xenaer.yaml_lines import InputError, load, parse, validate

SEVERITY = {"RxErr": "correctable", "CmpltTO": "non-fatal", "MalfTLP": "fatal"}  # by the error that stands for it
DIES = ("killed-required", "killed-needless", "gone-by-itself")
QUIET = ("untouched", "told")


@dataclass(frozen=True, slots=True)
class Blast:
    """What one error at one function does. ``guests`` maps names to their outcomes."""

    source: str
    severity: str
    outcome: str
    guests: dict[str, str]
    text: str

    def line(self) -> str:
        """For people: who dies, who recovers, or that nobody notices."""
        dies = [name for name, outcome in self.guests.items() if outcome in DIES]
        other = [f"{n} {o}" for n, o in self.guests.items() if o not in (*DIES, *QUIET)]
        told = [f"kills {', '.join(dies)}"] if dies else []
        told += [", ".join(other)] if other else []
        return f"{self.source:14} {self.severity:12} {'; '.join(told) or 'no guest notices'}"


def load_source(path: Path, guests: Path | None) -> tuple[HostSpec, list[str]]:
    """A host file, or a dump of ``lspci -xxxx`` with a file that says which guest has what; with remarks.

    Raises InputError.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError([f"{path}: {(error.strerror or str(error)).lower()}"]) from None
    if path.suffix in (".yaml", ".yml"):
        return load_host(path), []
    try:
        imported = import_dump(text, str(path), host_name(path.stem), _guests(guests))
    except (DumpError, GuestError) as error:
        raise InputError(str(error).splitlines()) from None
    return read_host(parse(imported.text, str(path))), imported.remarks


def _guests(path: Path | None) -> dict[str, list[str]]:
    """``name: [address, ...]`` for each guest."""
    if path is None:
        return {}
    document = load(path)
    marks = {("guests", *place): mark for place, mark in document.marks.items()}
    document.data, document.marks = {"lspci": "", "guests": document.data}, marks
    form, problems = validate(document, LspciHostForm)
    if form is None or problems:
        raise InputError(problems)
    return form.guests


def remarks(host: HostSpec) -> Iterator[str]:
    """What an answer about this host cannot show."""
    if not any(f.kind == "root_port" for f in host.functions):
        yield "there is no root port: nobody would receive an error message"
    mute = [f.name or f.bdf for f in host.functions if not f.aer and f.kind != "event_collector"]
    if mute:
        yield f"without AER, so they report nothing: {', '.join(mute)}"
    if not any(guest.devices for guest in host.guests):
        yield "no guest has a device: nobody can be hurt; say who has what with --guests"


def blasts(host: HostSpec) -> Iterator[Blast]:
    """Every function that reports, every severity. A guest that is not started by itself is started here."""
    campaign = load_campaign(data_dir("campaigns") / "blast-radius.yaml")
    started = [replace(guest, autostart=True) for guest in host.guests]
    campaign.host = replace(host, guests=started)
    sources = tuple(f.name or f.bdf for f in host.functions if f.aer)
    campaign.axes["source"] = replace(campaign.axes["source"], values=sources)
    if not sources:
        return
    matrix, player = Matrix(1, campaign.axes, None), make_player(campaign, "simulated")
    for number in range(matrix.product):
        task = Task(number, matrix.recipe(number))
        result = play_guarded(player, task, campaign.form.case_limit_s)
        source, error = (campaign.axes[name].values[task.recipe["values"][name]] for name in ("source", "error"))
        yield Blast(source, SEVERITY[error], str(result.outcome), result.guests, result.text)
