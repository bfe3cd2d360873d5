"""Nodes with generations, the committed tree, and what operations need of a tree or of a transaction on it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from hypervisor_stub.xenstore.paths import SPECIAL_PATHS, parent_of
from hypervisor_stub.xenstore.perms import Entry, Perms
from hypervisor_stub.xenstore.quota import Ledger, Quotas
from protocol.ids import DOM0

MISSING = 0  # generation of a node that does not exist; real ones are larger
HEADER_SIZE = 24  # bytes of metadata that the node quota counts for every node: generation, three lengths, padding
ENTRY_SIZE = 8  # bytes per permission entry

ROOT_PERMS = Perms((Entry(DOM0, 0),))


class Change(NamedTuple):
    """Something watchers may hear of (XS-9). ``exact``: only watches set on the very path."""

    path: str
    exact: bool
    before: Perms | None  # None: did not exist
    after: Perms | None  # None: does not exist any more
    above: Perms | None = None  # of the parent; None: special path, or the parent is gone


class Node:
    """Value, permissions and children (in order of creation), all under one generation (XS-11)."""

    __slots__ = ("children", "generation", "names_size", "perms", "value")

    def __init__(self, value: bytes, perms: Perms) -> None:
        self.value = value
        self.perms = perms
        self.children: dict[str, None] = {}
        self.names_size = 0  # bytes of the child list as DIRECTORY sends it
        self.generation = MISSING

    def copy(self) -> Node:
        """An independent node with the same content and generation."""
        twin = Node(self.value, self.perms)
        twin.children = dict(self.children)
        twin.names_size = self.names_size
        twin.generation = self.generation
        return twin

    def add_child(self, name: str) -> None:
        """Append to the child list."""
        self.children[name] = None
        self.names_size += len(name) + 1

    def drop_child(self, name: str) -> None:
        """Take out of the child list."""
        del self.children[name]
        self.names_size -= len(name) + 1

    def own_size(self) -> int:
        """Bytes of value and metadata, child list not included."""
        return HEADER_SIZE + ENTRY_SIZE * len(self.perms.entries) + len(self.value)

    def size(self) -> int:
        """Bytes that the node quota counts."""
        return self.own_size() + self.names_size


class View(Protocol):
    """A tree as one request sees it: the committed one, or a transaction's."""

    ledger: Ledger

    def get(self, path: str) -> Node | None:
        """The node, for reading and (followed by ``touch``) for changing in place."""

    def put(self, path: str, node: Node) -> None:
        """Add a node that ``get`` found missing; the caller adds it to its parent."""

    def drop(self, path: str) -> None:
        """Delete a node that ``get`` found; the caller takes it out of its parent."""

    def touch(self, path: str, node: Node) -> None:
        """A node was changed in place: give it a new generation."""

    def changed(self, path: str, exact: bool, before: Perms | None, after: Perms | None) -> None:
        """Record what watchers are to be told, now or at commit."""


class Tree:
    """The committed tree, flat by absolute path. Every change takes the next generation (XS-12)."""

    __slots__ = ("changes", "generation", "ledger", "nodes")

    def __init__(self, quotas: Quotas) -> None:
        self.nodes: dict[str, Node] = {}
        self.generation = MISSING
        self.ledger = Ledger(quotas)
        self.changes: list[Change] = []
        for path in ("/", *SPECIAL_PATHS):
            self.put(path, Node(b"", ROOT_PERMS))

    def get(self, path: str) -> Node | None:
        """The committed node itself."""
        return self.nodes.get(path)

    def put(self, path: str, node: Node) -> None:
        """Add or replace a node."""
        self.nodes[path] = node
        self.touch(path, node)

    def drop(self, path: str) -> None:
        """Delete a node."""
        del self.nodes[path]

    def touch(self, path: str, node: Node) -> None:
        """Give ``node`` the next generation."""
        self.generation += 1
        node.generation = self.generation

    def changed(self, path: str, exact: bool, before: Perms | None, after: Perms | None) -> None:
        """Queue for the watchers."""
        parent = self.nodes.get(parent_of(path)) if path[0] == "/" else None
        self.changes.append(Change(path, exact, before, after, None if parent is None else parent.perms))

    def generation_of(self, path: str) -> int:
        """Generation of the node, MISSING if there is none."""
        node = self.nodes.get(path)
        return MISSING if node is None else node.generation
