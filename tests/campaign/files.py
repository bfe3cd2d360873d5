"""Campaign files of the tests, and how one of their cases is played in this process."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from xenaer.boot import data_dir
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Recipe, Task
from xenaer.campaign.explorations import make_exploration
from xenaer.campaign.file import load_campaign
from xenaer.campaign.running import NO_SIZE
from xenaer.campaign.worlds.play_simulated import SimulatedPlayer

ONCE: Recipe = {"values": {}}
NOTHING = "faults: [{sleep: {ms: 1}}]\nexplore: {matrix: {}}\n"


def host(name: str) -> str:
    """The line that names a shipped host."""
    return f"host: {data_dir('hosts') / name}.yaml\n"


def campaign_file(folder: Path, text: str, name: str = "case", on: str = "pair") -> Path:
    """Write a campaign on a shipped host."""
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {name}\n" + (host(on) if on else "") + textwrap.dedent(text))
    return path


def one_case(steps: str) -> str:
    """A campaign of one case; ``steps`` in brackets."""
    return f"faults: {steps}\nexplore: {{matrix: {{}}}}\n"


def read(folder: Path, text: str, name: str = "case", on: str = "pair") -> Campaign:
    """The campaign of ``campaign_file``."""
    return load_campaign(campaign_file(folder, text, name, on))


def player(folder: Path, text: str, on: str = "pair") -> SimulatedPlayer:
    """A player for a campaign."""
    return SimulatedPlayer(read(folder, text, on=on))


def tasks(campaign: Campaign) -> Iterator[Task]:
    """All cases of a matrix."""
    number = 0
    for recipes in make_exploration(campaign, NO_SIZE).rounds():
        for recipe in recipes:
            yield Task(number, recipe, keep=True)
            number += 1


def play_one(folder: Path, text: str, on: str = "pair") -> CaseResult:
    """The result of a campaign that has one case."""
    return player(folder, text, on).play(Task(0, ONCE, keep=True))
