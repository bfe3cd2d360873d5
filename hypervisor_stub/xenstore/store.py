"""The store: one tree, its watches, its connections, and the coming and going of domains."""

from __future__ import annotations

from enum import IntFlag

from hypervisor_stub.xenstore.connection import Connection
from hypervisor_stub.xenstore.paths import INTRODUCE_DOMAIN, RELEASE_DOMAIN
from hypervisor_stub.xenstore.perms import Caller
from hypervisor_stub.xenstore.quota import DEFAULT_QUOTAS, Quotas, Usage
from hypervisor_stub.xenstore.tree import Tree
from hypervisor_stub.xenstore.watches import OnEvent, WatchTable


class Feature(IntFlag):
    """Server features, the mask that GET_FEATURE answers (XS-15)."""

    RECONNECTION = 1
    ERROR = 2
    WATCHDEPTH = 4
    DOMID_ANY = 8


FEATURES = Feature.RECONNECTION | Feature.ERROR | Feature.WATCHDEPTH | Feature.DOMID_ANY


class XenStore:
    """The one tree with its watches and connections. Each request is atomic (XS-12); there is no locking."""

    def __init__(self, quotas: Quotas = DEFAULT_QUOTAS) -> None:
        self.quotas = quotas
        self.tree = Tree(quotas)
        self.watches = WatchTable()
        self.introduced: set[int] = set()
        self._connections: list[Connection] = []

    def connect(self, domid: int, on_event: OnEvent, *, privileged: bool) -> Connection:
        """Open a connection for a domain. ``on_event(path, token)`` is called for each event of its watches.

        Permissions and quotas apply unless ``privileged`` (dom0, a socket). EINVAL if ``domid`` is out of range.
        """
        connection = Connection(self.tree, self.watches, Caller(domid, privileged, self.quotas), on_event)
        self._connections = [c for c in self._connections if not c.closed]
        self._connections.append(connection)
        return connection

    def introduce_domain(self, domid: int) -> None:
        """INTRODUCE: the domain exists from now on; fires ``@introduceDomain`` unless it is known already."""
        if domid not in self.introduced:
            self.introduced.add(domid)
            self._fire_special(INTRODUCE_DOMAIN)

    def reset_domain(self, domid: int) -> None:
        """INTRODUCE of a known domain: whoever speaks for it now has none of the old watches and transactions."""
        for connection in self._connections:
            if connection.domid == domid:
                connection.reset_watches()

    def is_domain_introduced(self, domid: int) -> bool:
        """IS_DOMAIN_INTRODUCED."""
        return domid in self.introduced

    def domain_stopped(self, domid: int) -> None:
        """The domain crashed or shut down but still exists: fires ``@releaseDomain``, changes nothing."""
        if domid in self.introduced:
            self._fire_special(RELEASE_DOMAIN)

    def release_domain(self, domid: int) -> None:
        """RELEASE: the domain is gone (XS-14); fires ``@releaseDomain``.

        Its connections with watches and transactions vanish. Its nodes stay, but entries for it in permissions
        count no more, also not for a later domain of the same number.
        """
        for connection in [c for c in self._connections if c.domid == domid]:
            connection.close()
        self.introduced.discard(domid)
        transactions = [tx for connection in self._connections for tx in connection.open_transactions()]
        for node in self.tree.nodes.values():
            node.perms = node.perms.without_domain(domid)
        self.tree.ledger.forget(domid)
        for transaction in transactions:
            transaction.ledger.forget(domid)
            for node in transaction.nodes():
                node.perms = node.perms.without_domain(domid)
        self._fire_special(RELEASE_DOMAIN)

    def usage(self, domid: int) -> Usage:
        """What the domain uses; ``over_soft`` is worth a warning in the log (XS-13)."""
        return self.tree.ledger.usage(domid)

    def _fire_special(self, path: str) -> None:
        perms = self.tree.nodes[path].perms
        self.tree.changed(path, True, perms, perms)
        self.watches.publish(self.tree)
