"""A directory that dom0 keeps like its sysfs: changes become files, files that somebody writes become stores."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from posixpath import dirname

from dom0_pciback.sysfs.control import entry
from dom0_pciback.sysfs.sysfs import Sysfs
from dom0_pciback.sysfs_files import TreeError, TreeFiles
from dom0_pciback.sysfs_watch import Watch
from kernel_stub.kernel import MS, Kernel
from protocol.transport_loop import Loop

PERIOD_NS = 100 * MS  # how old a file may be
UNRECORDED = 10  # periods after which it is looked for what leaves no record: configuration writes of a guest
PAUSE_NS = MS // 5  # between two functions: others come first
WRITABLE = 0o222
CONFIG = "config"


class Mounts:
    """All directories that dom0 keeps current. ``recorded`` grows with every record of dom0's journal."""

    def __init__(self, loop: Loop, kernel: Kernel, recorded: Callable[[], int]) -> None:
        self._loop = loop
        self._kernel = kernel
        self._recorded = recorded
        self._mounts: dict[Path, MountedTree] = {}

    async def mount(self, sysfs: Sysfs, directory: str) -> int:
        """Write the tree to ``directory`` and keep it current; how many files and links. Raises ValueError."""
        root = Path(directory)
        if not root.is_absolute():
            raise TreeError(f"sysfs-mount: {directory!r} is not an absolute path")
        tree = self._mounts.get(root)
        if tree is None or not await tree.try_refresh():
            tree = self._mounts[root] = MountedTree(self._loop, self._kernel, sysfs, root)
            try:
                await tree.refresh()
            except OSError as error:
                tree.end()
                raise TreeError(f"{root}: {(error.strerror or str(error)).lower()}") from None
            self._kernel.spawn(tree.keep(self._recorded), f"sysfs {root}")
        return len(tree.files.written)


class MountedTree:
    """One directory. ``alive`` until it cannot be written any more. Raises TreeError if it cannot be used."""

    def __init__(self, loop: Loop, kernel: Kernel, sysfs: Sysfs, root: Path) -> None:
        self.alive = True
        self.files = TreeFiles(root)
        self._loop = loop
        self._kernel = kernel
        self._sysfs = sysfs
        self._sections: dict[str, set[str]] = {}
        self._stores: set[str] = set()
        try:
            self._watch = Watch(root, self._told)
        except OSError as error:
            self.files.close()
            raise TreeError(f"{root}: it cannot be watched: {(error.strerror or str(error)).lower()}") from None
        loop.add_reader(self._watch.fd, self._watch.read)

    def end(self) -> None:
        """Keep the directory no more; what is in it stays. A second time it does nothing."""
        if not self.alive:
            return
        self.alive = False
        self._loop.remove_reader(self._watch.fd)
        self._watch.close()
        self.files.close()

    # -- from the kernel to the files --------------------------------------------------------------
    async def keep(self, recorded: Callable[[], int]) -> None:
        """The task: once in a period everything that has changed is written, if anything can have changed."""
        idle, seen = 0, -1
        while self.alive:
            await self._kernel.sleep(PERIOD_NS)
            idle = idle + 1 if recorded() == seen else UNRECORDED
            if idle >= UNRECORDED:
                idle, seen = 0, recorded()
                await self.try_refresh()

    async def try_refresh(self) -> bool:
        """``refresh``; a directory that cannot be written is given up, with a line that says so, and False."""
        try:
            if self.alive:
                await self.refresh()
        except OSError as error:
            if self.alive:
                _complain(f"{self.files.root} is no longer kept current: {error.filename}", error)
            self.end()
        return self.alive

    async def refresh(self) -> None:
        """Bring every file up to date, one function after the other with time for others between. Raises OSError."""
        self.files.check()
        names = self._sysfs.sections()
        for gone in set(self._sections) - set(names):
            self.files.remove(sorted(self._sections.pop(gone), reverse=True))
        for name in names:
            self._refresh_section(name)
            await self._kernel.sleep(PAUSE_NS)

    def _refresh_section(self, name: str) -> None:
        nodes = self._sysfs.section(name)
        paths = set(nodes)
        self.files.remove(sorted(self._sections.get(name, set()) - paths, reverse=True))
        self._sections[name] = paths
        changed = self.files.update(entry(path, node) for path, node in nodes.items())
        self._watch.add(_folders(changed, self.files))

    # -- from the files to the kernel --------------------------------------------------------------
    def _told(self, path: str) -> None:
        """Somebody has written a file of ours; files that others have put there are none of our business."""
        if path in self.files.written and path not in self._stores:
            self._stores.add(path)
            self._kernel.spawn(self._store(path), f"write {path}")

    async def _store(self, path: str) -> None:
        """What the file holds now goes to the attribute; then the file shows the attribute again."""
        self._stores.discard(path)
        mode, before = self.files.written.get(path, (0, b""))
        if not (self.alive and mode):
            return  # the function or the directory has gone in the meantime
        try:
            after = self.files.content(path)
            self.files.written[path] = mode, after
            for offset, data in file_writes(path, before, after):
                await self._sysfs.write(path, data, offset)
            await self.try_refresh()
        except OSError as error:
            _complain(path, error)


def _complain(what: str, error: OSError) -> None:
    sys.stderr.write(f"dom0: {what}: {(error.strerror or str(error)).lower()}\n")


def _folders(changed: Iterable[str], files: TreeFiles) -> set[str]:
    """Directories of those files that somebody may write to."""
    modes = ((path, files.written[path][0]) for path in changed)
    return {dirname(path) for path, mode in modes if stat.S_ISREG(mode) and mode & WRITABLE}


def file_writes(path: str, before: bytes, after: bytes) -> list[tuple[int, bytes]]:
    """Offset and data of the writes that made ``after`` of ``before``.

    Configuration space is written in place: only the bytes that differ were meant. So a bit that is cleared by
    writing 1 over a 1 that the file shows already cannot be seen.
    """
    if after == before:
        return []
    if not path.endswith(f"/{CONFIG}"):
        return [(0, after)]
    writes: list[tuple[int, bytes]] = []
    for offset in range(min(len(before), len(after))):
        if before[offset] == after[offset]:
            continue
        if writes and sum((writes[-1][0], len(writes[-1][1]))) == offset:
            writes[-1] = writes[-1][0], writes[-1][1] + after[offset : offset + 1]
        else:
            writes.append((offset, after[offset : offset + 1]))
    return writes
