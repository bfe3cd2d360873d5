"""Files in a run directory that say that a system is running there."""

from __future__ import annotations

import shutil
from pathlib import Path


def system_file(run: Path) -> Path:
    """Where a running system says how to reach it."""
    return run / "system.json"


def clean(run: Path) -> None:
    """Remove everything that says that a system is running; journals and logs stay."""
    shutil.rmtree(run / "s", ignore_errors=True)
    for name in ("system.json", "ready"):
        (run / name).unlink(missing_ok=True)
