"""Files in a run directory that say that a system is running there.

``lock`` is held (``flock``) by the launcher and, since locks are inherited by ``fork``, by every process of the
system: it is free exactly when nothing of the system is left, however it ended.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

from protocol.transport_keys import FOLDER

LOCK_POLL_S = 0.005
SYSFS = "sysfs"  # directory for dom0's sysfs tree, unless another one is asked for
FAULT = "fault"  # in the launcher's log: "<process>: fault: <what happened>"


def system_file(run: Path) -> Path:
    """Where a running system says how to reach it."""
    return run / "system.json"


def take_lock(run: Path, seconds: float = 0.0) -> int | None:
    """File descriptor that holds the lock of ``run``; None if a system holds it for ``seconds`` on. Raises OSError."""
    fd = os.open(run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(LOCK_POLL_S)
        else:
            return fd


def all_ended(run: Path, seconds: float = 0.0) -> bool:
    """No process of a system in ``run`` is left, or none is after ``seconds`` at most."""
    if not (run / "lock").exists():
        return True
    fd = take_lock(run, seconds)
    if fd is None:
        return False
    os.close(fd)
    return True


def clean(run: Path) -> None:
    """Remove everything that says that a system is running; journals and logs stay."""
    for name in ("s", "xenstored", FOLDER):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in ("system.json", "ready"):
        (run / name).unlink(missing_ok=True)
