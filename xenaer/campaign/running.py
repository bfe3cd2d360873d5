"""What the commands do: a run of a campaign, one of its cases again, the smallest case that still fails, listings."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenaer.boot import data_dir
from xenaer.campaign.alone import PRELOAD
from xenaer.campaign.build import Builder
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.chunk import pack_assignment, play_chunk
from xenaer.campaign.conclusion import Conclusion, conclude, lines
from xenaer.campaign.explorations import make_exploration
from xenaer.campaign.file import load_campaign
from xenaer.campaign.form import SizeForm
from xenaer.campaign.rehearsal import rehearse
from xenaer.campaign.run.executors import open_crew
from xenaer.campaign.run.progress import shown
from xenaer.campaign.run.run_folder import RunFolder, RunFolderError, read_options
from xenaer.campaign.run.run_options import RunOptions
from xenaer.campaign.run.runner import RESULTS_JSON, CampaignRunner
from xenaer.campaign.run.summary import Summary
from xenaer.yaml_lines import InputError, closest

INTERRUPTED = 130
# A case on real processes spends most of its time in waiting for resets; one in virtual time never waits.
PER_CORE = {"simulated": 1, "processes": 4, "both": 2}
NO_SIZE = SizeForm.model_validate({})


@dataclass(frozen=True, slots=True)
class Request:
    """What ``campaign run`` was asked for; None: as the file says."""

    file: Path | None
    seed: int | None = None
    jobs: int | None = None
    world: str | None = None
    executor: str = "local"
    size: str | None = None
    host: Path | None = None
    resume: Path | None = None
    runs: Path = Path("xenaer-runs")


@dataclass(slots=True)
class Finished:
    """A run that came to an end, by itself or by Ctrl-C."""

    path: Path
    summary: Summary
    conclusion: Conclusion

    @property
    def status(self) -> int:
        """Exit status."""
        return self.conclusion.status if self.summary.complete else INTERRUPTED

    def lines(self) -> Iterator[str]:
        """For people."""
        yield from lines(self.conclusion, self.summary)
        verdict = "interrupted" if not self.summary.complete else "passed" if not self.conclusion.status else "FAILED"
        yield f"{self.conclusion.whole.name}: {verdict}; results in {self.path}, report.html among them"
        if self.summary.failures:
            first = self.summary.failures[0].case_id
            yield f"play a case again with: xenaer campaign replay {first} --from {self.path}"
        if not self.summary.complete:
            yield f"go on with: xenaer campaign run --resume {self.path}"

    def json_text(self) -> str:
        """``results.json``."""
        return (self.path / RESULTS_JSON).read_text(encoding="utf-8").rstrip()


def run(request: Request) -> Finished:
    """Play a campaign. Raises InputError, RunFolderError, ExecutorError, SetupError."""
    options, campaign = _asked(request)
    size = campaign.form.sizes.get(options.size, NO_SIZE) if options.size else NO_SIZE
    payload = pack_assignment(campaign, options.world)
    found: list[Conclusion] = []

    def judge(folder: RunFolder, summary: Summary) -> dict[str, Any]:
        found[:] = [conclude(campaign, folder, summary)]
        return found[0].plain()

    def show(folder: RunFolder, summary: Summary) -> None:
        from xenaer.report.write import write_report  # noqa: PLC0415 - needs what is defined here

        write_report(folder, campaign, summary)

    limit_s = campaign.form.case_limit_s
    per_core = PER_CORE[options.world]
    with open_crew(options.executor, options.jobs, case_limit_s=limit_s, preload=PRELOAD, per_core=per_core) as crew:
        rehearse(crew, payload)  # a run that cannot begin leaves no directory
        with (
            (
                RunFolder.create(options, request.runs) if request.resume is None else RunFolder.resume(request.resume)
            ) as folder,
            shown(sys.stderr) as on_progress,
        ):
            runner = CampaignRunner(
                make_exploration(campaign, size), play_chunk, payload, crew, folder, on_progress=on_progress,
                judge=judge, stratum=Builder(campaign).stratum, report=show,
            )  # fmt: skip
            summary = runner.run()
            return Finished(folder.path, summary, found[0])


def _asked(request: Request) -> tuple[RunOptions, Campaign]:
    """What is to be run: as the request says, or as the run that goes on was begun."""
    if request.resume is not None:
        options = read_options(request.resume)
        return options, campaign_of(options)
    assert request.file is not None
    campaign = load_campaign(request.file, request.host)
    form, sizes = campaign.form, campaign.form.sizes
    if request.size is not None and request.size not in sizes:
        raise InputError([f"{request.file}: no size {request.size!r}; {closest(request.size, sizes)}"])
    options = RunOptions(
        name=form.name,
        seed=form.seed if request.seed is None else request.seed,
        campaign=request.file.read_text(encoding="utf-8"),
        campaign_path=str(request.file.resolve()),
        host_path="" if request.host is None else str(request.host.resolve()),
        size=request.size or "",
        world=request.world or form.world,
        jobs=request.jobs,
        executor=request.executor,
    )
    form.seed = options.seed
    return options, campaign


def campaign_of(options: RunOptions) -> Campaign:
    """The campaign of a run. Raises InputError, RunFolderError if its file is another one now."""
    path = Path(options.campaign_path)
    campaign = load_campaign(path, options.host_path or None)
    if path.read_text(encoding="utf-8") != options.campaign:
        raise RunFolderError(f"{path} has changed since the run began; start a new run")
    campaign.form.seed = options.seed
    return campaign


def listing(runs: Path) -> Iterator[str]:
    """Shipped campaigns, then runs."""
    yield "campaigns:"
    for path in sorted(data_dir("campaigns").glob("*.yaml")):
        form = load_campaign(path).form
        kind = "steps" if form.explore is None else form.explore.kind
        about = " ".join(form.about.split())
        yield f"  {form.name:16} {kind:10} {about}"
    found = sorted(path.parent for path in runs.glob("*/options.json") if not path.parent.is_symlink())
    if found:
        yield f"runs in {runs}:"
    for path in found:
        yield f"  {path.name:40} {_state(path)}"


def _state(path: Path) -> str:
    try:
        data = json.loads((path / RESULTS_JSON).read_text(encoding="utf-8"))
        verdict = "passed" if data["passed"] else "failed" if data["complete"] else "not complete"
        return f"{verdict}, {data['cases']} cases, {data['failing']} failed"
    except (OSError, ValueError, KeyError):
        return "not complete; go on with --resume"
