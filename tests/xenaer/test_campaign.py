"""The campaign of the letter, whole, in virtual time; and what ``run`` and ``demo`` make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenaer.boot import data_dir
from xenaer.campaign.file import load_script
from xenaer.campaign.steps.play import Runner
from xenaer.cli import main
from xenaer.cli_base import World
from xenaer.cli_script import system_for
from xenaer.journal import read_lines


def test_the_letter_holds_in_virtual_time() -> None:
    script = load_script(data_dir("campaigns") / "2008-letter.yaml")
    with system_for(script, World.SIMULATED) as system:
        runner = Runner(system, script)
        good = runner.run()
    assert good, [result.line() for result in runner.results if not result.good]
    assert len(runner.results) == len(script.steps)


def test_run_writes_the_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "run.jsonl"
    assert main(["run", "2008-letter", "--world", "simulated", "--journal", str(journal)]) == 0
    assert "26 of 26 steps as expected" in capsys.readouterr().out
    entries = list(read_lines(journal))
    assert [item["outcome"] for item in entries if item["label"] == "recovery.outcome"] == [
        "recovered", "killed", "recovered"
    ]  # fmt: skip
    assert [item["t"] for item in entries] == sorted(item["t"] for item in entries)


def test_a_failed_expectation_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "script.yaml"
    script.write_text(
        f"name: wrong\nhost: {data_dir('hosts') / 'one-nic.yaml'}\nsteps:\n"
        "  - expect: {guest: {guest: net1, state: paused}, within_s: 1}\n"
        "  - pause: {guest: net1}\n"
        "  - expect: {guest: {guest: net1, state: paused}, within_s: 1}\n"
    )
    assert main(["run", str(script), "--world", "simulated"]) == 1
    out = capsys.readouterr().out
    assert "FAIL" in out
    assert "wrong: FAILED, 2 of 3 steps as expected" in out


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "demo.jsonl"
    assert main(["demo", "--world", "simulated", "--journal", str(journal)]) == 0
    out = capsys.readouterr().out
    assert out.count("✔ recovered") == 2
    assert "☠ bad is killed" in out
    assert max(len(line) for line in out.replace(str(journal), "").splitlines()) <= 100
    assert journal.stat().st_size > 0


def test_journal_into_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "2008-letter", "--world", "simulated", "--journal", "nowhere/x.jsonl"]) == 2
    assert capsys.readouterr().err == "xenaer: --journal nowhere/x.jsonl: there is no folder nowhere\n"
