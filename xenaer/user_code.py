"""Drivers of users: found beside the host or campaign file that names them, in this process and in those it starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def search_beside(path: Path) -> None:
    """Let ``module:Class`` be found in the folder of ``path`` and in the working directory, after everything else."""
    for folder in (str(path.resolve().parent), str(Path.cwd())):
        if folder not in sys.path:
            sys.path.append(folder)
        known = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
        if folder not in known:
            os.environ["PYTHONPATH"] = os.pathsep.join([*known, folder])
