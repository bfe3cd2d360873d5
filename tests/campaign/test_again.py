"""again, shrink, alone: a case of a run once more, to the bit; and the smallest file that fails as it does."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.campaign.files import campaign_file, read
from xenaer.boot import data_dir
from xenaer.campaign import again, running
from xenaer.campaign.alone import OverdueError, guarded, play_alone
from xenaer.campaign.case import CaseResult, Outcome, Task
from xenaer.campaign.file import load_campaign
from xenaer.campaign.run.run_folder import RunFolder, RunFolderError
from xenaer.campaign.shrink import same_problem
from xenaer.campaign.smallest import Shrunk

pytestmark = pytest.mark.processes

DRIVER = """
from domu_pcifront.drivers.xnic import XNic

class Deaf(XNic):
    async def error_detected(self, state):
        return 99
"""
CASES = """
    profile: linux
    drivers: [{guest: left, device: nic0, driver: "again_driver:Deaf"}]
    faults:
      - inject: {device: nic1, errors: [RxErr]}
      - {at: {ms: 900}, touch: {device: nic1}}
      - driver: {guest: far, phase: resume, does: late, ms: 40}
      - inject: {device: $device, errors: [$error, Rollover]}
    explore: {matrix: {axes: {device: [nic0, nic1], error: [CmpltTO, UnsupReq]}}}
    expect: [{outcomes: [recovered]}]
    """


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where campaign and driver are."""
    folder = tmp_path_factory.mktemp("again")
    (folder / "again_driver.py").write_text(DRIVER)
    return folder


@pytest.fixture(name="run", scope="module")
def fixture_run(folder: Path) -> Path:
    """A run of four cases, two of which fail."""
    finished = running.run(running.Request(campaign_file(folder, CASES, on="shared"), jobs=1, runs=folder / "runs"))
    assert (finished.summary.cases, finished.summary.failing, finished.status) == (4, 2, 1)
    return finished.path


def test_a_case_again_is_the_same_to_the_bit(run: Path) -> None:
    with RunFolder.read(run) as folder:
        journals = {row.case_id: folder.path / "journals" / f"{row.case_id}.mpk" for row in folder.store.rows()}
    for case, journal in journals.items():
        replayed = again.replay(run, case)
        assert replayed.same
        assert list(replayed.lines())[-1] == f"identical: journal {replayed.before.digest}"
        if journal.exists():
            assert replayed.now.journal == journal.read_bytes()
    assert any("recovery.begin" in line for line in replayed.journal_lines())
    assert len(list(replayed.trace())) == len(replayed.entries())


def test_cases_are_found_by_the_beginning_of_their_id(run: Path) -> None:
    assert again.replay(run, "000002").now.number == 2
    with pytest.raises(LookupError, match=r"'0000' is the beginning of several case ids, 000000-\w+ and 000001-"):
        again.replay(run, "0000")
    with pytest.raises(LookupError, match=r"no case '9' in .*; failed ones are: 000000-\w+, 000001-\w+"):
        again.replay(run, "9")
    with pytest.raises(LookupError, match="no case '%'"):
        again.replay(run, "%")


def test_a_campaign_that_has_changed_is_not_played_again(run: Path, folder: Path) -> None:
    path = folder / "case.yaml"
    text = path.read_text()
    path.write_text(text + "seed: 2\n")
    try:
        with pytest.raises(RunFolderError, match=r"case\.yaml has changed since the run began; start a new run"):
            again.replay(run, "000000")
    finally:
        path.write_text(text)


# -- smaller ---------------------------------------------------------------------------------------
@pytest.fixture(name="shrunk", scope="module")
def fixture_shrunk(run: Path, folder: Path) -> Shrunk:
    """The first case, made smaller."""
    return again.shrink_case(run, "000000", folder / "small.yaml")


def test_what_does_not_matter_is_gone(shrunk: Shrunk) -> None:
    data = yaml.safe_load(shrunk.path.read_text())
    assert data["faults"] == [{"inject": {"device": "nic0", "errors": ["CmpltTO"]}}]
    assert set(data["without"]) == {"right", "far", "disk0", "nic1"}
    assert (shrunk.path.parent / data["host"]).samefile(data_dir("hosts") / "shared.yaml")
    assert shrunk.after < shrunk.before
    assert not list(shrunk.path.parent.glob(".*trial*"))


def test_the_smallest_file_fails_in_the_same_way(shrunk: Shrunk, run: Path, folder: Path) -> None:
    before = again.replay(run, "000000").now
    finished = running.run(running.Request(shrunk.path, jobs=1, runs=folder / "runs"))
    assert finished.status == 1
    (failure,) = finished.summary.failures
    assert failure.outcome == before.outcome
    assert failure.problems == shrunk.result.problems
    assert set(failure.problems) <= set(before.problems)


INLINE = """
    host:
      name: inline
      hierarchy:
        - {root_port: "00:1c.0", devices: [{nic: "01:00.0", name: nic0}]}
        - {root_port: "00:1d.0", devices: [{nic: "02:00.0", name: nic1}]}
      guests:
        - {name: one, devices: [{device: nic0, driver: silent}]}
        - {name: two, devices: [{device: nic1}]}
    faults: [{inject: {device: nic0, errors: [CmpltTO]}}]
    explore: {matrix: {}}
    expect: [{outcomes: [recovered]}]
    """


def lspci_text(folder: Path) -> str:
    """A campaign on the dump of a real machine, or some of it: somebody has one of its functions."""
    whole = (Path(__file__).parents[1] / "xenaer" / "data" / "main-lspci.txt").read_text()
    dump, device = folder / "dump.txt", "01:00.0"
    dump.write_text("\n\n".join(part for part in whole.split("\n\n") if part[:5] in ("00:00", "00:04", "01:00")) + "\n")
    return f"""
    host: {{lspci: {dump}, guests: {{mine: ["{device}"]}}}}
    faults: [{{inject: {{device: "{device}", errors: [CmpltTO]}}}}]
    explore: {{matrix: {{}}}}
    expect: [{{outcomes: [recovered]}}]
    """


def by_path(folder: Path) -> str:
    """A campaign on a host file beside it."""
    (folder / "own.yaml").write_text((data_dir("hosts") / "letter.yaml").read_text())
    return """
    host: own.yaml
    faults: [{inject: {device: nic1, errors: [CmpltTO]}}]
    explore: {matrix: {}}
    expect: [{outcomes: [recovered]}]
    """


@pytest.mark.parametrize("kind", ["inline", "path", "lspci"])
def test_hosts_of_every_kind(kind: str, tmp_path: Path) -> None:
    text = {"inline": lambda folder: INLINE, "path": by_path, "lspci": lspci_text}[kind](tmp_path)
    path = campaign_file(tmp_path, text, on="")
    run = running.run(running.Request(path, jobs=1, runs=tmp_path / "runs"))
    assert run.summary.failing == 1
    (tmp_path / "below").mkdir()
    small = again.shrink_case(run.path, "000000", tmp_path / "below" / "small.yaml")
    played = play_alone(load_campaign(small.path), "simulated", Task(0, {"values": {}}))
    assert (played.outcome, played.problems) == (run.summary.failures[0].outcome, run.summary.failures[0].problems)


def test_a_good_case_cannot_be_made_smaller(run: Path, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"000002-\w+ did not fail: recovered"):
        again.shrink_case(run, "000002", tmp_path / "small.yaml")
    assert not list(tmp_path.iterdir())


def result(outcome: Outcome, *problems: str) -> CaseResult:
    return CaseResult(0, "", "", outcome, not problems, "", list(problems))


def test_the_same_problem_is_more_than_the_same_outcome() -> None:
    before = result(Outcome.HANG, "outcome hang", "reset of 0000:01:00.0 took 102.5 ms; allowed: 5 ms", "step 3 (x): y")
    assert same_problem(before, result(Outcome.HANG, "outcome hang"))
    assert same_problem(before, result(Outcome.HANG, "reset of 0000:02:00.0 took 7 ms; allowed: 5 ms"))
    assert same_problem(before, result(Outcome.HANG, "step 1 (x): y"))
    assert not same_problem(before, result(Outcome.LOST, "outcome hang"))
    assert not same_problem(before, result(Outcome.HANG, "outcome hang", "dom0 died of a bug"))
    assert not same_problem(before, result(Outcome.HANG))


# -- one that never returns ------------------------------------------------------------------------
def test_a_case_that_never_returns_is_a_hang(tmp_path: Path) -> None:
    (tmp_path / "again_spins.py").write_text(DRIVER.replace("return 99", "while True: pass").replace("Deaf", "Spins"))
    text = (
        'drivers: [{guest: left, device: nic0, driver: "again_spins:Spins"}]\ncase_limit_s: 0.3\n'
        "faults: [{inject: {device: nic0, errors: [CmpltTO]}}]\nexplore: {matrix: {}}\n"
    )
    found = play_alone(read(tmp_path, text), "simulated", Task(0, {"values": {}}))
    assert (found.outcome, found.text) == (Outcome.HANG, "no result within 0.3 s of real time")


def test_a_driver_that_ends_the_process_ends_neither_replay_nor_shrink(tmp_path: Path) -> None:
    (tmp_path / "again_exits.py").write_text(DRIVER.replace("return 99", "import os; os._exit(9)"))
    text = """
    drivers: [{guest: left, device: nic0, driver: "again_exits:Deaf"}]
    faults: [{inject: {device: nic1, errors: [RxErr]}}, {inject: {device: nic0, errors: [CmpltTO]}}]
    explore: {matrix: {}}
    """
    run = running.run(running.Request(campaign_file(tmp_path, text), jobs=1, runs=tmp_path / "runs"))
    assert [case.outcome for case in run.summary.failures] == [Outcome.HARNESS_ERROR]
    assert "exit status 9" in run.summary.failures[0].text
    assert again.replay(run.path, "000000").same
    small = again.shrink_case(run.path, "000000", tmp_path / "small.yaml")
    assert [list(step) for step in yaml.safe_load(small.path.read_text())["faults"]] == [["inject"]]


@pytest.fixture(name="alarm")
def fixture_alarm() -> Iterator[list[int]]:
    """An alarm that rings in a second, for whoever set it."""
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    left = signal.setitimer(signal.ITIMER_REAL, 0.4)[0]
    yield rung
    signal.setitimer(signal.ITIMER_REAL, left)
    signal.signal(signal.SIGALRM, before)


def test_the_guard_leaves_another_alarm_alone(alarm: list[int]) -> None:
    with guarded(5):
        pass
    with pytest.raises(OverdueError), guarded(0.05):
        time.sleep(10)
    assert not alarm
    time.sleep(0.6)
    assert alarm
