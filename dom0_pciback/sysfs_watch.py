"""Who has written to a file of a mounted tree: inotify, so that neither waiting nor polling costs anything."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

IN_CLOSE_WRITE = 0x8
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000
EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
BUFFER = 1 << 16

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, place: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        reason = "too many inotify watches" if number == errno.ENOSPC else os.strerror(number)
        raise OSError(number, reason, place)
    return result


class Watch:
    """Tells of every file in watched directories that was closed by somebody who could write to it.

    The writer's whole write is in the file by then; files that are renamed into a directory are not told of.
    """

    def __init__(self, root: Path, told: Callable[[str], None]) -> None:
        self.root = root
        self.told = told
        self.fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")
        self._folders: dict[int, str] = {}

    def add(self, folders: Iterable[str]) -> None:
        """Watch directories, given from the root of the tree; a second time changes nothing. Raises OSError."""
        for folder in folders:
            place = str(self.root / folder)
            number = _checked(_libc.inotify_add_watch(self.fd, place.encode(), IN_CLOSE_WRITE | IN_ONLYDIR), place)
            self._folders[number] = folder

    def read(self) -> None:
        """Take what has been told; called when ``fd`` is readable."""
        try:
            data, position = os.read(self.fd, BUFFER), 0
        except BlockingIOError:
            return
        while position < len(data):
            number, mask, _, length = EVENT.unpack_from(data, position)
            position += EVENT.size
            name = data[position : position + length].rstrip(b"\0").decode("utf-8", "replace")
            position += length
            if mask & IN_IGNORED:  # the directory is gone
                self._folders.pop(number, None)
            elif number in self._folders and name:
                self.told(f"{self._folders[number]}/{name}")

    def close(self) -> None:
        """Watch no more."""
        os.close(self.fd)
