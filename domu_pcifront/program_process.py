"""An external program as a guest's driver: where it is found, its process, and lines through two pipes."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from domu_pcifront.program_wire import FORMS, SHOWN, ProgramGoneError, too_long, words_of
from protocol.limits import PROGRAM_LINE
from protocol.parent_death import die_with_parent

CHUNK = 1 << 16
END_MS = 1_000  # how long a program may take to end once its input or its output is closed


def find_program(name: str, folder: str) -> tuple[str, ...]:
    """Words of the command in a driver's name (``program:COMMAND``), found in ``folder`` or on ``PATH``.

    Raises ValueError that says what is wrong and what is allowed.
    """
    words = words_of(name)
    problem = _in_folder(Path(folder), words[0]) if os.sep in words[0] else _on_path(words[0])
    if problem:
        raise ValueError(f"guest driver {name!r}: {problem}; allowed: {FORMS}")
    return tuple(words)


def _in_folder(folder: Path, word: str) -> str:
    path = folder / word
    if not path.is_file():
        return f"there is no file {path}"
    return "" if os.access(path, os.X_OK) else f"{path} is not executable"


def _on_path(word: str) -> str:
    return "" if shutil.which(word) else f"there is no program {word!r} on PATH"


class ProgramProcess:
    """``program_wire.Program``: a child of this process that ends with it, and before it by ``close``.

    ``own_group``: whatever it starts itself ends with ``close`` too; else its group is that of this process.
    """

    def __init__(self, words: Sequence[str], folder: str, *, own_group: bool = False) -> None:
        """Start it in ``folder``. Raises ProgramGoneError."""
        try:
            self._process = subprocess.Popen(
                words, cwd=folder or None, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - takes no lock
                process_group=0 if own_group else None,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ProgramGoneError(f"cannot be started: {reason.lower()}") from None
        self._own_group = own_group
        self._closed = False
        self._unread = bytearray()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._pidfd = os.pidfd_open(self._process.pid)

    @property
    def pid(self) -> int:
        """Its process id, 0 once it is gone."""
        return 0 if self._closed else self._process.pid

    def exchange(self, line: str) -> str:
        """Say a line and wait for one. Raises ProgramGoneError: it has ended, or says too much at once."""
        if self._closed:
            raise ProgramGoneError("has been ended")
        try:
            data = memoryview(f"{line}\n".encode())
            while data:
                data = data[os.write(self._in, data) :]
        except BrokenPipeError:
            raise ProgramGoneError(self._its_end("input")) from None
        return self._line()

    def _line(self) -> str:
        unread = self._unread
        while (end := unread.find(b"\n")) < 0 and len(unread) <= PROGRAM_LINE:
            chunk = self._read()
            if not chunk:
                raise ProgramGoneError(self._its_end("output"))
            unread += chunk
        if not 0 <= end <= PROGRAM_LINE:
            raise ProgramGoneError(too_long(unread[: SHOWN + 1].decode(errors="backslashreplace")))
        line = unread[:end].decode(errors="backslashreplace")
        del unread[: end + 1]
        return line

    def _read(self) -> bytes:
        """Some of its output; nothing if it has ended, even if somebody else still holds its pipe."""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        ready = dict(poll.poll())
        if self._out not in ready:  # what it wrote just before its end has come by now
            poll.unregister(self._pidfd)
            ready = dict(poll.poll(0))
        return os.read(self._out, CHUNK) if self._out in ready else b""

    def _its_end(self, pipe: str) -> str:
        """How it ended, in words; it is gone afterwards."""
        ended = self._ends()
        self.close()
        status = self._process.returncode
        if not ended:
            return f"has closed its standard {pipe}"
        if status >= 0:
            return f"ended with exit status {status}"
        return f"was killed by signal {-status} ({signal.strsignal(-status)})"

    def _ends(self) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(END_MS))

    def leave(self) -> None:
        """It is not needed any more: its input ends, it has a moment to end by itself."""
        if not self._closed:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._ends()
            self.close()

    def close(self) -> None:
        """SIGKILL; nothing of it is left. A second time it does nothing."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(ProcessLookupError):
            if self._own_group:
                os.killpg(self._process.pid, signal.SIGKILL)  # nobody has reaped it: the number is still its own
            else:
                os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        os.close(self._pidfd)
