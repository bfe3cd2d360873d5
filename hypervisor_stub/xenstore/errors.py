"""The one error type of the store and the error names that exist on the wire (xen-pci.md 8.5)."""

from __future__ import annotations

ERROR_NAMES = frozenset(
    {
        "EINVAL",
        "EACCES",
        "EEXIST",
        "EISDIR",
        "ENOENT",
        "ENOMEM",
        "ENOSPC",
        "EIO",
        "ENOTEMPTY",
        "ENOSYS",
        "EROFS",
        "EBUSY",
        "EAGAIN",
        "EISCONN",
        "E2BIG",
        "EPERM",
    }
)


class XenStoreError(Exception):
    """A refused request. ``name`` is what an ERROR message carries, e.g. ``"ENOENT"``.

    A name outside ``ERROR_NAMES`` becomes ``EINVAL``, as the wire demands.
    """

    def __init__(self, name: str, detail: str = "") -> None:
        self.name = name if name in ERROR_NAMES else "EINVAL"
        super().__init__(f"{self.name}: {detail}" if detail else self.name)
