"""A runner as a program, for tests that kill it: ``python -m tests.campaign.program SETTINGS`` (JSON).

Says ``run DIRECTORY``, then ``done N`` whenever progress is reported. Exit status as a campaign: 0 complete,
1 stopped early, 2 could not run.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

from tests.campaign.plays import play
from tests.campaign.rig import LIMIT_S, PAYLOAD, Counted, Guided, Listed, options
from xenaer.campaign.run import progress
from xenaer.campaign.run.dispatch import ExecutorError
from xenaer.campaign.run.executors import open_crew
from xenaer.campaign.run.progress import Progress
from xenaer.campaign.run.run_folder import RunFolder, RunFolderError
from xenaer.campaign.run.runner import CampaignRunner, Exploration


def say(text: str) -> None:
    """One line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def report(state: Progress) -> None:
    """What has been reported must not be lost."""
    say(f"done {state.done}")


def exploration(settings: dict[str, Any]) -> Exploration:
    """The exploration that the settings ask for."""
    if "counted" in settings:
        return Counted(settings["counted"])
    if "guided" in settings:
        return Guided(*settings["guided"])
    return Listed([{**settings["recipe"], "index": index} for index in range(settings["cases"])])


def main(settings: dict[str, Any]) -> int:
    """Run it."""
    if "file_size" in settings:
        resource.setrlimit(resource.RLIMIT_FSIZE, (settings["file_size"],) * 2)
    progress.REPORT_S = 0.0
    try:
        with (
            open_crew(settings.get("executor", "local"), settings.get("jobs", 2), case_limit_s=LIMIT_S) as crew,
            folder(settings) as run,
        ):
            say(f"run {run.path}")
            return (
                0
                if CampaignRunner(exploration(settings), play, PAYLOAD, crew, run, on_progress=report).run().complete
                else 1
            )
    except (RunFolderError, ExecutorError) as error:
        sys.stderr.write(f"xenaer: {error}\n")
        return 2


def folder(settings: dict[str, Any]) -> RunFolder:
    """The run's directory, new or not."""
    if "resume" in settings:
        return RunFolder.resume(Path(settings["resume"]))
    return RunFolder.create(options(), Path(settings["parent"]))


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
