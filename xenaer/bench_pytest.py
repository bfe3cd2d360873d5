"""What pytest adds to a simulated case, for ``xenaer bench``: a test per case against the engine alone."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from xenaer.boot import activate, data_dir

ROUNDS = 3
FEW, MANY = 100, 1_100  # cases of two files; the difference leaves out what pytest takes to start

Figures = dict[str, Any]

TEXT = """\
name: bench
host: {host}
faults:
  - inject: {{device: $device, errors: [CmpltTO]}}
explore:
  matrix:
    axes: {{device: [nic0, nic1]}}
    seeds: {seeds}
"""


def pytest_cost() -> dict[str, Figures]:
    """Milliseconds of processor time that a case costs as a test, above what it costs the engine."""
    if find_spec("pytest") is None:
        sys.stderr.write("pytest_case_ms is not measured: pytest is not installed\n")
        return {}
    above = []
    with tempfile.TemporaryDirectory(prefix="xb-", ignore_cleanup_errors=True) as folder:
        few, many = (_file(Path(folder), cases) for cases in (FEW, MANY))
        for _ in range(ROUNDS):
            tests_ms = (_as_tests(many) - _as_tests(few)) * 1000 / (MANY - FEW)
            above.append(tests_ms - (_by_engine(many) - _by_engine(few)) * 1000 / (MANY - FEW))
    return {"pytest_case_ms": {"p50": median(above), "p99": max(above), "n": ROUNDS * (MANY - FEW)}}


def _file(folder: Path, cases: int) -> Path:
    path = folder / f"n{cases}.campaign.yaml"
    path.write_text(TEXT.format(host=data_dir("hosts") / "pair.yaml", seeds=cases // 2))
    return path


def _as_tests(path: Path) -> float:
    """Processor seconds of pytest with a test for each case."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--xenaer-cases", str(MANY), str(path)]
    begin = _children()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=activate(), timeout=600)
    return _children() - begin


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _by_engine(path: Path) -> float:
    """Processor seconds of the same cases without pytest."""
    from xenaer.pytest_items import Loaded  # noqa: PLC0415 - needs pytest

    loaded = Loaded(path, None, None)
    begin = time.process_time()
    played = loaded.played
    assert not played.failed, played.failed[0].problems
    return time.process_time() - begin
