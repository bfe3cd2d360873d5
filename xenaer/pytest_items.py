"""Campaigns as pytest items: played in this process, each failure told with its story and its smallest form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from xenaer.campaign.alone import play_guarded
from xenaer.campaign.build import ALL, Builder, stratum_of, word_for
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import CaseResult, Recipe, Task
from xenaer.campaign.chunk import Player, make_player
from xenaer.campaign.explorations import Exploration, make_exploration
from xenaer.campaign.file import load_campaign
from xenaer.campaign.form import SizeForm
from xenaer.campaign.run.chunks import draw
from xenaer.campaign.smallest import NoCaseError, smallest
from xenaer.campaign.verdict.statistics import Tallies, figures
from xenaer.campaign.worlds.play_processes import entries_of
from xenaer.testing import story_text
from xenaer.yaml_lines import InputError, closest

SHRINK_TRIES = 60  # a failing test must not take minutes
SHOWN = 5
FOLDER = "xenaer"  # below pytest's cache: what failed, as files of their own


class CaseFailedError(Exception):
    """A case did not end as its campaign expects; the text says everything."""


@dataclass(slots=True)
class Played:
    """What came of a campaign: counts by outcome and stratum, and the results that failed."""

    name: str
    tallies: Tallies = field(default_factory=Tallies)
    failed: list[CaseResult] = field(default_factory=list)

    @property
    def outcomes(self) -> dict[str, int]:
        """Outcome to how many cases."""
        return self.tallies.total().outcomes


class Loaded:
    """A campaign and its player, shared by all items of a file."""

    def __init__(self, path: Path, size: str | None, seed: int | None) -> None:
        self.campaign: Campaign = load_campaign(path)
        form = self.campaign.form
        if seed is not None:
            form.seed = seed
        if size is not None and size not in form.sizes:
            raise InputError([f"{path}: no size {size!r}; {closest(size, form.sizes)}"])
        limits = form.sizes[size] if size is not None else SizeForm.model_validate({})
        self.exploration: Exploration = make_exploration(self.campaign, limits)
        self.builder = Builder(self.campaign)

    @cached_property
    def player(self) -> Player:
        """Made when the first case is played."""
        return make_player(self.campaign, self.campaign.form.world)

    @cached_property
    def played(self) -> Played:
        """All cases, one after the other; once."""
        found, rounds, number = Played(self.campaign.form.name), self.exploration.rounds(), 0
        try:
            recipes = next(rounds)
            while True:
                results = [self.play(number + n, recipe) for n, recipe in enumerate(recipes)]
                number += len(recipes)
                for result in results:
                    found.tallies.add(result)
                found.failed += [result for result in results if not result.good]
                recipes = rounds.send(results)
        except StopIteration:
            return found

    def close(self) -> None:
        """The player ends, if there is one; the next case would have a new one."""
        player = self.__dict__.pop("player", None)
        if player is not None:
            player.close()

    def play(self, number: int, recipe: Recipe) -> CaseResult:
        """One case; some of them twice, as in a run."""
        twice = draw(self.campaign.form.seed, number).twice
        return play_guarded(self.player, Task(number, recipe, twice=twice), self.campaign.form.case_limit_s)

    def explain(self, result: CaseResult, recipe: Recipe | None, folder: Path) -> str:
        """Why a case failed: problems, story, the smallest file that fails like it, how to play it again."""
        lines = [f"{result.case_id} {result.outcome}: {result.text}", *(f"  {text}" for text in result.problems), ""]
        if result.journal is not None:
            lines += [story_text(self.campaign.host, entries_of(result.journal)), ""]
        if recipe is not None:
            lines += list(self._smallest(result, recipe, folder))
        return "\n".join(lines)

    def _smallest(self, result: CaseResult, recipe: Recipe, folder: Path) -> Iterator[str]:
        explored = self.campaign.form.explore
        if explored is None or explored.brings_all or self.campaign.form.world != "simulated":
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{result.case_id}.yaml"
        try:
            smallest(self.campaign, self.builder.build(result.number, recipe), result, path, tries=SHRINK_TRIES)
        except NoCaseError as error:
            yield str(error.args[0])
            return
        yield "the smallest case that fails like this one:"
        yield from (f"  {line}" for line in path.read_text(encoding="utf-8").splitlines())
        yield f"play it again with: xenaer campaign run {path}"


# -- items -------------------------------------------------------------------------------------------
class CampaignFile(pytest.File):
    """A campaign file; its tests."""

    _loaded: Loaded | None = None

    def collect(self) -> Iterator[pytest.Item]:
        """A test per case if their number is known and small, else one per stratum."""
        config = self.config
        try:
            loaded = Loaded(self.path, config.getoption("--xenaer-size"), config.getoption("--xenaer-seed"))
            self._loaded = loaded
        except InputError as error:
            raise self.CollectError("\n".join(error.problems)) from error
        total = loaded.exploration.total
        if total is not None and total <= config.getoption("--xenaer-cases"):
            yield from self._cases(loaded)
        else:
            for stratum in strata(loaded.campaign):
                yield StratumItem.from_parent(self, name=stratum, loaded=loaded)

    def teardown(self) -> None:
        """After the last of its tests: a system of processes ends."""
        if self._loaded is not None:
            self._loaded.close()

    def _cases(self, loaded: Loaded) -> Iterator[pytest.Item]:
        number = 0
        rounds = loaded.exploration.rounds()
        for recipes in rounds:
            for recipe in recipes:
                case = loaded.builder.build(number, recipe)
                shown = "-".join(word_for(value) for value in case.values.values()) or case.stratum
                name = f"{case.case_id}-{shown}"
                yield CaseItem.from_parent(self, name=name, loaded=loaded, number=number, recipe=recipe)
                number += 1


def strata(campaign: Campaign) -> list[str]:
    """Every combination of values of the axes by which outcomes are counted."""
    explored = campaign.explored
    names = explored.strata if explored is not None else []
    if not names:
        return [ALL]
    choices = [[(name, value) for value in campaign.axes[name].samples()] for name in names]
    return [stratum_of(pairs) for pairs in product(*choices)]


class _Item(pytest.Item):
    def __init__(self, *, loaded: Loaded, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.loaded = loaded

    @property
    def folder(self) -> Path:
        """Where files of failing cases go."""
        cache = getattr(self.config, "cache", None)  # -p no:cacheprovider
        return Path(cache.mkdir(FOLDER)) if cache is not None else self.config.rootpath / ".xenaer"

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """Our own failures as they are, without a traceback."""
        if isinstance(excinfo.value, CaseFailedError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it stands."""
        return self.path, None, self.name


class CaseItem(_Item):
    """One case."""

    def __init__(self, *, number: int, recipe: Recipe, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.number = number
        self.recipe = recipe

    def runtest(self) -> None:
        """Play it. Raises CaseFailedError."""
        result = self.loaded.play(self.number, self.recipe)
        if not result.good:
            raise CaseFailedError(self.loaded.explain(result, self.recipe, self.folder))


class StratumItem(_Item):
    """All cases of one stratum; the campaign is played once for all of its strata."""

    def runtest(self) -> None:
        """Look at what came of it. Raises CaseFailedError."""
        played = self.loaded.played
        failed = [result for result in played.failed if self.name in (result.stratum, ALL)]
        if failed:
            tally = played.tallies.strata.get(self.name)
            told = list(figures(self.name, tally).lines()) if tally is not None else []
            texts = [f"{r.case_id} {r.outcome}: {'; '.join(r.problems)}" for r in failed[:SHOWN]]
            first = self.loaded.explain(failed[0], None, self.folder)
            raise CaseFailedError("\n".join([*told, *texts, "", first]))


def play_marked(item: pytest.Item, marker: pytest.Mark) -> Played:
    """The campaign of ``@pytest.mark.xenaer``; a failure fails the test."""
    given = marker.kwargs.get("campaign")
    if not isinstance(given, str):
        raise pytest.UsageError('@pytest.mark.xenaer needs campaign="file.yaml"')
    try:
        loaded = Loaded(item.path.parent / given, marker.kwargs.get("size"), item.config.getoption("--xenaer-seed"))
    except InputError as error:
        pytest.fail("\n".join(error.problems), pytrace=False)
    played = loaded.played
    loaded.close()
    if played.failed:
        told = "\n".join(figures(played.name, played.tallies.total()).lines())
        first = loaded.explain(played.failed[0], None, Path())
        pytest.fail(f"{told}\n{len(played.failed)} cases failed, the first of them:\n{first}", pytrace=False)
    return played
