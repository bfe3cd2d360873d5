"""Programs of the tests as guest drivers: shell scripts, bound to the device of a rig."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any

from domu_pcifront.driver import load_driver
from tests.domu_pcifront.drivers.rig import Rig

BOUND = 'read -r hello; echo "OK name=mine handlers=error_detected,slot_reset,resume"; read -r probe; echo OK\n'


def script(folder: Path, body: str, name: str = "driver.sh") -> Path:
    """Write an executable shell script."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def held() -> tuple[set[str], set[str]]:
    """Processes of which this one is the parent, ended ones that nobody has waited for among them; descriptors."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if path.read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                found.add(path.parent.name)
    return found, set(os.listdir("/proc/self/fd"))


class Bench:
    """A rig, and programs on it; all of them are gone after ``close``."""

    def __init__(self, folder: Path, model: str = "plain") -> None:
        self.folder = folder
        self.rig = Rig(model)
        self.world = self.rig.world

    def bind(self, command: str, **options: Any) -> Any:
        """Start a program that lies in the folder; the driver, probed."""
        cls = load_driver(f"program:{command}", str(self.folder))
        assert cls is not None
        return self.rig.bind(cls, **options)

    def script(self, body: str, **options: Any) -> Any:
        """The same for a script."""
        script(self.folder, body)
        return self.bind("./driver.sh", **options)

    def bound(self, body: str, **options: Any) -> Any:
        """The same for a script that has been greeted and probed when ``body`` begins."""
        return self.script(BOUND + body, **options)

    def close(self) -> None:
        """End what is left."""
        for program in self.rig.machine.programs:
            program.close()
