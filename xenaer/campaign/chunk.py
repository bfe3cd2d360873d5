"""What a worker is given: a campaign and some tasks; ``play_chunk`` gives a result for each."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Task
from xenaer.user_code import search_beside

DIGEST_BYTES = 16


class Player(Protocol):
    """Plays the cases of one campaign in one world."""

    def play(self, task: Task) -> CaseResult:
        """Play one case."""

    def rehearse(self) -> None:
        """Start what all cases share, if they share anything. Raises SetupError."""

    def close(self) -> None:
        """End whatever it keeps running."""


@dataclass(slots=True)
class Assignment:
    """What crosses to a worker once: the campaign and the world."""

    campaign: Campaign
    world: str


_players: dict[bytes, Player] = {}  # of this process; one campaign at a time
_last: list[tuple[bytes, Player]] = []


def pack_assignment(campaign: Campaign, world: str) -> bytes:
    """The payload of ``play_chunk``."""
    return pickle.dumps(Assignment(campaign, world))


def play_chunk(payload: bytes, tasks: list[Task]) -> list[CaseResult]:
    """Play ``tasks``; machines that were booted for earlier ones are used again."""
    player = player_for(payload)
    return [player.play(task) for task in tasks]


def player_for(payload: bytes) -> Player:
    """The player of this process for a campaign; that of another one is closed."""
    if _last and payload is _last[0][0]:  # the tasks of a chunk come with the same object
        return _last[0][1]
    digest = hashlib.blake2b(payload, digest_size=DIGEST_BYTES).digest()
    player = _players.get(digest)
    if player is None:
        close_players()
        assignment: Assignment = pickle.loads(payload)
        player = _players[digest] = make_player(assignment.campaign, assignment.world)
    _last[:] = [(payload, player)]
    return player


def make_player(campaign: Campaign, world: str) -> Player:
    """A player for ``simulated``, ``processes`` or ``both``."""
    search_beside(Path(campaign.path))
    if campaign.form.explore is not None and campaign.form.explore.mutants is not None:
        from xenaer.campaign.mutants.player import MutantPlayer  # noqa: PLC0415 - only who plays mutants needs it

        return MutantPlayer(campaign)
    if campaign.form.explore is not None and campaign.form.explore.scenarios is not None:
        from xenaer.campaign.worlds.play_scenarios import ScenarioPlayer  # noqa: PLC0415 - loads all roles

        return ScenarioPlayer(campaign)
    if world == "simulated":
        from xenaer.campaign.worlds.play_simulated import SimulatedPlayer  # noqa: PLC0415 - loads all roles

        return SimulatedPlayer(campaign)
    from xenaer.campaign.worlds.play_processes import ComparingPlayer, ProcessPlayer  # noqa: PLC0415

    return ProcessPlayer(campaign) if world == "processes" else ComparingPlayer(campaign)


def close_players() -> None:
    """End what the players of this process keep running."""
    _last.clear()
    while _players:
        _players.popitem()[1].close()
