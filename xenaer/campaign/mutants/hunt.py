"""In the mutant's process: plays the campaigns as their own runs would, until the first case that one of them fails.

Nothing here knows what the mutant is: a mutation is in the cores, a defect is put onto every host by the campaign
(``Campaign.mutant``), which is judged as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from xenaer.campaign.build import Builder
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Task
from xenaer.campaign.chunk import close_players, pack_assignment, play_chunk
from xenaer.campaign.explorations import make_exploration
from xenaer.campaign.form import SizeForm
from xenaer.campaign.mutants.plan import Planned
from xenaer.campaign.rates import RateCount
from xenaer.campaign.rehearsal import TASK, rehearse_chunk
from xenaer.campaign.run.chunks import draw
from xenaer.campaign.run.playing import PlayChunk, bare, play_tasks
from xenaer.campaign.run.rows import Row, to_result, unpack

SIMULATED = "simulated"
STARTS, CASE, RATES = "start", "case", "rates"  # how a campaign notices something

Say = Callable[[dict[str, Any]], None]


def hunt(plan: Iterable[Planned], defect: str, say: Say) -> None:
    """Play, and ``say`` which campaign begins, and at last what was found, by how many cases of which."""
    played: dict[str, int] = {}
    for campaign, size in plan:
        campaign.mutant = defect
        say({"campaign": campaign.form.name, "limit_s": campaign.form.case_limit_s})
        found, count = _one(campaign, size)
        played[campaign.form.name] = played.get(campaign.form.name, 0) + count
        if found is not None:
            say({"found": found | {"campaign": campaign.form.name}, "played": played})
            return
    say({"found": None, "played": played})


def _one(campaign: Campaign, size: SizeForm) -> tuple[dict[str, Any] | None, int]:
    """What the campaign finds, None if nothing, and how many cases it has played."""
    payload = pack_assignment(campaign, SIMULATED)
    try:
        start = _play(rehearse_chunk, payload, TASK)
        if not start.good:  # exit status 2, with this text
            return _found(STARTS, start.text, start), 0
        return _cases(campaign, size, payload)
    finally:
        close_players()


def _cases(campaign: Campaign, size: SizeForm, payload: bytes) -> tuple[dict[str, Any] | None, int]:
    rounds, rates, builder = make_exploration(campaign, size).rounds(), RateCount(campaign.form), Builder(campaign)
    number = 0
    try:
        recipes = next(rounds)
        while True:
            results: list[CaseResult] = []
            for recipe in recipes:
                row = _play(play_chunk, payload, Task(number, recipe, *draw(campaign.form.seed, number)))
                number += 1
                result = to_result(row)
                if not result.good:
                    return _found(CASE, "; ".join(result.problems) or result.text, row), number
                rates.add(result, builder.values(recipe))
                results.append(result)
            recipes = rounds.send(results)
    except StopIteration:
        for text in rates.unmet():
            return _found(RATES, text, row), number
        return None, number
    finally:
        rounds.close()


def _play(play: PlayChunk, payload: bytes, task: Task) -> Row:
    (data,) = play_tasks(play, payload, bare([task]))
    return unpack(data)


def _found(how: str, problem: str, row: Row) -> dict[str, Any]:
    return {
        "how": how, "problem": problem, "case": row.case_id if how == CASE else "", "outcome": row.outcome,
        "text": row.text, "digest": row.digest, "journal": row.journal, "guests": to_result(row).guests,
    }  # fmt: skip
