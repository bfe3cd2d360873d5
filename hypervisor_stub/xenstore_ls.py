"""The text of ``xenstore-ls -fp``. Source: xen-pci.md 2.8; xen-pci-errata.md 4.4, 8."""

from __future__ import annotations

from collections.abc import Iterator

from hypervisor_stub.toolstack_store import ToolstackStore


def xenstore_ls(xs: ToolstackStore, path: str) -> str:
    """The nodes below ``path`` ("/" for all), in the order of creation, without ``path`` itself."""
    root = path.rstrip("/")
    if root and xs.read(root) is None:
        return f"xenstore-ls: xs_directory ({root}): No such file or directory\n"
    return "".join(_lines(xs, root))


def _lines(xs: ToolstackStore, path: str) -> Iterator[str]:
    for name in xs.directory(path or "/"):
        child = f"{path}/{name}"
        perms = ",".join(xs.conn.get_perms(0, child))
        yield f'{child} = "{_printable(xs.read(child) or "")}"   ({perms})\n'
        yield from _lines(xs, child)


def _printable(value: str) -> str:
    """Control characters, quotes and backslashes as C escapes, like the real tool."""
    return "".join(_ESCAPES.get(c, c if c.isprintable() else f"\\{ord(c):03o}") for c in value)


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
