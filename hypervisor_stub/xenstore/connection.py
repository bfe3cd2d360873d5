"""One client's connection: paths, transactions, watches. A codec and a socket or ring server go in front of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypervisor_stub.xenstore import operations
from hypervisor_stub.xenstore.errors import XenStoreError
from hypervisor_stub.xenstore.paths import canonical, canonical_or_special, domain_path, is_relative, quota_length
from hypervisor_stub.xenstore.perms import Caller
from hypervisor_stub.xenstore.transaction import Transaction
from hypervisor_stub.xenstore.tree import Tree, View
from hypervisor_stub.xenstore.watches import OnEvent, Watch, WatchTable

TRANSACTION_ID_MAX = 0xFFFFFFFF


class Connection:
    """One client. ``tx`` is a transaction of this connection or 0; paths may be relative (XS-2).

    Every method raises XenStoreError: EINVAL bad path, ENOENT missing node or unknown ``tx``, EACCES, ENOSPC quota,
    EIO after ``close``; others are named where they occur.
    Events come through ``on_event`` before the method returns; all of them are to be sent before its reply
    (errata S17), except that the one of ``watch`` comes after the reply (XS-8).
    """

    def __init__(self, tree: Tree, watches: WatchTable, caller: Caller, on_event: OnEvent) -> None:
        self.caller = caller
        self.quotas = caller.quotas
        self.on_event = on_event
        self.outstanding: Callable[[], int] | None = None  # set by who queues: events and replies not yet taken
        self.closed = False
        self.changes = 0  # that this client has made, as watchers count them
        self._tree = tree
        self._table = watches
        self._home = domain_path(caller.domid)
        self._transactions: dict[int, Transaction] = {}
        self._next_transaction = 1
        self._watches: dict[tuple[str, str], Watch] = {}

    @property
    def domid(self) -> int:
        """Domain of the client."""
        return self.caller.domid

    @property
    def throttled(self) -> bool:
        """Whether the server should take no request now: too many outstanding events and replies (XS-13, X37)."""
        if self.caller.privileged or self.outstanding is None:
            return False
        return self.outstanding() >= self.quotas.outstanding

    # Nodes

    def read(self, tx: int, path: str) -> bytes:
        """READ."""
        return operations.read(self._view(tx), self.caller, self._node_path(path))

    def write(self, tx: int, path: str, value: bytes) -> None:
        """WRITE; creates missing parents (XS-4)."""
        operations.write(self._view(tx), self.caller, self._node_path(path), value)
        self._publish()

    def mkdir(self, tx: int, path: str) -> None:
        """MKDIR; no error if it exists."""
        operations.mkdir(self._view(tx), self.caller, self._node_path(path))
        self._publish()

    def rm(self, tx: int, path: str) -> None:
        """RM of a subtree (XS-5). EINVAL for the root."""
        operations.rm(self._view(tx), self.caller, self._node_path(path))
        self._publish()

    def directory(self, tx: int, path: str) -> list[str]:
        """DIRECTORY: names in order of creation, however many; a wire server answers E2BIG if they do not fit."""
        return operations.directory(self._view(tx), self.caller, self._node_path(path))

    def directory_part(self, tx: int, path: str, offset: int) -> tuple[str, bytes]:
        """DIRECTORY_PART: generation and the NUL-terminated names from byte ``offset`` that fit (XS-16)."""
        return operations.directory_part(self._view(tx), self.caller, self._node_path(path), offset)

    def get_perms(self, tx: int, path: str) -> list[str]:
        """GET_PERMS, also of the special paths."""
        return operations.get_perms(self._view(tx), self.caller, self._node_path(path, special=True))

    def set_perms(self, tx: int, path: str, perms: Sequence[str]) -> None:
        """SET_PERMS, also of the special paths. EPERM for a change of owner without privilege (XS-7)."""
        parsed = operations.parse_perms(self.caller, perms)
        operations.set_perms(self._view(tx), self.caller, self._node_path(path, special=True), parsed)
        self._publish()

    def get_domain_path(self, domid: int) -> str:
        """GET_DOMAIN_PATH: ``/local/domain/<domid>``, whether or not it exists."""
        return domain_path(domid)

    # Watches

    def watch(self, path: str, token: str, depth: int | None = None) -> None:
        """WATCH the node and ``depth`` levels below (None: all). EEXIST for the same (path, token) again (XS-8)."""
        self._check_open()
        absolute = self._node_path(path, special=True)
        if depth is not None and depth < 0:
            raise XenStoreError("EINVAL", f"depth {depth}")
        if (absolute, token) in self._watches:
            raise XenStoreError("EEXIST", path)
        self._take("watches", self.quotas.watches)
        try:
            self._charge_watch(absolute, token, 1)
        except XenStoreError:
            self._give_back("watches")
            raise
        watch = Watch(absolute, token, self.caller, self.on_event)
        watch.depth = depth
        watch.strip = len(self._home) + 1 if is_relative(path) else 0
        self._watches[absolute, token] = watch
        self._table.add(watch)
        self._table.post(watch, path)

    def unwatch(self, path: str, token: str) -> None:
        """UNWATCH. ENOENT if there is no such watch on this connection."""
        self._check_open()
        watch = self._watches.get((self._watched_path(path), token))
        if watch is None:
            raise XenStoreError("ENOENT", path)
        self._drop_watch(watch)

    def _watched_path(self, path: str) -> str:
        """What ``path`` is called in the table; nobody watches one that is not well formed."""
        try:
            return self._node_path(path, special=True)
        except XenStoreError:
            return ""

    def reset_watches(self) -> None:
        """RESET_WATCHES: drop all watches and all transactions of this connection."""
        for number in list(self._transactions):
            self._drop_transaction(number)
        for watch in list(self._watches.values()):
            self._drop_watch(watch)

    def _drop_watch(self, watch: Watch) -> None:
        del self._watches[watch.path, watch.token]
        self._table.remove(watch)
        self._charge_watch(watch.path, watch.token, -1)
        self._give_back("watches")

    def _charge_watch(self, path: str, token: str, sign: int) -> None:
        memory = sign * (len(path) + len(token))
        self._tree.ledger.charge(self.domid, 0, memory, enforce=not self.caller.privileged)

    # Transactions

    def transaction_start(self, tx: int = 0) -> int:
        """TRANSACTION_START: a new id, never 0. EBUSY if asked for inside a transaction (XS-11)."""
        self._view(tx)
        if tx:
            raise XenStoreError("EBUSY", f"transaction {tx}")
        self._take("transactions", self.quotas.transactions)
        number = self._next_transaction
        while number in self._transactions:
            number = number % TRANSACTION_ID_MAX + 1
        self._next_transaction = number % TRANSACTION_ID_MAX + 1
        self._transactions[number] = Transaction(self._tree, self.caller)
        return number

    def transaction_end(self, tx: int, commit: bool) -> None:
        """TRANSACTION_END: commit (EAGAIN on conflict, and nothing changed) or abort. The transaction is gone then."""
        self._check_open()
        transaction = self._drop_transaction(tx)
        if commit:
            transaction.commit()
            self._publish()

    def _drop_transaction(self, tx: int) -> Transaction:
        transaction = self._transactions.pop(tx, None)
        if transaction is None:
            raise XenStoreError("ENOENT", f"transaction {tx}")
        self._give_back("transactions")
        return transaction

    def check_transaction(self, tx: int) -> None:
        """ENOENT if this connection has no transaction ``tx``; 0 means none and is fine (XS-11)."""
        self._view(tx)

    def open_transactions(self) -> list[Transaction]:
        """Transactions started and not ended."""
        return list(self._transactions.values())

    def close(self) -> None:
        """The client is gone: watches and transactions vanish. Harmless if closed already."""
        if not self.closed:
            self.reset_watches()
            self.closed = True

    # Helpers

    def _publish(self) -> None:
        self.changes += len(self._tree.changes)
        self._table.publish(self._tree)

    def _take(self, what: str, most: int) -> None:
        """Quotas are the domain's, over all of its connections (XS-13)."""
        if not self.caller.privileged:
            self._tree.ledger.take(self.domid, what, most)

    def _give_back(self, what: str) -> None:
        if not self.caller.privileged:
            self._tree.ledger.give_back(self.domid, what)

    def _check_open(self) -> None:
        if self.closed:
            raise XenStoreError("EIO", "connection closed")

    def _view(self, tx: int) -> View:
        """What a request of transaction ``tx`` works on. ENOENT if this connection has no such transaction."""
        self._check_open()
        if tx == 0:
            return self._tree
        transaction = self._transactions.get(tx)
        if transaction is None:
            raise XenStoreError("ENOENT", f"transaction {tx}")
        return transaction

    def _node_path(self, path: str, special: bool = False) -> str:
        absolute = (canonical_or_special if special else canonical)(path, self._home)
        if not self.caller.privileged and quota_length(absolute) > self.quotas.path:
            raise XenStoreError("EINVAL", "path quota")
        return absolute
