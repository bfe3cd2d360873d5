"""runner, summary: rounds are played, kept and told of; results depend on the campaign alone."""

from __future__ import annotations

import json
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.campaign.plays import play
from tests.campaign.rig import PAYLOAD, SEED, Guided, Listed, options, results_text, run
from xenaer.campaign.case import CaseResult, Recipe
from xenaer.campaign.run.chunks import draw
from xenaer.campaign.run.dispatch import Crew, ExecutorError
from xenaer.campaign.run.progress import Progress
from xenaer.campaign.run.run_folder import RunFolder, RunFolderError
from xenaer.campaign.run.runner import CampaignRunner

RECIPES: list[Recipe] = [
    {"do": "fail" if n % 40 == 3 else "pass", "n": n, "stratum": "odd" if n % 2 else "even"} for n in range(400)
]


def in_threads(exploration: Listed | Guided, folder: RunFolder, seen: list[Progress] | None = None) -> CampaignRunner:
    """A runner that starts no processes."""
    heard: list[Progress] = [] if seen is None else seen
    crew = Crew(ThreadPoolExecutor(2), 2)
    return CampaignRunner(exploration, play, PAYLOAD, crew, folder, on_progress=heard.append)


def test_a_run_is_counted_and_written_down(tmp_path: Path) -> None:
    seen: list[Progress] = []
    with RunFolder.create(options(), tmp_path) as folder:
        summary = in_threads(Listed(RECIPES, 150), folder, seen).run()
        assert summary.complete
        assert (summary.cases, summary.failing) == (400, 10)
        assert summary.outcomes == {"lost": 10, "recovered": 390}
        assert summary.strata == {"even": {"recovered": 200}, "odd": {"lost": 10, "recovered": 190}}
        assert [failure.number for failure in summary.failures] == list(range(3, 400, 40))
        assert summary.failures[0].problems[0] == "expected recovered"
        assert summary.coverage["row/all"] == 400
        sampled = sum(draw(SEED, number).keep and number % 40 != 3 for number in range(400))
        assert summary.journals["failing"] == {"kept": 10, "dropped": 0}
        assert summary.journals["sample"] == {"kept": sampled, "dropped": 0}
        assert len(list((folder.path / "journals").iterdir())) == 10 + sampled
        assert [row.flags & 1 for row in folder.store.rows()] == [draw(SEED, number).twice for number in range(400)]
    data = json.loads(results_text(folder.path))
    assert (data["name"], data["seed"], data["cases"], data["complete"]) == ("rig", SEED, 400, True)
    assert (folder.path / "junit.xml").exists()
    assert (seen[-1].done, seen[-1].total, seen[-1].failing) == (400, 400, 10)


@pytest.mark.processes
def test_results_do_not_depend_on_who_plays(tmp_path: Path) -> None:
    with RunFolder.create(options(), tmp_path) as folder:
        in_threads(Guided(5, 60), folder).run()
    _, path = run(Guided(5, 60), tmp_path)
    assert results_text(path) == results_text(folder.path)
    _, path = run(Guided(5, 60), tmp_path, jobs=1)
    assert results_text(path) == results_text(folder.path)


def test_a_finished_run_that_is_resumed_plays_nothing(tmp_path: Path) -> None:
    with RunFolder.create(options(), tmp_path) as folder:
        in_threads(Guided(4, 50), folder).run()
    before = results_text(folder.path)
    with RunFolder.resume(folder.path) as again:
        in_threads(Guided(4, 50), again).run()
    assert results_text(folder.path) == before
    sittings = json.loads((folder.path / "timing.json").read_text())["sittings"]
    assert [entry["cases"] for entry in sittings] == [200, 0]


class Stopping(Guided):
    """Stops its run after some rounds, as somebody might at any time."""

    def __init__(self, after: int) -> None:
        super().__init__(6, 40)
        self.runner: CampaignRunner | None = None
        self._after = after

    def rounds(self) -> Generator[list[Recipe], list[CaseResult], None]:
        """See ``Exploration``."""
        results: list[CaseResult] = []
        rounds = super().rounds()
        recipes = next(rounds)
        while True:
            if self._after == 0 and self.runner is not None:
                self.runner.stop()
            self._after -= 1
            results = yield recipes
            try:
                recipes = rounds.send(results)
            except StopIteration:
                return


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_run_that_is_stopped_can_go_on(after: int, tmp_path: Path) -> None:
    with RunFolder.create(options(), tmp_path) as whole:
        in_threads(Guided(6, 40), whole).run()
    exploration = Stopping(after)
    with RunFolder.create(options(), tmp_path) as folder:
        exploration.runner = in_threads(exploration, folder)
        summary = exploration.runner.run()
        assert not summary.complete
        assert after * 40 <= summary.cases < (after + 1) * 40
    assert json.loads(results_text(folder.path))["complete"] is False
    with RunFolder.resume(folder.path) as again:
        assert in_threads(Guided(6, 40), again).run().complete
    assert results_text(folder.path) == results_text(whole.path)


def test_a_campaign_that_has_changed_is_noticed(tmp_path: Path) -> None:
    with RunFolder.create(options(), tmp_path) as folder:
        in_threads(Listed(RECIPES[:20]), folder).run()
    changed: list[Recipe] = [*RECIPES[:7], {"do": "pass", "n": -7}, *RECIPES[8:30]]
    with RunFolder.resume(folder.path) as again, pytest.raises(RunFolderError) as caught:
        in_threads(Listed(changed), again).run()
    assert "case 7 was 000007-" in str(caught.value)
    assert "start a new run" in str(caught.value)


@pytest.mark.processes
def test_what_goes_wrong_keeps_what_is_finished(tmp_path: Path) -> None:
    class Mistaken(Listed):
        def rounds(self) -> Generator[list[Recipe], list[CaseResult], None]:
            yield from super().rounds()
            raise ZeroDivisionError("an exploration's own mistake")

    with RunFolder.create(options(), tmp_path) as folder, pytest.raises(ZeroDivisionError):
        in_threads(Mistaken(RECIPES), folder).run()
    assert json.loads(results_text(folder.path))["cases"] == 400

    class Broken(ThreadPoolExecutor):
        def __del__(self) -> None:
            self.shutdown()

    crew = Crew(Broken(1), 1)

    class Breaking(Listed):
        def rounds(self) -> Generator[list[Recipe], list[CaseResult], None]:
            rounds = super().rounds()
            yield next(rounds)
            crew.executor.shutdown()
            yield from rounds

    with RunFolder.create(options(), tmp_path) as folder, pytest.raises(ExecutorError, match="takes no more work"):
        CampaignRunner(Breaking(RECIPES, 100), play, PAYLOAD, crew, folder).run()
    data = json.loads(results_text(folder.path))
    assert (data["cases"], data["complete"]) == (100, False)


def test_the_judge_adds_what_results_mean(tmp_path: Path) -> None:
    with RunFolder.create(options(), tmp_path) as folder:
        crew = Crew(ThreadPoolExecutor(1), 1)
        runner = CampaignRunner(
            Listed(RECIPES),
            play,
            PAYLOAD,
            crew,
            folder,
            judge=lambda folder, summary: {"verdict": summary.failing == 10},
        )
        runner.run()
    assert json.loads(results_text(folder.path))["verdict"] is True
