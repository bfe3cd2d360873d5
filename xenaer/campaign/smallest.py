"""The smallest campaign file that fails as a case does: tried out, written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xenaer.campaign.alone import PlayAlone, lone_worker
from xenaer.campaign.build import Case
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Task
from xenaer.campaign.file import load_campaign
from xenaer.campaign.shrink import TRIES_MAX, Data, as_data, same_problem, shrink
from xenaer.campaign.worlds.play_simulated import ORDER
from xenaer.user_code import with_programs_at
from xenaer.yaml_lines import InputError

SIMULATED = "simulated"


class NoCaseError(LookupError):
    """There is no such case, or none of which this can be said; the text says why."""


@dataclass(slots=True)
class Shrunk:
    """The smallest case, where it was written, and how many were tried."""

    path: Path
    result: CaseResult
    tried: int
    before: int
    after: int

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.result.outcome}: {self.result.text}"
        yield from (f"  {problem}" for problem in self.result.problems)
        yield f"{self.tried} smaller cases tried: {self.before} bytes became {self.after}"
        yield f"{self.path} is written; play it with: xenaer campaign run {self.path}"


def smallest(
    campaign: Campaign, case: Case, before: CaseResult, target: Path, host_option: str = "", tries: int = TRIES_MAX
) -> Shrunk:
    """Write the smallest file that fails as ``case`` did to ``target``. ``host_option``: host file of the run.

    Raises NoCaseError if the case alone does not fail like that, OSError.
    """
    order = (before.feedback or {}).get(ORDER, [])
    data = as_data(campaign, case, _host_text(campaign, host_option, target), order)
    data = with_programs_at(data, campaign.path.parent, target.parent)
    trial = target.with_name(f".{target.name}.trial")
    last: list[CaseResult] = []
    guests = [guest.name for guest in campaign.host.guests]
    devices = [f.name or f.bdf for f in campaign.host.functions if f.kind == "endpoint"]
    try:
        with lone_worker(SIMULATED, campaign.form.case_limit_s) as play:

            def fails(candidate: Data) -> bool:
                trial.write_text(_text(candidate), encoding="utf-8")
                result = _play_file(trial, play)
                if result is None or not same_problem(before, result):
                    return False
                last[:] = [result]
                return True

            if not fails(data):
                raise NoCaseError(f"{before.case_id} does not fail in the same way when it is played alone")
            found, tried = shrink(data, fails, guests, devices, tries)
        target.write_text(_text(found), encoding="utf-8")
    finally:
        trial.unlink(missing_ok=True)
    return Shrunk(target, last[0], tried, len(_text(data)), len(_text(found)))


def _play_file(path: Path, play: PlayAlone) -> CaseResult | None:
    """The only case of a file; None if the file makes no sense."""
    try:
        campaign = load_campaign(path)
    except InputError:
        return None
    return play(campaign, Task(0, {"values": {}}, keep=True))


def _text(data: Data) -> str:
    """A campaign as YAML."""
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)
    return text


def _host_text(campaign: Campaign, option: str, target: Path) -> Any:
    """The host as the new file has to name it."""
    given: Any = campaign.form.host
    if option:
        return _relative(Path(option), target)
    if isinstance(given, str):
        return _relative(campaign.path.parent / given, target)
    return given | {"lspci": _relative(campaign.path.parent / given["lspci"], target)} if "lspci" in given else given


def _relative(path: Path, target: Path) -> str:
    return os.path.relpath(path.resolve(), target.resolve().parent)
