"""Drivers of users: found beside the host or campaign file that names them, in this process and in those it starts.

A module is found on a path that all of them share, a program in the folder that goes with its name.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

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


def with_programs_at(data: Any, beside: Path, target: Path) -> Any:
    """What a file in the folder ``beside`` says, for one in ``target``: from there it finds the same programs."""
    if isinstance(data, list):
        return [with_programs_at(item, beside, target) for item in data]
    if not isinstance(data, dict):
        return data
    moved = {key: with_programs_at(value, beside, target) for key, value in data.items()}
    driver = moved.get("driver")
    if isinstance(driver, str) and driver.startswith(PREFIX):
        word, *rest = words_of(driver)
        if os.sep in word and not os.path.isabs(word):
            path = os.path.relpath(Path(folder_of(driver, beside), word), target.resolve())
            moved["driver"] = PREFIX + shlex.join([os.path.join(os.curdir, path), *rest])
    return moved


def search_beside(path: Path) -> None:
    """Let ``module:Class`` be found in the folder of ``path`` and in the working directory, after everything else."""
    for folder in (str(path.resolve().parent), str(Path.cwd())):
        if folder not in sys.path:
            sys.path.append(folder)
        known = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
        if folder not in known:
            os.environ["PYTHONPATH"] = os.pathsep.join([*known, folder])
