"""What people get wrong: one line each, before anything is played; and drivers that misbehave while they are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.campaign.files import NOTHING, campaign_file, one_case, play_one
from xenaer.campaign import running
from xenaer.campaign.case import Outcome
from xenaer.campaign.run.rows import to_result
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.cli import main

pytestmark = pytest.mark.processes

DRIVERS = """
import time
from domu_pcifront.driver import ProbeError
from domu_pcifront.drivers.xnic import XNic

class Spins(XNic):
    async def error_detected(self, state):
        while True:
            pass

class Sleeps(XNic):
    def error_detected(self, state):
        time.sleep(1e9)

class Raises(XNic):
    async def error_detected(self, state):
        return self.helper()

    def helper(self):
        return [1, 2][3]

class GivesWrong(XNic):
    async def error_detected(self, state):
        await self.dev.sleep("long")

class Error(Exception):
    def __str__(self):
        return str(1 / 0)

class Unspeakable(XNic):
    async def error_detected(self, state):
        raise Error

class NoProbe(XNic):
    async def probe(self):
        raise ProbeError("the moon is not full")

class BadProbe(XNic):
    async def probe(self):
        return {}["key"]

class NeverProbes(XNic):
    async def probe(self):
        while True:
            pass
"""
ERRORS = """
    faults: [{inject: {device: $device, errors: [$error]}}]
    explore: {matrix: {axes: {device: [nic0, nic1], error: [RxErr, CmpltTO]}, strata: [error]}}
    """


def line_of(text: str) -> int:
    """The line of ``DRIVERS`` that has this text."""
    return next(number for number, line in enumerate(DRIVERS.splitlines(), 1) if text in line)


def with_driver(folder: Path, name: str, text: str, module: str = "bad_drivers") -> Path:
    """A campaign with a driver of a user for nic0."""
    (folder / "bad_drivers.py").write_text(DRIVERS)
    return campaign_file(folder, f'drivers: [{{guest: left, device: nic0, driver: "{module}:{name}"}}]\n' + text)


# -- files and options -----------------------------------------------------------------------------
@pytest.fixture(name="inside")
def fixture_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a campaign, a folder, a file, and no permission in one place."""
    monkeypatch.chdir(tmp_path)
    campaign_file(tmp_path, ERRORS)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "bad.yaml").write_text((tmp_path / "case.yaml").read_text() + "seed: -4\n")
    return tmp_path


WRONG: dict[str, tuple[list[str], str]] = {
    "seed is no number": (["case.yaml", "--seed", "x"], "Invalid value for '--seed': .* integer"),
    "seed is negative": (["case.yaml", "--seed", "-1"], "Invalid value for '--seed': .* greater than or equal to 0"),
    "seed is too large": (["case.yaml", "--seed", str(1 << 53)], "Invalid value for '--seed': .* less than or equal"),
    "seed in the file": (["bad.yaml"], r"bad\.yaml:6:1: seed: should be greater than or equal to 0, not -4"),
    "no jobs": (["case.yaml", "--jobs", "0"], "Invalid value for '--jobs'"),
    "a folder": (["folder"], "folder: is a directory"),
    "no such file": (["other.yaml"], r"other\.yaml: no such file or directory"),
    "no such campaign": (["smok"], "no file 'smok' and no shipped one .* did you mean 'smoke'"),
    "no such size": (["case.yaml", "--size", "big"], r"case\.yaml: no size 'big'; allowed: nothing"),
    "no such world": (["case.yaml", "--world", "simulation"], "--world 'simulation'; did you mean 'simulated'"),
    "no such executor": (["case.yaml", "--executor", "slurm"], "executor 'slurm': expected local or dask://HOST:PORT"),
    "runs in a file": (["case.yaml", "--runs", "file"], "file: not a directory"),
    "runs below a file": (["case.yaml", "--runs", "file/runs"], "file/runs: not a directory"),
    "runs where nobody may write": (["case.yaml", "--runs", "/proc/xenaer"], "/proc/xenaer: "),
    "nothing": ([], "name a campaign file, or go on with a run"),
    "both": (["case.yaml", "--resume", "folder"], "name a campaign file, or go on with a run"),
    "no run": (["--resume", "folder"], r"folder: no options\.json: no run ever began here; start a new one"),
    "no folder": (["--resume", "nowhere"], "nowhere: there is no such run directory"),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_line_says_what_is_wrong(name: str, inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, expected = WRONG[name]
    assert main(["campaign", "run", *words]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"xenaer: {expected}.*\n", errors), errors
    assert not (inside / "xenaer-runs").exists()


def test_a_run_of_another_version_is_refused(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", "run", "case.yaml", "--jobs", "1"]) == 0
    options = inside / "xenaer-runs" / "latest" / "options.json"
    data = json.loads(options.read_text())
    options.write_text(json.dumps(data | {"format": data["format"] + 1}))
    capsys.readouterr()
    for words in (["run", "--resume", "xenaer-runs/latest"], ["replay", "0"], ["shrink", "0"]):
        assert main(["campaign", *words]) == 2
        errors = capsys.readouterr().err
        assert f"a run of format {data['format'] + 1}; this xenaer reads and writes format" in errors
        assert errors.count("\n") == 1


# -- drivers that cannot be used ---------------------------------------------------------------------
def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said instead of a run; nothing is left."""
    assert main(["campaign", "run", str(path), "--runs", str(path.parent / "runs"), "--jobs", "1"]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert not (path.parent / "runs").exists()
    return errors


def test_an_unknown_driver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = campaign_file(
        tmp_path, "drivers: [{guest: left, device: nic0, driver: xnick}]\n" + ERRORS.replace("\n    ", "\n")
    )
    expected = f"xenaer: {path}:3:11: drivers[0]: no guest driver 'xnick'; allowed: xnic, xblk, "
    errors = refused(path, capsys)
    assert errors.startswith(expected)
    assert errors.endswith("none, module:Class, or program:COMMAND\n")
    assert errors.count("\n") == 1


def test_an_import_error_is_told_with_their_line_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad_import.py").write_text("import json\nimport bad_inner\n")
    (tmp_path / "bad_inner.py").write_text("def f():\n    return json.x\n\nf()\n")
    errors = refused(with_driver(tmp_path, "X", NOTHING, "bad_import"), capsys)
    assert "NameError: name 'json' is not defined" in errors
    frames = re.findall(r"(\S+\.py):(\d+) in", errors)
    assert frames == [
        (f"({tmp_path}/bad_import.py", "2"),
        (f"{tmp_path}/bad_inner.py", "4"),
        (f"{tmp_path}/bad_inner.py", "2"),
    ]
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NoProbe", "the moon is not full (bad_drivers.py:{} in probe)"),
        ("BadProbe", "KeyError: 'key' (bad_drivers.py:{} in probe)"),
    ],
)
def test_a_driver_that_does_not_start(name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = line_of("the moon" if name == "NoProbe" else '{}["key"]')
    said = "xenaer: guest left: xnic 0000:00:00.0: probe failed: " + text.format(line)
    assert refused(with_driver(tmp_path, name, NOTHING), capsys) == said + "\n"


def test_a_driver_that_never_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    errors = refused(with_driver(tmp_path, "NeverProbes", "case_limit_s: 0.5\n" + NOTHING), capsys)
    assert errors == "xenaer: the system does not start: no result within 0.5 s of real time\n"


def test_a_driver_of_some_cases_that_does_not_start_harms_no_other(tmp_path: Path) -> None:
    (tmp_path / "bad_drivers.py").write_text(DRIVERS)
    text = """
        drivers: [{guest: left, device: nic0, driver: $driver}]
        faults: [{inject: {device: nic0, errors: [CmpltTO]}}]
        explore: {matrix: {axes: {driver: ["bad_drivers:NoProbe", xnic]}}}
        """
    finished = running.run(running.Request(campaign_file(tmp_path, text), jobs=1, runs=tmp_path / "runs"))
    assert finished.summary.outcomes == {"harness-error": 1, "recovered": 1}
    assert "probe failed: the moon is not full" in finished.summary.failures[0].text


# -- drivers that misbehave in a case ----------------------------------------------------------------
@pytest.mark.parametrize("name", ["Spins", "Sleeps"])
def test_a_driver_that_never_comes_back_is_a_hang_and_harms_no_other(name: str, tmp_path: Path) -> None:
    path = with_driver(tmp_path, name, "case_limit_s: 1\n" + ERRORS.replace("\n    ", "\n"))
    finished = running.run(running.Request(path, jobs=2, runs=tmp_path / "runs"))
    assert finished.summary.complete
    assert finished.status == 1
    assert finished.summary.outcomes == {"corrected-logged": 2, "hang": 1, "recovered": 1}
    (failure,) = finished.summary.failures
    assert (failure.outcome, failure.stratum) == ("hang", "error=CmpltTO")
    assert failure.text == "no result within 1 s of real time"
    (tmp_path / "bad_drivers.py").unlink()
    good = campaign_file(tmp_path, ERRORS, "good")
    without = running.run(running.Request(good, jobs=1, runs=tmp_path / "runs"))
    with RunFolder.read(finished.path) as ours, RunFolder.read(without.path) as theirs:
        pairs = [(to_result(a), to_result(b)) for a, b in zip(ours.store.rows(), theirs.store.rows(), strict=True)]
    assert [a.digest == b.digest for a, b in pairs] == [True, False, True, True]


@pytest.mark.parametrize(
    ("name", "error", "line"),
    [
        ("Raises", "IndexError: list index out of range", "[1, 2][3]"),
        ("GivesWrong", "ValueError: ", 'sleep("long")'),
        ("Unspeakable", "Error: its text raised ZeroDivisionError", "raise Error"),
    ],
)
def test_what_a_handler_raises_is_told_with_the_line_of_its_author(
    name: str, error: str, line: str, tmp_path: Path
) -> None:
    (tmp_path / "bad_drivers.py").write_text(DRIVERS)
    driver = f'drivers: [{{guest: left, device: nic0, driver: "bad_drivers:{name}"}}]\n'
    result = play_one(tmp_path, driver + one_case("[{inject: {device: nic0, errors: [CmpltTO]}}]"))
    assert result.outcome is Outcome.GUEST_KILLED_REQUIRED
    assert f"; left, pcifront_do_aer: {error}" in result.text
    assert f"(bad_drivers.py:{line_of(line)} in " in result.text
    assert len(result.text) < 1000
