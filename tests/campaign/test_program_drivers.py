"""External programs under test: in both worlds, in every kind of case, and nothing of them is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.files import ONCE, one_case, player, read, tasks
from tests.domu_pcifront.drivers.programs import held, script
from xenaer.boot import PACKAGE
from xenaer.campaign.again import shrink_case
from xenaer.campaign.alone import play_guarded
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import Outcome, Task
from xenaer.campaign.file import load_campaign
from xenaer.campaign.steps.script import ScriptError
from xenaer.campaign.worlds.machine import SetupError, SimMachine
from xenaer.campaign.worlds.play_processes import ComparingPlayer
from xenaer.campaign.worlds.play_simulated import SimulatedPlayer
from xenaer.testing import XenHost

EXAMPLES = PACKAGE.parent / "examples"
CC = shutil.which("cc")
GREETING = """
echo $$ >>"$0.pids"
read -r hello; echo "OK name=mine handlers=error_detected,resume"
read -r probe; echo OK
"""
HANDLERS = """
while read -r call rest; do
  case $call in
    error_detected) echo "OK CAN_RECOVER" ;;
    *) echo OK ;;
  esac
done
"""
ERROR = "[{inject: {device: nic0, errors: [CmpltTO]}}]"
ONE = 'drivers: [{guest: net1, device: nic0, driver: "program:./driver.sh"}]\n'
CASES = 100  # a thousand programs: tests/domu_pcifront/drivers/test_program.py
PATIENCE_S = 20.0


def pids(folder: Path) -> list[int]:
    """Of all programs that were started as ``driver.sh``."""
    return [int(line) for line in (folder / "driver.sh.pids").read_text().split()]


def lives(pid: int) -> bool:
    """A process that has ended and waits for its parent does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def all_end(folder: Path) -> bool:
    """All programs have ended, at once or in a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while any(map(lives, pids(folder))) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(map(lives, pids(folder)))


# -- the examples ------------------------------------------------------------------------------------
@pytest.fixture(name="cnic", scope="module")
def fixture_cnic(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """The campaign of the driver in C, with the driver compiled beside it."""
    if CC is None:
        pytest.skip("the example is in C, and there is no cc here")
    folder = tmp_path_factory.mktemp("examples")
    source, program = str(EXAMPLES / "cnic.c"), str(folder / "cnic")
    subprocess.run([CC, "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    text = (EXAMPLES / "cnic.yaml").read_text().replace("../hosts", str(PACKAGE.parent / "hosts"))
    (folder / "cnic.yaml").write_text(text)
    return load_campaign(folder / "cnic.yaml")


def test_the_driver_in_c_recovers_from_everything(cnic: Campaign) -> None:
    playing = SimulatedPlayer(cnic)
    results = [playing.play(task) for task in tasks(cnic)]
    assert [result.problems for result in results if not result.good] == []
    assert {result.outcome for result in results} == {"recovered", "recovered-after-reset", "no-effect"}


def test_a_replay_is_the_same_to_the_bit(cnic: Campaign) -> None:
    for task in list(tasks(cnic))[::9]:
        first, second = SimulatedPlayer(cnic).play(task), SimulatedPlayer(cnic).play(task)
        assert (first.digest, first.journal) == (second.digest, second.journal)


@pytest.mark.processes
def test_the_driver_in_c_is_the_same_in_both_worlds(cnic: Campaign) -> None:
    playing = ComparingPlayer(cnic)
    try:
        results = [playing.play(task) for task in list(tasks(cnic))[:6]]
    finally:
        playing.close()
    assert [result.problems for result in results] == [[]] * 6
    assert {result.outcome for result in results} == {"recovered", "recovered-after-reset"}


@pytest.mark.processes
@pytest.mark.parametrize("errors", ["CmpltTO", "MalfTLP"])
def test_the_smallest_driver_is_the_same_in_both_worlds(tmp_path: Path, errors: str) -> None:
    shutil.copy(EXAMPLES / "minimal.py", tmp_path)
    drivers = 'drivers: [{guest: net1, device: nic0, driver: "program:./minimal.py"}]\n'
    text = drivers + one_case(f"[{{inject: {{device: nic0, errors: [{errors}]}}}}]")
    playing = ComparingPlayer(read(tmp_path, text, on="one-nic"))
    result = playing.play(Task(0, ONCE, keep=True))
    playing.close()
    assert (result.problems, result.outcome in ("recovered", "recovered-after-reset")) == ([], True)


# -- machines ----------------------------------------------------------------------------------------
def test_a_machine_with_a_program_is_not_used_again(tmp_path: Path) -> None:
    script(tmp_path, GREETING + HANDLERS)
    playing = player(tmp_path, ONE + one_case(ERROR), on="one-nic")
    playing.rehearse()
    results = [playing.play(Task(0, ONCE, keep=True)) for _ in range(3)]
    assert {result.outcome for result in results} == {"recovered"}
    assert len({result.digest for result in results}) == 1
    assert len(pids(tmp_path)) == 3
    assert not any(map(lives, pids(tmp_path)))


def test_cases_leave_neither_processes_nor_descriptors(tmp_path: Path) -> None:
    script(tmp_path, GREETING + HANDLERS)
    playing = player(tmp_path, ONE + one_case(ERROR), on="one-nic")
    before = held()
    outcomes = {playing.play(Task(number, ONCE)).outcome for number in range(CASES)}
    assert (outcomes, held()) == ({"recovered"}, before)
    assert len(pids(tmp_path)) == CASES


def test_what_was_rehearsed_and_not_played_ends_with_the_player(tmp_path: Path) -> None:
    script(tmp_path, GREETING + HANDLERS)
    playing = player(tmp_path, ONE + one_case(ERROR), on="one-nic")
    playing.rehearse()
    assert [lives(pid) for pid in pids(tmp_path)] == [True]
    playing.close()
    assert [lives(pid) for pid in pids(tmp_path)] == [False]


def test_a_program_that_does_not_probe_takes_the_others_of_its_host_with_it(tmp_path: Path) -> None:
    script(tmp_path, GREETING + HANDLERS)
    script(tmp_path, "read -r hello; echo OK name=bad; read -r probe; echo FAIL wrong chip; cat", "bad.sh")
    drivers = """drivers:
      - {guest: left, device: nic0, driver: "program:./driver.sh"}
      - {guest: right, device: nic1, driver: "program:./bad.sh"}\n"""
    campaign = read(tmp_path, drivers + one_case(ERROR))
    with pytest.raises(SetupError, match=r"guest right: bad.sh 0000:00:00.0: probe failed: wrong chip"):
        SimMachine(campaign.script([], campaign.variant({})))
    assert [lives(pid) for pid in pids(tmp_path)] == [False]


@pytest.mark.parametrize("does", ["vote", "late", "hang", "raise", "exit", "panic", "spin", "twice", "invalid"])
def test_driver_faults_work_around_a_program_as_around_any_driver(tmp_path: Path, does: str) -> None:
    script(tmp_path, GREETING + HANDLERS)
    more = ", vote: DISCONNECT" if does == "vote" else ""
    fault = f"{{driver: {{guest: net1, device: nic0, phase: error_detected, does: {does}{more}}}}}"
    text = ONE + one_case(f"[{fault}, {ERROR[1:-1]}]")
    playing = player(tmp_path, text, on="one-nic")
    result = playing.play(Task(0, ONCE, twice=True))
    recovers = does in ("late", "twice")
    assert (result.outcome, result.problems) == ("recovered" if recovers else "guest-killed-required", [])
    assert not any(map(lives, pids(tmp_path)))


def test_a_program_that_dies_in_a_handler_costs_its_guest(tmp_path: Path) -> None:
    script(tmp_path, GREETING + "read -r call; exit 3")
    result = player(tmp_path, ONE + one_case(ERROR), on="one-nic").play(Task(0, ONCE, keep=True))
    assert result.outcome == "guest-killed-required"
    assert result.journal is not None
    assert b"BUG: ProgramError: ./driver.sh, called with 'error_detected normal 1', ended with exit" in result.journal
    assert b"Traceback" not in result.journal


# -- programs that never answer ----------------------------------------------------------------------
MUTE = f"""{GREETING}
read -r call; [ ${{hello##*mute=}} = 1 ] && {{ sleep 1000 & echo $! >>"$0.pids"; wait; }}; echo OK 2
{HANDLERS}"""


def test_a_program_that_never_answers_is_dead_after_its_case(tmp_path: Path) -> None:
    script(tmp_path, GREETING + "exec sleep 1000")
    playing = player(tmp_path, ONE + one_case(ERROR), on="one-nic")
    assert play_guarded(playing, Task(0, ONCE), 0.5).outcome is Outcome.HANG
    assert [lives(pid) for pid in pids(tmp_path)] == [False]


@pytest.mark.processes
def test_a_program_that_never_answers_is_a_hang_of_its_case_alone(tmp_path: Path) -> None:
    script(tmp_path, MUTE)
    driver = '{guest: net1, device: nic0, driver: "program:./driver.sh", options: {mute: $mute}}'
    text = f"drivers: [{driver}]\nfaults: {ERROR}\ncase_limit_s: 2\n"
    text += "explore: {matrix: {axes: {mute: [0, 1, 0, 1, 0]}, strata: [mute]}}\n"
    read(tmp_path, text, on="one-nic")
    command = [sys.executable, "-m", "xenaer", "campaign", "run", "case.yaml"]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "mute=0: 3 cases: recovered 3\n  mute=1: 2 cases: hang 2\n" in done.stdout
    assert all_end(tmp_path)


# -- guests ------------------------------------------------------------------------------------------
@pytest.fixture(name="started", params=["simulated", pytest.param("processes", marks=pytest.mark.processes)])
def fixture_started(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[XenHost]:
    """A host whose guest has a program as its driver, in either world."""
    path = script(tmp_path, GREETING + HANDLERS)
    with XenHost("one-nic", world=request.param, drivers={"nic0": f"program:{path}"}) as host:
        yield host


def test_a_program_ends_with_its_guest(started: XenHost, tmp_path: Path) -> None:
    assert started.inject("nic0", "CmpltTO") == "recovered"
    assert started.calls("net1")[0] == ("error_detected", "2")
    assert [lives(pid) for pid in pids(tmp_path)] == [True]
    started.xl("destroy", "net1")
    started.settle()
    assert all_end(tmp_path)


def test_a_program_ends_with_its_host(started: XenHost, tmp_path: Path) -> None:
    assert [lives(pid) for pid in pids(tmp_path)] == [True]
    started.close()
    assert all_end(tmp_path)


def test_a_guests_next_life_has_a_program_of_its_own(started: XenHost, tmp_path: Path) -> None:
    started.xl("reboot", "net1")
    begun = time.monotonic()
    while len(pids(tmp_path)) < 2 and time.monotonic() - begun < PATIENCE_S:
        started.system.advance(100)
    assert started.system.ctl("hypervisor", "wait-ready", [])
    assert started.inject("nic0", "CmpltTO") == "recovered"
    assert [lives(pid) for pid in pids(tmp_path)] == [False, True]


@pytest.mark.processes
def test_a_program_ends_with_a_guest_that_is_killed_from_outside(tmp_path: Path) -> None:
    path = script(tmp_path, 'sleep 1000 & echo $! >>"$0.pids"' + GREETING + HANDLERS)
    with XenHost("one-nic", world="processes", drivers={"nic0": f"program:{path}"}) as host:
        assert [lives(pid) for pid in pids(tmp_path)] == [True, True]
        host.system.signal("net1", "kill")
        assert all_end(tmp_path)


# -- files -------------------------------------------------------------------------------------------
def test_a_program_that_is_not_there_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ScriptError) as caught:
        read(tmp_path, ONE + one_case(ERROR), on="one-nic")
    (problem,) = caught.value.problems
    assert problem.startswith(
        f"{tmp_path}/case.yaml:3:11: drivers[0]: guest driver 'program:./driver.sh': there is no file"
    )
    assert "allowed: program:./FILE (beside the file that names it)" in problem


def test_a_program_that_lies_in_the_working_directory_is_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    script(tmp_path, GREETING + HANDLERS)
    monkeypatch.chdir(tmp_path)
    playing = player(tmp_path / "elsewhere", ONE + one_case(ERROR), on="one-nic")
    assert playing.play(Task(0, ONCE)).outcome == "recovered"


@pytest.mark.processes
def test_the_smallest_case_finds_its_program_from_its_own_folder(tmp_path: Path) -> None:
    script(tmp_path, GREETING + HANDLERS.replace("CAN_RECOVER", "DISCONNECT"))
    text = ONE + one_case(ERROR) + "expect: [{outcomes: [recovered]}]\n"
    read(tmp_path, text, on="one-nic")
    command = [sys.executable, "-m", "xenaer", "campaign", "run", "case.yaml"]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    assert subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False).returncode == 1
    (tmp_path / "found").mkdir()
    (run,) = (path for path in (tmp_path / "xenaer-runs").iterdir() if not path.is_symlink())
    found = shrink_case(run, "000000", tmp_path / "found" / "small.yaml")
    assert "program:./../driver.sh" in found.path.read_text()
    assert found.result.outcome == "guest-killed-required"
