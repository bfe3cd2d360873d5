"""The console entry: makes the role packages importable, then runs the operator's command.

In a checkout they lie beside this package; in the wheel they are inside it (``xenaer/_app``), so that
nothing called ``protocol`` lands in a user's site-packages. Both are done for our own processes only.
"""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE / "_app" if (PACKAGE / "_app").is_dir() else PACKAGE.parent  # where the role packages are

OURS = ("protocol", "kernel_stub", "hypervisor_stub", "dom0_pciback", "domu_pcifront", "xenaer")


def activate() -> Path:
    """Put the folder of the role packages first on ``sys.path``; returns it."""
    if str(ROOT) not in sys.path[:1]:
        sys.path.insert(0, str(ROOT))
    return ROOT


def data_dir(name: str) -> Path:
    """The folder of shipped files called ``name`` (``hosts``, ``campaigns``)."""
    packed = PACKAGE / "_data" / name
    return packed if packed.is_dir() else PACKAGE.parent / name


def main() -> None:
    """``xenaer``: run the command line and exit with its status."""
    activate()
    try:
        from xenaer.cli import main as run  # noqa: PLC0415 (sys.path comes first)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in OURS:
            raise
        sys.stderr.write(
            f"xenaer: the Python package {error.name!r} is missing; in the project's folder: pip install .\n"
        )
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
