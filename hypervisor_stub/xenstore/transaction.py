"""Transactions: a node-by-node snapshot with own changes over it, checked by generation at commit (XS-11)."""

from __future__ import annotations

from collections.abc import Iterator

from hypervisor_stub.xenstore.errors import XenStoreError
from hypervisor_stub.xenstore.perms import Caller, Perms
from hypervisor_stub.xenstore.quota import Ledger
from hypervisor_stub.xenstore.tree import Node, Tree


class Accessed:
    """What a transaction knows of one path: generation at first access, its own copy, what it did to it."""

    __slots__ = ("exact", "fires", "generation", "modified", "node")

    def __init__(self, generation: int, node: Node | None) -> None:
        self.generation = generation
        self.node = node
        self.modified = False
        self.fires = False
        self.exact = True


class Transaction:
    """A ``View`` of one connection. Every path it looked at, missing ones too, is checked at commit.

    A write looks first (it has to check the permission), so written nodes are checked as well.
    """

    __slots__ = ("accessed", "caller", "failed", "ledger", "tree")

    def __init__(self, tree: Tree, caller: Caller) -> None:
        self.tree = tree
        self.caller = caller
        self.ledger = Ledger(caller.quotas, tree.ledger)
        self.accessed: dict[str, Accessed] = {}
        self.failed = False  # a request went over the quota of nodes: what was done is not the whole of it

    def get(self, path: str) -> Node | None:
        """The transaction's own copy, taken at the first access; ENOSPC beyond the quota of nodes (XS-13)."""
        known = self.accessed.get(path)
        if known is not None:
            return known.node
        if not self.caller.privileged and len(self.accessed) >= self.caller.quotas.transaction_nodes:
            self.failed = True
            raise XenStoreError("ENOSPC", "nodes per transaction")
        committed = self.tree.get(path)
        node = None if committed is None else committed.copy()
        self.accessed[path] = Accessed(self.tree.generation_of(path), node)
        return node

    def put(self, path: str, node: Node) -> None:
        """Add a node to the transaction."""
        known = self.accessed[path]
        known.node = node
        known.modified = True

    def drop(self, path: str) -> None:
        """Delete a node from the transaction."""
        known = self.accessed[path]
        known.node = None
        known.modified = True

    def touch(self, path: str, node: Node) -> None:
        """Mark a node as changed; it gets its generation at commit."""
        self.accessed[path].modified = True

    def changed(self, path: str, exact: bool, before: Perms | None, after: Perms | None) -> None:
        """Fire at commit, once per path, with the permissions of then; the last change decides how it matches."""
        known = self.accessed[path]
        known.fires = True
        known.exact = exact

    def nodes(self) -> Iterator[Node]:
        """All own copies."""
        return (known.node for known in self.accessed.values() if known.node is not None)

    def commit(self) -> None:
        """Bring all changes into the tree, or raise and change nothing.

        EAGAIN: conflict. ENOSPC: quota of the domain. ENOMEM: the quota of nodes was hit before.
        """
        tree = self.tree
        if self.failed:
            raise XenStoreError("ENOMEM", "nodes per transaction")
        for path, known in self.accessed.items():
            if tree.generation_of(path) != known.generation:
                raise XenStoreError("EAGAIN", path)
        tree.ledger.merge(self.ledger, enforce=not self.caller.privileged)
        for path, known in self.accessed.items():
            if known.modified:
                self._apply(path, known)

    def _apply(self, path: str, known: Accessed) -> None:
        tree = self.tree
        committed = tree.get(path)
        if known.node is not None:
            tree.put(path, known.node)
        elif committed is not None:
            tree.drop(path)
        if known.fires:
            before = None if committed is None else committed.perms
            tree.changed(path, known.exact, before, None if known.node is None else known.node.perms)
