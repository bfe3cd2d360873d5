"""The control verbs of dom0 that are about its sysfs tree."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dom0_pciback.sysfs.kstrto import StoreError
from dom0_pciback.sysfs.sysfs import Sysfs
from dom0_pciback.sysfs.tree import Link, Node

PAGE = 256  # files and links in one answer: 4 KiB each at most, so that a message holds them
REGULAR, SYMLINK = 0o100000, 0o120777  # S_IFREG; S_IFLNK and the mode that links have
Entry = tuple[str, int, bytes]

Mount = Callable[[Sysfs, str], Awaitable[int]]


async def no_files(sysfs: Sysfs, directory: str) -> int:
    """``Mount`` of a dom0 without a file system. Raises ValueError."""
    raise ValueError(f"sysfs-mount: this dom0 runs in virtual time and cannot keep {directory} current")


def entry(path: str, node: Node) -> Entry:
    """A file or link as it goes over a border: path, ``st_mode``, content or target."""
    if isinstance(node, Link):
        return path, SYMLINK, node.target.encode()
    return path, REGULAR | node.mode, node.read()


class SysfsControl:
    """Verbs ``sysfs``, ``sysfs-read``, ``sysfs-write`` and ``sysfs-mount``; ``mount`` comes from the shell."""

    def __init__(self, sysfs: Sysfs, mount: Mount) -> None:
        self._sysfs = sysfs
        self._mount = mount

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Verb -> handler."""
        return {"sysfs": self.page, "sysfs-read": self.read, "sysfs-write": self.write, "sysfs-mount": self.mount}

    def page(self, start: int) -> tuple[int, list[Entry]]:
        """Files and links number ``start`` and after it; where the next page begins, 0 after the last."""
        nodes = list(self._sysfs.nodes().items())
        following = start + PAGE if start + PAGE < len(nodes) else 0
        return following, [entry(path, node) for path, node in nodes[start : start + PAGE]]

    def read(self, path: str) -> bytes | int:
        """Content of a file, or a negative errno."""
        try:
            return self._sysfs.read(path)
        except StoreError as error:
            return -error.errno

    async def write(self, path: str, text: str) -> int:
        """What ``write(2)`` returns: the number of bytes, or a negative errno."""
        return await self._sysfs.write(path, text.encode())

    async def mount(self, directory: str) -> int:
        """Write the tree to a directory of dom0 and keep it current; how many files and links. Raises ValueError."""
        return await self._mount(self._sysfs, directory)
