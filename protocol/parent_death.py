"""How a process ends with the one that started it (Linux ``prctl``), and who takes what is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ROUNDS = 50  # who is killed may have started another one just before
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel SIGKILL this process when its parent, process ``parent``, ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be asked to tell us
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of whatever this process's children leave behind (Linux ``prctl``)."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def kill_session(leader: int) -> None:
    """SIGKILL what is left of the session of ``leader``, which has ended and for which nobody has waited yet: else its
    number might be another's."""
    for _ in range(ROUNDS):
        left = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _lives_in(pid, leader)]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _lives_in(pid: int, session: int) -> bool:
    try:
        state, _, _, found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return False
    return state != "Z" and int(found) == session
