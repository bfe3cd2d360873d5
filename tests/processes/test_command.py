"""The command on real processes: the demonstration, and every mistake as one line with exit status 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes.running import TRANSPORTS, assert_nothing_left, processes_of, run_directory
from xenaer.boot import ROOT
from xenaer.control import TIMEOUT_S
from xenaer.journal import read_lines

pytestmark = pytest.mark.processes


def xenaer(*words: str, run: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would, piped."""
    environment = os.environ | ({"XENAER_RUN": str(run)} if run else {}) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "xenaer", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refused command."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("xenaer: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_demo_plays_the_letter_and_writes_the_journal(tmp_path: Path) -> None:
    journal = tmp_path / "demo.jsonl"
    result = xenaer("demo", "--journal", str(journal))
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stdout
    for text in (
        "dom0  ── error_detected ", "driver: mmio_enabled → RECOVERED", "✔ recovered: 01:00.0 nic0",
        "bad is killed (policy destroy)", "✘ not recovered: 02:00.0 nic1", "26 of 26 steps as expected",
    ):  # fmt: skip
        assert text in result.stdout
    items = list(read_lines(journal))
    assert {"hypervisor", "dom0", "good", "bad", "fresh"} <= {item["party"] for item in items}
    outcomes = [(item["subject"], item["outcome"]) for item in items if item["label"] == "recovery.outcome"]
    assert outcomes == [
        ("0000:01:00.0", "recovered"), ("0000:02:00.0", "killed"), ("0000:02:00.0", "recovered"),
    ]  # fmt: skip


def test_run_of_a_campaign_reports_every_step() -> None:
    result = xenaer("run", "2008-letter")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "26 of 26 steps as expected" in result.stdout


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_up_status_xl_touch_dmesg_and_down(transport: str) -> None:
    with run_directory() as run:
        assert xenaer("up", "one-nic", "--transport", transport, run=run).returncode == 0
        try:
            assert "net1" in xenaer("xl", "list", run=run).stdout
            assert xenaer("touch", "01:00.0", run=run).returncode == 0
            again = one_line(xenaer("up", "one-nic", run=run))
            assert "running" in again
            assert str(run) in again
            assert "AER: device recovery successful" in xenaer("dmesg", run=run).stdout
        finally:
            assert xenaer("down", run=run).returncode == 0
        assert_nothing_left(run)
        assert "no system is running" in one_line(xenaer("down", run=run))


def test_a_run_directory_whose_path_is_too_long_is_refused(tmp_path: Path) -> None:
    text = one_line(xenaer("up", "one-nic", run=tmp_path / ("x" * 100)))
    assert "bytes long" in text
    assert not (tmp_path / ("x" * 100)).exists()


def test_a_run_directory_that_is_a_file_is_refused() -> None:
    with run_directory() as folder:
        file = folder / "f"
        file.write_text("")
        assert "run directory" in one_line(xenaer("up", "one-nic", run=file))


def test_a_missing_dependency_is_named() -> None:
    command = [sys.executable, "-S", "-m", "xenaer", "status"]  # -S: nothing that pip has installed
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert "the Python package 'typer' is missing" in one_line(result)


def test_the_run_directory_of_a_killed_system_is_taken_over() -> None:
    with run_directory() as run:
        assert xenaer("up", "one-nic", run=run).returncode == 0
        os.kill(json.loads((run / "system.json").read_text())["pid"], signal.SIGKILL)
        assert xenaer("up", "one-nic", run=run).returncode == 0
        assert "net1" in xenaer("xl", "list", run=run).stdout
        assert xenaer("down", run=run).returncode == 0
        assert_nothing_left(run)


def foreground(run: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "xenaer", "up", "one-nic", "--run", str(run), "--foreground"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_up_in_the_foreground_ends_in_order_with_sigterm() -> None:
    with run_directory() as run, foreground(run) as process:
        assert process.stdout is not None
        assert "is up" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "stopping\n"
        assert process.wait(30) == 0
        assert_nothing_left(run)


def test_sigterm_while_it_starts_leaves_nothing() -> None:
    with run_directory() as run, foreground(run) as process:
        while not catches(process.pid, signal.SIGTERM):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.wait(30) == 130, said
        assert "is up" not in said
        assert_nothing_left(run)


def test_a_command_finds_out_at_once_that_the_system_was_killed() -> None:
    with run_directory() as run:
        assert xenaer("up", "one-nic", run=run).returncode == 0
        os.kill(json.loads((run / "system.json").read_text())["pid"], signal.SIGKILL)
        while processes_of(run):
            time.sleep(0.02)
        begin = time.monotonic()
        assert "has ended; start one with: xenaer up" in one_line(xenaer("status", run=run))
        assert time.monotonic() - begin < TIMEOUT_S / 2
        assert "Linux version" in xenaer("dmesg", run=run).stdout, "what it said before can be read"


def catches(pid: int, number: signal.Signals) -> bool:
    """The process has a handler of its own for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> number - 1 & 1)


OWN_CAMPAIGN = """
name: own
host: own.yaml
steps:
  - wait: {connected: net1}
  - inject: {device: nic0, errors: [MalfTLP]}
  - expect: {verdict: {device: nic0, outcome: recovered}, within_s: 30}
  - expect: {log: {line: running again, party: net1}, within_s: 10}
"""


@pytest.mark.parametrize("world", ["processes", "simulated"])
def test_the_driver_of_the_readme_works_from_a_folder_of_its_own(tmp_path: Path, world: str) -> None:
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "mymodule.py").write_text(readme.split("```python\n")[1].split("```")[0])
    host = (ROOT / "hosts" / "one-nic.yaml").read_text()
    (tmp_path / "own.yaml").write_text(host.replace("driver: xnic", "driver: mymodule:MyDriver"))
    (tmp_path / "s.yaml").write_text(OWN_CAMPAIGN)
    command = [sys.executable, "-m", "xenaer", "run", "s.yaml", "--world", world]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}."}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 of 4 steps as expected" in result.stdout
