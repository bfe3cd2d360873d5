"""``xenaer campaign``: real commands, killed and interrupted ones among them; what they say, keep and return."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.campaign.files import campaign_file, one_case
from tests.campaign.rig import ROOT, results_text, wait_until
from xenaer.campaign import running
from xenaer.campaign.run.run_folder import RunFolder, RunFolderError
from xenaer.cli import main

pytestmark = pytest.mark.processes

MATRIX = """
    faults: [{inject: {device: $device, errors: [$error]}}]
    explore: {matrix: {seeds: %d, axes: {device: [nic0, nic1], error: [RxErr, CmpltTO]}, strata: [error]}}
    sizes: {two: {cases: 2}}
    """
MANY = 120  # times four cases


def start(folder: Path, *words: str, prepare: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """The command in a process of its own, in ``folder``."""
    return subprocess.Popen(
        [sys.executable, "-m", "xenaer", "campaign", *words], cwd=folder, text=True, preexec_fn=prepare,  # noqa: PLW1509
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def stored(path: Path) -> int:
    """How many cases a run has; 0 if it has not begun."""
    try:
        with RunFolder.read(path) as folder:
            return folder.store.count()
    except RunFolderError:
        return 0


def interrupt(process: subprocess.Popen[str], path: Path, number: signal.Signals) -> tuple[int, str, str, int]:
    """A signal in mid-run: exit status, what it said, and how many cases there were before."""
    before = stored(path)
    wait_until(lambda: stored(path) > before or process.poll() is not None, 60)
    seen = stored(path)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors, seen


SLOW = """
import time
from domu_pcifront.drivers.xnic import XNic

class Slow(XNic):
    async def error_detected(self, state):
        time.sleep(0.015)  # real time, so that there is a middle of the run on every machine
        return await super().error_detected(state)
"""


def test_a_run_that_is_killed_and_interrupted_ends_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "command_slow.py").write_text(SLOW)
    driver = '    drivers: [{guest: left, device: nic0, driver: "command_slow:Slow"}]\n'
    path = campaign_file(tmp_path, driver + MATRIX % MANY)
    whole = running.run(running.Request(path, jobs=2, runs=tmp_path / "whole"))
    latest = tmp_path / "xenaer-runs" / "latest"
    status, _, _, seen = interrupt(start(tmp_path, "run", "case.yaml", "--jobs", "1"), latest, signal.SIGKILL)
    assert status == -signal.SIGKILL, "it was quicker"
    assert 0 < seen <= stored(latest) < 4 * MANY
    resumed = start(tmp_path, "run", "--resume", "xenaer-runs/latest")
    status, out, _, seen = interrupt(resumed, latest, signal.SIGINT)
    assert status == 130, out
    assert seen <= stored(latest) < 4 * MANY
    assert f"case: interrupted; results in {latest.resolve()}" in out
    assert f"go on with: xenaer campaign run --resume {latest.resolve()}" in out
    data = json.loads(results_text(latest))
    assert (data["complete"], data["cases"]) == (False, stored(latest))
    assert running.run(running.Request(None, resume=latest)).status == 0
    assert results_text(latest) == results_text(whole.path)


def test_a_full_disk_keeps_what_is_finished(tmp_path: Path) -> None:
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    campaign_file(tmp_path, (MATRIX % MANY).rstrip(" ") + "    expect: [{outcomes: [lost]}]\n")
    process = start(tmp_path, "run", "case.yaml", "--jobs", "1", prepare=small)
    _, errors = process.communicate(timeout=60)
    latest = tmp_path / "xenaer-runs" / "latest"
    (line,) = [text for text in errors.splitlines() if not text.startswith("0 of")]
    assert process.returncode == 2
    assert line.startswith("xenaer: ")
    assert line.endswith(f"; finished cases are kept, go on with --resume {latest.resolve()}")
    assert 0 < stored(latest) < 4 * MANY


def test_options_and_listing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    campaign_file(tmp_path, MATRIX % 3)
    assert main(["campaign", "run", "case.yaml", "--size", "two", "--seed", "7", "--json", "--jobs", "1"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["seed"], data["cases"], data["passed"], data["world"]) == (7, 2, True, "simulated")
    campaign_file(
        tmp_path, one_case("[{inject: {device: nic0, errors: [CmpltTO]}}]") + "expect: [{never: [recovered]}]\n"
    )
    assert main(["campaign", "run", "case.yaml", "--jobs", "1"]) == 1
    out = capsys.readouterr().out
    assert "FAILED 000000-" in out
    assert "play a case again with: xenaer campaign replay 000000-" in out
    assert main(["campaign", "replay", "0", "--trace", "--journal", "j.jsonl"]) == 0
    assert "identical: journal " in capsys.readouterr().out
    assert json.loads(Path("j.jsonl").read_text().splitlines()[0])["label"] == "hw.inject"
    assert main(["campaign", "list"]) == 0
    out = capsys.readouterr().out
    assert "  smoke            matrix     One error of each kind" in out
    assert [line.split()[1:] for line in out.partition("runs in xenaer-runs:\n")[2].splitlines()] == [
        ["passed,", "2", "cases,", "0", "failed"],
        ["failed,", "1", "cases,", "1", "failed"],
    ]


def test_a_new_file_can_be_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["campaign", "new", "my own.yaml"]) == 0
    assert capsys.readouterr().out == "my own.yaml is written; play it with: xenaer campaign run 'my own.yaml'\n"
    assert main(["campaign", "run", "my own.yaml"]) == 0
    assert "my-own: passed; results in" in capsys.readouterr().out
    assert main(["campaign", "new", "my own.yaml"]) == 2
    assert capsys.readouterr().err == "xenaer: my own.yaml exists; name another file\n"


# -- a driver that is another one now --------------------------------------------------------------
DRIVER = """
from domu_pcifront.drivers.xnic import XNic

class Own(XNic):
    async def error_detected(self, state):
        return {answer}
"""


def test_another_driver_is_another_journal(tmp_path: Path) -> None:
    """Each command is a process of its own, as modules are loaded once."""
    driver = tmp_path / "command_driver.py"
    driver.write_text(DRIVER.format(answer=2))
    campaign_file(
        tmp_path,
        'drivers: [{guest: left, device: nic0, driver: "command_driver:Own"}]\n'
        + one_case("[{inject: {device: nic0, errors: [CmpltTO]}}]"),
    )
    process = start(tmp_path, "run", "case.yaml", "--jobs", "1")
    assert process.communicate(timeout=60)[0].count("recovered ") > 0
    assert process.returncode == 0
    driver.write_text(DRIVER.format(answer=3))
    process = start(tmp_path, "replay", "000000")
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "")
    assert "DIFFERENT: journal " in out
    assert "recovered-after-reset" in out


# -- other machines --------------------------------------------------------------------------------
@pytest.mark.filterwarnings("default")
def test_a_cluster_gives_the_same_results(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra: pip install 'xenaer[dask]'")
    path = campaign_file(tmp_path, MATRIX % 10)
    local = running.run(running.Request(path, jobs=1, runs=tmp_path / "local"))
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        there = running.run(running.Request(path, executor=address, runs=tmp_path / "dask"))
    assert there.status == 0
    assert results_text(there.path) == results_text(local.path)
