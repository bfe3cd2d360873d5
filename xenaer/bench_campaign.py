"""How fast campaigns are: cases in virtual time with all that belongs to one, their scaling, and on processes."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from xenaer.boot import data_dir
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import Task
from xenaer.campaign.chunk import pack_assignment, play_chunk
from xenaer.campaign.explorations import Matrix
from xenaer.campaign.file import load_campaign
from xenaer.campaign.run.executors import open_crew
from xenaer.campaign.run.rows import pack, to_row, unpack
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.run.run_options import RunOptions
from xenaer.campaign.run.runner import CampaignRunner
from xenaer.campaign.running import PER_CORE
from xenaer.campaign.worlds.play_simulated import SimulatedPlayer

ROUNDS = 10
CASES = 200  # per round
SCALED = 3_000  # cases of a run of which the rate counts
PROCESS_CASES = 160
PROCESSES = ("xenaer.campaign.worlds.play_processes",)
CORES = 2

Figures = dict[str, Any]

TEXT = """\
name: bench
host: {host}
faults:
  - inject: {{device: $device, errors: [CmpltTO]}}
explore:
  matrix:
    axes: {{device: [nic0, nic1]}}
    seeds: 1000000
"""


def campaigns() -> dict[str, Figures]:
    """Cases per second and core; how much faster two cores are than one; cases per second on real processes."""
    with tempfile.TemporaryDirectory(prefix="xb-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(TEXT.format(host=data_dir("hosts") / "pair.yaml"))
        campaign = load_campaign(path)
        return {
            "campaign_cases_per_s": _cases(campaign, Path(folder)),
            "campaign_scaling": _scaling(campaign, Path(folder)),
            "campaign_process_cases_per_s": _process_cases(campaign, Path(folder)),
        }


def _cases(campaign: Campaign, folder: Path) -> Figures:
    """Complete cases per second of processor time: set back, played, judged, stored."""
    player, recipes = SimulatedPlayer(campaign), Matrix(1_000_000, campaign.axes, None)
    rates, number = [], 0
    with RunFolder.create(RunOptions(name="cases", seed=1), folder) as run:
        for _ in range(ROUNDS + 1):
            begin = time.process_time()
            rows = []
            for _ in range(CASES):
                recipe = recipes.recipe(number)
                result = player.play(Task(number, recipe))
                assert result.good, result.problems
                rows.append(unpack(pack(to_row(result, recipe, twice=False))))
                number += 1
            run.add(rows)
            rates.append(CASES / (time.process_time() - begin))
    del rates[0]  # the machine was booted
    return {"p50": median(rates), "p99": min(rates), "n": number}


def _scaling(campaign: Campaign, folder: Path) -> Figures:
    """Wall-clock rate of two workers divided by that of one; below 2 even in theory where cores are shared."""
    one, two = (_run(campaign, folder, jobs) for jobs in (1, CORES))
    return {"p50": two / one, "p99": two / one, "n": SCALED, "cores": len(os.sched_getaffinity(0))}


def _run(campaign: Campaign, folder: Path, jobs: int) -> float:
    payload = pack_assignment(campaign, "simulated")
    preload = ("xenaer.campaign.chunk", "xenaer.campaign.worlds.play_simulated")
    with (
        RunFolder.create(RunOptions(name=f"jobs-{jobs}", seed=1), folder) as run,
        open_crew("local", jobs, case_limit_s=60, preload=preload) as crew,
    ):
        warm = Matrix(1_000_000, campaign.axes, CASES)
        CampaignRunner(warm, play_chunk, payload, crew, run).run()
        with RunFolder.create(RunOptions(name=f"jobs-{jobs}-measured", seed=1), folder) as measured:
            begin = time.monotonic()
            CampaignRunner(Matrix(1_000_000, campaign.axes, SCALED), play_chunk, payload, crew, measured).run()
            return SCALED / (time.monotonic() - begin)


def _process_cases(campaign: Campaign, folder: Path) -> Figures:
    """Wall-clock rate of cases with fresh guests, on as many hosts as there are cores."""
    payload = pack_assignment(campaign, "processes")
    with (
        RunFolder.create(RunOptions(name="processes", seed=1), folder) as run,
        open_crew("local", None, case_limit_s=60, preload=PROCESSES, per_core=PER_CORE["processes"]) as crew,
    ):
        begin = time.monotonic()
        CampaignRunner(Matrix(1_000_000, campaign.axes, PROCESS_CASES), play_chunk, payload, crew, run).run()
        rate = PROCESS_CASES / (time.monotonic() - begin)
    return {"p50": rate, "p99": rate, "n": PROCESS_CASES}
