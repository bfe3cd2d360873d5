"""Drivers of users: found beside the host or campaign file that names them, in this process and in those it starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from domu_pcifront.program_wire import PREFIX, words_of


def folder_of(driver: str, beside: Path) -> str:
    """Where a program that is a driver is started: the folder of the file that names it, or the working directory if it
    is there alone; "" for other drivers."""
    if not driver.startswith(PREFIX):
        return ""
    try:
        word = words_of(driver)[0]
    except ValueError:
        word = ""  # whoever looks for the program says what is wrong
    only_here = os.sep in word and not (beside / word).exists() and Path(word).exists()
    return str(Path.cwd() if only_here else beside.resolve())


def search_beside(path: Path) -> None:
    """Let ``module:Class`` be found in the folder of ``path`` and in the working directory, after everything else."""
    for folder in (str(path.resolve().parent), str(Path.cwd())):
        if folder not in sys.path:
            sys.path.append(folder)
        known = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
        if folder not in known:
            os.environ["PYTHONPATH"] = os.pathsep.join([*known, folder])
