"""Runs a campaign: rounds of an exploration are played by a crew, and what comes of them is kept in a directory.

A case counts once it is stored; from then on neither a Ctrl-C nor a SIGKILL loses it. A run that is resumed replays
its exploration against what is stored: it must ask for the same cases again, and is told the same results.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from types import FrameType
from typing import Any, Protocol

from xenaer.campaign.case import CaseResult, Recipe, Task, case_id, recipe_stratum, recipe_text
from xenaer.campaign.run.chunks import draw
from xenaer.campaign.run.dispatch import Crew, Dispatcher
from xenaer.campaign.run.junit import write_junit
from xenaer.campaign.run.playing import PlayChunk
from xenaer.campaign.run.progress import Meter, OnProgress
from xenaer.campaign.run.rows import Row
from xenaer.campaign.run.run_folder import RESULTS, RunFolder, RunFolderError, explained
from xenaer.campaign.run.summary import Summary, summarize
from xenaer.campaign.run.timing import Sitting

RESULTS_JSON = "results.json"
Judge = Callable[[RunFolder, Summary], dict[str, Any]]
Report = Callable[[RunFolder, Summary], None]


class Exploration(Protocol):
    """Decides which cases are played. ``total``: how many, None if that is not known before."""

    @property
    def total(self) -> int | None:
        """How many cases there will be."""

    def rounds(self) -> Generator[list[Recipe], list[CaseResult], None]:
        """Yields rounds of recipes, is sent their results in the same order; the same every time."""


class CampaignRunner:
    """One sitting of one run.

    ``payload`` is what ``play_chunk`` needs to know of the campaign. ``stratum`` is that of a case which has no result
    of its own, since its worker was killed, for example. ``judge`` adds to ``results.json`` what the results mean,
    ``report`` writes what people look at. ``stop`` ends the run early, like SIGINT and SIGTERM do while ``run`` is
    under way.
    """

    def __init__(  # noqa: PLR0913 - what meets in a run
        self,
        exploration: Exploration,
        play_chunk: PlayChunk,
        payload: bytes,
        crew: Crew,
        folder: RunFolder,
        *,
        on_progress: OnProgress = lambda progress: None,
        judge: Judge = lambda folder, summary: {},
        stratum: Callable[[Recipe], str] = recipe_stratum,
        report: Report = lambda folder, summary: None,
    ) -> None:
        self._exploration = exploration
        self._folder = folder
        self._seed = folder.options.seed
        self._dispatcher = Dispatcher(crew, play_chunk, payload)
        self._meter = Meter(exploration.total, on_progress)
        self._judge = judge
        self._stratum = stratum
        self._report = report
        self._stopped = False

    def stop(self) -> None:
        """Let ``run`` end with what is finished."""
        self._stopped = True
        self._dispatcher.stop()

    def run(self) -> Summary:
        """Play what is not finished yet; results so far are kept however it ends.

        Raises ExecutorError, RunFolderError, what the exploration raises, and KeyboardInterrupt at a second Ctrl-C.
        """
        with Sitting(self._folder) as sitting, self._signals():
            try:
                complete = self._play_rounds(sitting)
            except BaseException:
                with contextlib.suppress(RunFolderError):  # the disk may be full; what was wrong first is what matters
                    self._write_results(False)
                raise
            return self._write_results(complete)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM stops the run, the next one does what it did before."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, frame: FrameType | None) -> None:
            signal.signal(number, before[signal.Signals(number)])
            self.stop()

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # -- rounds ------------------------------------------------------------------------------------
    def _play_rounds(self, sitting: Sitting) -> bool:
        """Whether the exploration came to its end."""
        with explained(self._folder.path / RESULTS):
            self._meter.found(self._folder.store.counts())
        self._meter.report()
        first = 0
        rounds = self._exploration.rounds()
        try:
            recipes = next(rounds)
            while self._play_round(first, recipes, sitting):
                with explained(self._folder.path / RESULTS):
                    numbers = [first, first + len(recipes)]
                    results = list(self._folder.store.results("number >= ? AND number < ?", numbers))
                first += len(recipes)
                recipes = rounds.send(results)
        except StopIteration:
            return True
        finally:
            rounds.close()
            self._meter.report()
        return False

    def _play_round(self, first: int, recipes: list[Recipe], sitting: Sitting) -> bool:
        """Play the cases of a round that are not finished; whether it is complete."""
        tasks = self._tasks(first, recipes)
        for found in self._dispatcher.play(tasks):
            rows = [row if row.stratum else self._in_stratum(row) for row in found]
            if rows:
                self._folder.add(rows)
                sitting.cases += len(rows)
            self._meter.add(rows)
        return not self._stopped

    def _in_stratum(self, row: Row) -> Row:
        return row._replace(stratum=self._stratum(json.loads(row.recipe_json)))

    def _tasks(self, first: int, recipes: list[Recipe]) -> list[Task]:
        with explained(self._folder.path / RESULTS):
            finished = self._folder.store.ids(first, first + len(recipes))
        tasks = []
        for number, recipe in enumerate(recipes, first):
            known = finished.get(number)
            if known is None:
                tasks.append(Task(number, recipe, *draw(self._seed, number)))
            elif known != case_id(number, recipe_text(recipe)):
                raise RunFolderError(
                    f"{self._folder.path}: case {number} was {known} and is another one now: "
                    "the campaign, its seed or xenaer has changed since; start a new run"
                )
        return tasks

    # -- results -----------------------------------------------------------------------------------
    def _write_results(self, complete: bool) -> Summary:
        options = self._folder.options
        summary = summarize(self._folder, complete)
        head = {"format": options.format, "name": options.name, "seed": options.seed, "world": options.world}
        self._folder.write_json(RESULTS_JSON, head | summary.as_dict() | self._judge(self._folder, summary))
        write_junit(self._folder, summary)
        self._report(self._folder, summary)
        return summary
