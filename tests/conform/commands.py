"""``xenaer conform`` called as a person calls it, and copies of recorded cases that differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xenaer.cli import main


def copy(case: Path, tmp_path: Path, **changes: Any) -> Path:
    """A copy of a case with other values; None takes a key away."""
    data = json.loads(case.read_text(encoding="utf-8")) | changes
    path = tmp_path / "case.json"
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}), encoding="utf-8")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str], list[str]]:
    """Exit status, output and errors by line."""
    status = main(["conform", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out.splitlines(), captured.err.splitlines()
