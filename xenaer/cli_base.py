"""What the commands share: options, the way to a running system, the names of shipped files."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xenaer.boot import data_dir
from xenaer.control import Control, read_system, run_dir
from xenaer.yaml_lines import closest

RunOption = Annotated[
    Path | None,
    typer.Option("--run", help="run directory [default: $XENAER_RUN, else one per user]", show_default=False),
]


class World(StrEnum):
    """Where a script runs."""

    PROCESSES = "processes"
    SIMULATED = "simulated"


class StopError(Exception):
    """Ends the command with one line of text and an exit status."""

    def __init__(self, text: str, status: int = 2) -> None:
        super().__init__(text)
        self.status = status


def out(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(text + "\n")


def shipped(kind: str, text: str) -> Path:
    """A file given by path, or by the name of a shipped one (``kind``: hosts, campaigns)."""
    path = Path(text)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    folder = data_dir(kind)
    found = folder / f"{text}.yaml"
    if found.exists():
        return found
    names = sorted(file.stem for file in folder.glob("*.yaml"))
    raise StopError(f"no file {text!r} and no shipped one of that name in {kind}; {closest(text, names)}")


def connect(run: Path | None) -> Control:
    """A connection to the system that runs in ``run``. Raises ControlError, NoSystemError."""
    return Control(read_system(run_dir(run)).address, run=run_dir(run))


def parse_header(text: str) -> list[int]:
    """Four 32-bit numbers, separated by blanks or commas, C notation. Raises StopError."""
    words = re.split(r"[\s,]+", text.strip())
    try:
        numbers = [int(word, 0) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or any(not 0 <= number <= 0xFFFFFFFF for number in numbers):
        raise StopError(f"--header {text!r}: expected four 32-bit numbers, e.g. '0x4a000001 0x0100000c 0 0'")
    return numbers
