"""A runner that is killed, interrupted, or has no more room: what it reported is there, and it can go on."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.campaign.rig import Guided, results_text, run, start
from xenaer.campaign.run.run_folder import RunFolder

pytestmark = pytest.mark.processes

GUIDED = [6, 30, 3.0]  # 180 cases of 3 ms


@pytest.fixture(name="whole", scope="module")
def fixture_whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Results of a run that nobody interrupted."""
    summary, path = run(Guided(6, 30, 3.0), tmp_path_factory.mktemp("whole"))
    assert summary.complete
    assert summary.failing
    return results_text(path)


class Watched:
    """A runner's process, and what it said last."""

    def __init__(self, parent: Path, **settings: Any) -> None:
        self.process = start(parent, **settings)
        assert self.process.stdout is not None
        self._lines = self.process.stdout
        self.path = Path(self._lines.readline().removeprefix("run ").strip())
        self.done = 0

    def until(self, done: int) -> None:
        """Read until it has reported ``done`` cases, or has ended."""
        while self.done < done and (line := self._lines.readline()):
            self.done = int(line.removeprefix("done "))

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal and wait: exit status and standard error; everything it reported is read."""
        self.process.send_signal(number)
        self.until(1 << 60)
        assert self.process.stderr is not None
        errors = self.process.stderr.read()
        self.process.stderr.close()
        self._lines.close()
        return self.process.wait(timeout=30), errors


def stored(path: Path) -> int:
    """How many cases a run has."""
    with RunFolder.read(path) as folder:
        return folder.store.count()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_that_is_killed_again_and_again_ends_like_any_other(seed: int, whole: str, tmp_path: Path) -> None:
    chance = random.Random(seed)
    settings: dict[str, Any] = {"guided": GUIDED}
    done = kills = 0
    while True:
        runner = Watched(tmp_path, **settings)
        settings["resume"] = str(runner.path)
        runner.until(done + chance.randrange(90))
        status, _ = runner.end(signal.SIGKILL)
        if status == 0:  # it was quicker
            break
        kills += 1
        assert stored(runner.path) >= runner.done
        done = runner.done
    assert kills
    assert results_text(runner.path) == whole
    assert not list(runner.path.glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_told_to_stop_says_what_he_has(number: signal.Signals, whole: str, tmp_path: Path) -> None:
    runner = Watched(tmp_path, guided=GUIDED)
    runner.until(40)
    assert runner.end(number) == (1, "")
    data = json.loads(results_text(runner.path))
    assert data["complete"] is False
    assert 40 <= runner.done == data["cases"] < 180
    assert (runner.path / "junit.xml").exists()
    assert Watched(tmp_path, resume=str(runner.path), guided=GUIDED).end(signal.SIGCONT) == (0, "")
    assert results_text(runner.path) == whole


def test_the_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    """Whatever the runner was about to do; what was stored is stored."""
    runner = Watched(tmp_path, guided=GUIDED)
    runner.until(40)
    runner.process.send_signal(signal.SIGINT)
    status, _ = runner.end(signal.SIGINT)
    assert status in (1, -signal.SIGINT)
    assert stored(runner.path) >= runner.done


def test_memory_does_not_grow_with_the_number_of_cases(tmp_path: Path) -> None:
    """Tens of thousands here; a result that is kept by mistake is about a kilobyte."""
    runner = Watched(tmp_path, counted=40_000)
    resident = []
    for done in (10_000, 20_000, 39_000):
        runner.until(done)
        status = Path(f"/proc/{runner.process.pid}/status").read_text()
        resident.append(int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]))
    assert runner.end(signal.SIGCONT)[0] == 0
    assert max(resident) - resident[0] < 5000, resident


# -- a full disk -----------------------------------------------------------------------------------
MUCH: dict[str, Any] = {"cases": 20_000, "recipe": {"do": "fail", "padding": "x" * 300}}


def check_full(runner: Watched, reason: str = "the disk is full") -> None:
    """It ends with a clear message; what it reported is there."""
    status, errors = runner.end(signal.SIGCONT)
    assert status == 2
    assert len(errors.splitlines()) == 1
    assert str(runner.path) in errors
    assert re.search(rf": (the disk is full|{reason}); finished cases are kept, go on with --resume", errors)
    assert 0 < runner.done <= stored(runner.path) < MUCH["cases"]


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path: Path) -> None:
    """The database does not say why a file did not grow, but that it did not."""
    check_full(Watched(tmp_path, **MUCH, file_size=1_000_000), "disk I/O error")


@pytest.fixture(name="small_disk")
def fixture_small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    runner = Watched(small_disk, **MUCH)
    check_full(runner)
    for journal in list((runner.path / "journals").iterdir())[:200]:
        journal.unlink()
    more = Watched(small_disk, **MUCH, resume=str(runner.path))  # with a little more room it goes on a little
    assert more.end(signal.SIGCONT)[0] == 2
    assert stored(runner.path) >= runner.done


@pytest.mark.parametrize("free", [0, 60_000])
def test_a_disk_that_was_full_before(free: int, small_disk: Path) -> None:
    try:
        with (small_disk / "other").open("wb") as file:
            file.write(bytes(2_000_000))
    except OSError:
        os.truncate(small_disk / "other", 1_048_576 - 8192 - free)
    process = start(small_disk, **MUCH)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 2, out
    assert len(errors.splitlines()) == 1, errors
    assert "the disk is full" in errors
