"""play_processes: cases on real processes; one that breaks the system spoils no other, and nothing outlives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.files import ONCE, campaign_file, read
from tests.campaign.rig import ROOT, wait_until
from xenaer.campaign import running
from xenaer.campaign.case import Task
from xenaer.campaign.worlds.machine import SetupError
from xenaer.campaign.worlds.play_processes import ProcessPlayer

pytestmark = pytest.mark.processes

CASES = """
    world: processes
    faults:
      - $first
      - inject: {device: nic0, errors: [CmpltTO]}
    explore:
      matrix:
        axes:
          first: [{sleep: {ms: 1}}, {process: {target: dom0, does: kill}}, {sleep: {ms: 2}}, {sleep: {ms: 3}}]
    """


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for temporary files of everything that is started here; short, since sockets are in it."""
    folder = tmp_path_factory.mktemp("p")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        yield folder


def left(folder: Path) -> list[str]:
    """Processes that have to do with this folder, and run directories in it."""
    found = [str(path) for path in folder.glob("xenaer-*") if path.name != "xenaer-runs"]
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environ = (path / "environ").read_bytes()
            if path.name != str(os.getpid()) and f"TMPDIR={folder}".encode() in environ:
                found.append((path / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def test_a_case_that_kills_dom0_spoils_no_other(folder: Path) -> None:
    finished = running.run(running.Request(campaign_file(folder, CASES), jobs=1, runs=folder / "xenaer-runs"))
    assert finished.summary.complete
    data = json.loads(finished.json_text())
    assert finished.summary.outcomes == {"hang": 1, "recovered": 3}, data["failures"]
    assert [failure["number"] for failure in data["failures"]] == [1]
    wait_until(lambda: not left(folder))


def test_the_smallest_campaign_on_real_processes(folder: Path) -> None:
    """Both worlds agree in the outcome of each of its cases."""
    path = ROOT / "campaigns" / "smoke.yaml"
    there = running.run(running.Request(path, jobs=1, world="processes", runs=folder / "xenaer-runs"))
    assert there.status == 0, there.summary.failures
    here = running.run(running.Request(path, jobs=1, runs=folder / "xenaer-runs"))
    assert there.summary.strata == here.summary.strata


def test_nothing_outlives_a_run_that_is_killed(folder: Path) -> None:
    campaign_file(folder, CASES.replace("{sleep: {ms: 1}}", "{sleep: {ms: 30000}}"), "long")
    process = subprocess.Popen(
        [sys.executable, "-m", "xenaer", "campaign", "run", "long.yaml", "--jobs", "1"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: bool(list(folder.glob("xenaer-*/journal/left*"))), 60)
    assert len(left(folder)) > 5
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=20)
    wait_until(lambda: not left(folder))


# -- what cannot be set up ---------------------------------------------------------------------------
def refused(folder: Path, text: str) -> str:
    """Why a case cannot be played."""
    player = ProcessPlayer(read(folder, text))
    try:
        player.rehearse()
        player.played(player.builder.build(0, ONCE))
    except SetupError as error:
        return str(error)
    finally:
        player.close()
    pytest.fail("it was played")


def test_a_driver_that_does_not_start_is_told(folder: Path) -> None:
    (folder / "process_driver.py").write_text(
        "from domu_pcifront.drivers.xnic import XNic\n\nclass Bad(XNic):\n"
        "    async def probe(self):\n        return {}['key']\n"
    )
    text = 'drivers: [{guest: left, device: nic0, driver: "process_driver:Bad"}]\nsteps: [{sleep: {ms: 1}}]\n'
    said = "guest left: xnic 0000:00:00.0: probe failed: KeyError: 'key' (process_driver.py:5 in probe)"
    assert refused(folder, text) == said
    wait_until(lambda: not left(folder))


def test_setup_that_fails_is_told_and_setup_that_works_counts(folder: Path) -> None:
    steps = "steps: [{inject: {device: nic1, errors: [CmpltTO]}}]\n"
    said = refused(folder, "setup: [{detach: {guest: left, device: nic1}}]\n" + steps)
    assert said.startswith("setup, step 1 (")
    player = ProcessPlayer(read(folder, "setup: [{detach: {guest: right, device: nic1}}]\n" + steps))
    try:
        result = player.play(Task(0, {}))
    finally:
        player.close()
    assert result.guests["right"] == "untouched", result


def test_both_worlds_are_compared(folder: Path) -> None:
    text = "world: both\nfaults: [{inject: {device: nic0, errors: [MalfTLP]}}]\nexplore: {matrix: {}}\n"
    finished = running.run(running.Request(campaign_file(folder, text, "both"), jobs=1, runs=folder / "xenaer-runs"))
    assert finished.summary.outcomes == {"recovered-after-reset": 1}
    assert finished.status == 0, finished.summary.failures
