"""XenStore as the toolstack uses it: privileged, with retried transactions and waiting for a node."""

from __future__ import annotations

from collections.abc import Callable

from hypervisor_stub.xenstore.errors import XenStoreError
from hypervisor_stub.xenstore.store import XenStore
from kernel_stub.kernel import Kernel
from kernel_stub.sync import WaitQueue
from protocol.ids import DOM0


class ToolstackStore:
    """One privileged connection. ``changed`` wakes at every event of any watch."""

    def __init__(self, kernel: Kernel, store: XenStore) -> None:
        self.conn = store.connect(DOM0, self._event, privileged=True)
        self.changed = WaitQueue(kernel, "XenStore to change")
        self._callbacks: dict[str, Callable[[str], None]] = {}

    def read(self, path: str, tx: int = 0) -> str | None:
        """Value of a node, None if there is none."""
        try:
            return self.conn.read(tx, path).decode("utf-8", "replace")
        except XenStoreError:
            return None

    def write(self, path: str, value: object, tx: int = 0) -> None:
        """Write ``str(value)``; missing parents are made and inherit permissions."""
        self.conn.write(tx, path, str(value).encode())

    def directory(self, path: str, tx: int = 0) -> list[str]:
        """Names of the children, [] if there is no such node."""
        try:
            return self.conn.directory(tx, path)
        except XenStoreError:
            return []

    def remove(self, path: str, tx: int = 0) -> None:
        """Remove a subtree; a missing node is fine (``libxl__xs_rm_checked``)."""
        if self.read(path, tx) is not None:
            self.conn.rm(tx, path)

    def fresh_dir(self, path: str, perms: list[str], tx: int = 0) -> None:
        """Remove what is there, make the directory, set its permissions (xen-pci-errata.md 8, T1)."""
        self.remove(path, tx)
        self.make_dir(path, perms, tx)

    def make_dir(self, path: str, perms: list[str], tx: int = 0) -> None:
        """Make a directory and set its permissions."""
        self.conn.mkdir(tx, path)
        self.conn.set_perms(tx, path, perms)

    def cleanup(self, path: str, tx: int = 0) -> None:
        """``libxl__xs_path_cleanup``: remove the subtree, then every parent that became empty."""
        self.remove(path, tx)
        parent = path.rpartition("/")[0]
        while parent.count("/") > 1 and self.read(parent, tx) is not None and not self.directory(parent, tx):
            self.conn.rm(tx, parent)
            parent = parent.rpartition("/")[0]

    def transaction(self, body: Callable[[int], None]) -> None:
        """Run ``body(tx)`` in a transaction, again after a conflict. Raises XenStoreError."""
        while True:
            tx = self.conn.transaction_start()
            try:
                body(tx)
            except XenStoreError:
                self.conn.transaction_end(tx, False)
                raise
            try:
                self.conn.transaction_end(tx, True)
            except XenStoreError as error:
                if error.name != "EAGAIN":
                    raise
            else:
                return

    def watch(self, path: str, token: str, callback: Callable[[str], None]) -> None:
        """Call ``callback(path)`` at every change below ``path``; once at once, by the protocol."""
        self._callbacks[token] = callback
        self.conn.watch(path, token)

    def unwatch(self, path: str, token: str) -> None:
        """End a watch."""
        self.conn.unwatch(path, token)
        del self._callbacks[token]

    def _event(self, path: str, token: str) -> None:
        callback = self._callbacks.get(token)
        if callback is not None:
            callback(path)
        self.changed.wake_all()
