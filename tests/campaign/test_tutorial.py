"""The tutorial is true: its files are written, its commands are run, and they print what stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenaer.boot import PACKAGE

pytestmark = pytest.mark.processes

TUTORIAL = PACKAGE.parent / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
STATUS = re.compile(r"\[exit status (\d+)\]")
PROGRAMS = {"xenaer": [sys.executable, "-m", "xenaer"], "pytest": [sys.executable, "-m", "pytest"]}


def commands(text: str) -> Iterator[tuple[str, list[str], int]]:
    """Command, the lines that it has to print, its exit status."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines()
        status = next((int(found[1]) for line in lines if (found := STATUS.fullmatch(line))), 0)
        yield command, [line for line in lines if not STATUS.fullmatch(line)], status


def missing(lines: list[str], printed: list[str]) -> str:
    """The first line that was not printed after the ones before it; "" if all were. A line ``...`` skips any."""
    at, skips = 0, False
    for line in lines:
        if line == "...":
            skips = True
            continue
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in line.split("...")))
        places = [n for n in range(at, len(printed)) if pattern.fullmatch(printed[n].strip())]
        if not places or not (skips or places[0] == at):
            return line
        at, skips = places[0] + 1, False
    return ""


def test_the_tutorial_is_true(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "COLUMNS": "200"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    played = 0
    for kind, name, text in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")):
        if name:
            (tmp_path / name).write_text(text, encoding="utf-8")
            continue
        assert kind == "console"
        for command, lines, status in commands(text):
            program, *words = command.split()
            argv = [*PROGRAMS[program], *words]
            done = subprocess.run(
                argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
            )
            shown = done.stdout + done.stderr
            assert done.returncode == status, f"$ {command}\n{shown}"
            assert not missing(lines, done.stdout.splitlines()), (missing(lines, done.stdout.splitlines()), shown)
            played += 1
    assert played >= 6


def test_missing_finds_what_is_missing() -> None:
    """The comparison itself: order counts, and only ``...`` skips lines."""
    assert not missing(["a", "...", "c ... d"], ["a", "b", "c x d"])
    assert missing(["a", "c ... d"], ["a", "b", "c x d"]) == "c ... d"
    assert missing(["...", "c", "a"], ["a", "b", "c"]) == "a"
