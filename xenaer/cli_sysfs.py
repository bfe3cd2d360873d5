"""Commands on dom0's sysfs tree: write it to a directory, read one file, write one."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from xenaer.cli_base import RunOption, StopError, connect, out, shipped
from xenaer.control import Control, run_dir
from xenaer.host import load_host
from xenaer.run_files import SYSFS

RESET_TIMEOUT_S = 100.0  # a device that does not come back is waited for 65 s (PCIE_RESET_READY_POLL_MS)

PathArgument = Annotated[str, typer.Argument(help="file in the tree, as below /sys: bus/pci/devices/...")]
Ask = Callable[[str, list[Any]], Any]


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    for command in (sysfs, sysfs_read, sysfs_write):
        app.command(command.__name__.replace("_", "-"))(command)


def sysfs(
    directory: Annotated[Path | None, typer.Argument(help="where to; without it, sysfs in the run directory")] = None,
    once: Annotated[bool, typer.Option("--once", help="write it as it is now, and leave it so")] = False,
    host: Annotated[str | None, typer.Option("--host", help="of a freshly booted host, without a system")] = None,
    run: RunOption = None,
) -> None:
    """Write dom0's sysfs tree to a directory and keep it current while the system runs."""
    target = (directory or run_dir(run) / SYSFS).absolute()
    if host is not None:
        count = _write_host(target, shipped("hosts", host))
    else:
        with connect(run) as control:
            count = _write_once(target, _ask(control)) if once else _mount(target, control)
    out(f"{target}: {count} files and links{'' if once or host else ', kept current until the system ends'}")


def sysfs_read(path: PathArgument, run: RunOption = None) -> None:
    """Print one file of dom0's sysfs."""
    with connect(run) as control:
        data = control.ctl("dom0", "sysfs-read", [path])
    if isinstance(data, int):
        raise StopError(f"{path}: {os.strerror(-data).lower()}", 1)
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


def sysfs_write(
    path: PathArgument,
    value: Annotated[str, typer.Argument(help="what to write, as echo would")],
    run: RunOption = None,
) -> None:
    """Write one file of dom0's sysfs; exit status 1 and the errno's text if the kernel refuses."""
    if any("\ud800" <= char <= "\udfff" for char in path + value):  # what Python makes of other bytes
        raise StopError(f"{value!a}: not a text (UTF-8); write binary data into a file below xenaer sysfs DIR")
    with connect(run) as control:
        result = control.ctl("dom0", "sysfs-write", [path, value], timeout_s=RESET_TIMEOUT_S)
    if result < 0:
        name = errno.errorcode.get(-result, str(-result))
        raise StopError(f"{path}: write error: {os.strerror(-result).lower()} ({name})", 1)


def _ask(control: Control) -> Ask:
    return lambda verb, args: control.ctl("dom0", verb, args)


def _mount(target: Path, control: Control) -> int:
    """dom0 writes the tree; whether it did so here can only be seen."""
    count: int = control.ctl("dom0", "sysfs-mount", [str(target)])
    if not (target / "bus" / "pci").is_dir():
        raise StopError(
            f"dom0 has written {target} where it cannot be seen from here; in containers it must be in the volume "
            f"that all of them share, as the run directory is, or use --once"
        )
    return count


def _write_host(target: Path, file: Path) -> int:
    from xenaer.simulation import SimSystem  # noqa: PLC0415 - loads all roles

    system = SimSystem(load_host(file))
    try:
        return _write_once(target, lambda verb, args: system.ctl("dom0", verb, args))
    finally:
        system.close()


def _write_once(target: Path, ask: Ask) -> int:
    from dom0_pciback.sysfs_files import TreeError, TreeFiles  # noqa: PLC0415

    try:
        files = TreeFiles(target)
    except TreeError as error:
        raise StopError(str(error)) from None
    try:
        files.update(_entries(ask))
    except OSError as error:
        raise StopError(f"{target}: {(error.strerror or str(error)).lower()}", 1) from None
    finally:
        files.close()
    return len(files.written)


def _entries(ask: Ask) -> Iterator[tuple[str, int, bytes]]:
    """The whole tree, page by page."""
    start = 0
    while True:
        start, entries = ask("sysfs", [start])
        yield from ((path, mode, content) for path, mode, content in entries)
        if not start:
            return
