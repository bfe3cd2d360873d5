"""A sysfs tree as plain files in a directory, written so that a reader never sees half a file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from dom0_pciback.sysfs.control import Entry

OURS = ".xenaer-sysfs"  # says whose directory it is; fresh files begin their life in it
TOPS = ("devices", "bus")
READ_MAX = 4096  # a page: more than that no attribute takes


class TreeError(ValueError):
    """The directory cannot be used; the text says why and what is allowed."""


class TreeFiles:
    """The tree in ``root``. Remembers what it wrote, writes only what differs. Methods raise OSError."""

    def __init__(self, root: Path) -> None:
        """Take ``root``: one that is not there, is empty, or holds an earlier tree, which is removed.

        Raises TreeError for any other, and for one that a running system keeps current.
        """
        self.root = root
        self.written: dict[str, tuple[int, bytes]] = {}
        self._folders: set[Path] = set()
        try:
            self._take()
        except OSError as error:
            raise TreeError(f"{root}: {(error.strerror or str(error)).lower()}") from None

    def _take(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        if any(self.root.iterdir()) and not (self.root / OURS).is_dir():
            raise TreeError(f"{self.root} is not empty and holds no sysfs tree of xenaer; choose another directory")
        (self.root / OURS).mkdir(exist_ok=True)
        self._lock = os.open(self.root / OURS / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise TreeError(f"{self.root} is kept current by a running system; choose another directory") from None
        for name in TOPS:
            shutil.rmtree(self.root / name, ignore_errors=True)

    def close(self) -> None:
        """Give the directory up; the tree stays as it is."""
        os.close(self._lock)

    def check(self) -> None:
        """Raise FileNotFoundError if somebody has taken the directory away."""
        os.stat(self.root / OURS)

    def update(self, entries: Iterable[Entry]) -> list[str]:
        """Write what is new or differs; the paths of it."""
        changed = [(path, mode, content) for path, mode, content in entries if self._differs(path, mode, content)]
        for path, mode, content in changed:
            self.put(path, mode, content)
        return [path for path, _, _ in changed]

    def _differs(self, path: str, mode: int, content: bytes) -> bool:
        return self.written.get(path) != (mode, content)

    def put(self, path: str, mode: int, content: bytes) -> None:
        """Write one file or link, whatever is there."""
        place, fresh = self.root / path, self.root / OURS / "new"
        self._make_folder(place.parent)
        fresh.unlink(missing_ok=True)
        if stat.S_ISLNK(mode):
            fresh.symlink_to(content.decode())
        else:
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, content)
                os.fchmod(fd, stat.S_IMODE(mode))
            finally:
                os.close(fd)
        fresh.rename(place)
        self.written[path] = mode, content

    def _make_folder(self, folder: Path) -> None:
        if folder not in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)

    def remove(self, paths: Iterable[str]) -> None:
        """Take files away, and directories that are empty then."""
        for path in paths:
            self.written.pop(path, None)
            place = self.root / path
            place.unlink(missing_ok=True)
            for folder in place.parents:
                if folder == self.root:
                    break
                self._folders.discard(folder)
                with contextlib.suppress(OSError):  # others are still in it
                    folder.rmdir()
                    continue
                break

    def content(self, path: str) -> bytes:
        """What somebody has left in a file, also in one that its owner may not read."""
        place = self.root / path
        mode = stat.S_IMODE(self.written[path][0])
        hidden = not mode & stat.S_IRUSR
        if hidden:
            place.chmod(mode | stat.S_IRUSR)
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if hidden:
                os.fchmod(fd, mode)
            return os.read(fd, READ_MAX)
        finally:
            os.close(fd)
