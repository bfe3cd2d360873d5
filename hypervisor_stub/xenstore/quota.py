"""Limits for unprivileged connections (XS-13) and the account of what each domain uses."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from hypervisor_stub.xenstore.errors import XenStoreError
from protocol.ids import DOM0


@dataclass(frozen=True, slots=True)
class Quotas:
    """Defaults of xen-pci.md XS-13. Sizes in bytes."""

    nodes: int = 1000
    watches: int = 128  # of all connections of a domain
    outstanding: int = 20  # events and replies not yet taken by the client
    memory_soft: int = 2 * 1024 * 1024
    memory_hard: int = 2 * 1024 * 1024 + 512 * 1024
    transactions: int = 10  # of all connections of a domain
    transaction_nodes: int = 1024
    permissions: int = 5  # entries per node
    path: int = 2048
    node_size: int = 2048  # value, permissions, names of children


DEFAULT_QUOTAS = Quotas()


class Usage(NamedTuple):
    """What a domain uses: nodes it owns, bytes of these and of its watches."""

    nodes: int
    memory: int
    over_soft: bool = False


class Ledger:
    """Nodes and bytes per owning domain. A transaction's ledger holds differences to the store's one.

    ``open`` counts what a domain has open on all of its connections. Dom0 has no quota and is not counted.
    """

    __slots__ = ("base", "open", "quotas", "rows")

    def __init__(self, quotas: Quotas, base: Ledger | None = None) -> None:
        self.quotas = quotas
        self.base = base
        self.rows: dict[int, tuple[int, int]] = {}
        self.open: Counter[tuple[int, str]] = Counter()

    def usage(self, domid: int) -> Usage:
        """Nodes and bytes of a domain, base included."""
        nodes, memory = self.rows.get(domid, (0, 0))
        if self.base is not None:
            below = self.base.usage(domid)
            nodes, memory = nodes + below.nodes, memory + below.memory
        return Usage(nodes, memory, memory > self.quotas.memory_soft)

    def charge(self, domid: int, nodes: int, memory: int, *, enforce: bool) -> None:
        """Add (or, negative, give back). ENOSPC, and nothing added, if ``enforce`` and it grows over a limit."""
        if domid == DOM0:
            return
        if enforce:
            self._check(domid, nodes, memory)
        own_nodes, own_memory = self.rows.get(domid, (0, 0))
        self.rows[domid] = (own_nodes + nodes, own_memory + memory)

    def merge(self, other: Ledger, *, enforce: bool) -> None:
        """Take over a transaction's differences. ENOSPC, and nothing taken, if one grows over a limit."""
        if enforce:
            for domid, (nodes, memory) in other.rows.items():
                self._check(domid, nodes, memory)
        for domid, (nodes, memory) in other.rows.items():
            self.charge(domid, nodes, memory, enforce=False)

    def take(self, domid: int, what: str, most: int) -> None:
        """One more of ``what`` ("watches", "transactions"); ENOSPC if there are ``most`` already."""
        if self.open[domid, what] >= most:
            raise XenStoreError("ENOSPC", f"domain {domid}: {what}")
        self.open[domid, what] += 1

    def give_back(self, domid: int, what: str) -> None:
        """One less of ``what``."""
        self.open[domid, what] -= 1

    def forget(self, domid: int) -> None:
        """A domain died: nobody is charged for what it leaves."""
        self.rows.pop(domid, None)

    def _check(self, domid: int, nodes: int, memory: int) -> None:
        used = self.usage(domid)
        if nodes > 0 and used.nodes + nodes > self.quotas.nodes:
            raise XenStoreError("ENOSPC", f"domain {domid}: nodes")
        if memory > 0 and used.memory + memory > self.quotas.memory_hard:
            raise XenStoreError("ENOSPC", f"domain {domid}: memory")
