"""Grant tables of all domains (version 1). Source: xen-pci.md 8.3.

A granted page travels as an image when it is mapped; afterwards the channel of the two domains keeps the
copies equal. What this table keeps is the permission and whether somebody still has the page mapped.
"""

from __future__ import annotations

from kernel_stub.rpc import RpcError
from protocol.ids import DOM0

FIRST_REF = 8  # 0 console, 1 XenStore, 2..7 reserved
MAX_REFS = 16_384  # 32 frames of 512 entries
MAX_PAGES = 256  # of a guest: the stub keeps their images, 1 MiB at most


class Grant:
    """One grant entry: for whom, whether read-only, the page, how often it is mapped."""

    __slots__ = ("mapped", "page", "read_only", "remote")

    def __init__(self, remote: int, read_only: bool, page: bytes) -> None:
        self.remote = remote
        self.read_only = read_only
        self.page = page
        self.mapped = 0


class GrantTables:
    """The grant tables; status texts are the ``GNTST_*`` names in lower case."""

    def __init__(self) -> None:
        self._tables: dict[int, dict[int, Grant]] = {}
        self._dead: set[int] = set()

    def grant(self, domid: int, remote: int, read_only: bool, page: bytes) -> int:
        """``gnttab_grant_foreign_access``: returns the reference. Raises ENOSPC."""
        table = self._tables.setdefault(domid, {})
        if domid != DOM0 and len(table) >= MAX_PAGES:
            raise RpcError("ENOSPC")
        ref = next((n for n in range(FIRST_REF, MAX_REFS) if n not in table), 0)
        if not ref:
            raise RpcError("ENOSPC")
        table[ref] = Grant(remote, read_only, page)
        return ref

    def end(self, domid: int, ref: int) -> None:
        """``gnttab_end_foreign_access_ref``. Raises EINVAL (no such grant) or EBUSY (still mapped)."""
        entry = self._tables.get(domid, {}).get(ref)
        if entry is None:
            raise RpcError("EINVAL")
        if entry.mapped:
            raise RpcError("EBUSY")
        del self._tables[domid][ref]

    def map(self, mapper: int, granter: int, ref: int) -> bytes:
        """``GNTTABOP_map_grant_ref`` for writing: the page image.

        Raises bad_domain, bad_gntref, or permission_denied (granted to another domain, or read-only).
        """
        if granter in self._dead or granter not in self._tables:
            raise RpcError("bad_domain")
        entry = self._tables[granter].get(ref)
        if entry is None:
            raise RpcError("bad_gntref")
        if entry.remote != mapper or entry.read_only:
            raise RpcError("permission_denied")
        entry.mapped += 1
        return entry.page

    def unmap(self, mapper: int, granter: int, ref: int) -> None:
        """``GNTTABOP_unmap_grant_ref``. Raises bad_handle if the caller has not mapped it."""
        entry = self._tables.get(granter, {}).get(ref)
        if entry is None or entry.remote != mapper or not entry.mapped:
            raise RpcError("bad_handle")
        entry.mapped -= 1
        if granter in self._dead:
            self._drop_unmapped(granter)

    def introduce(self, domid: int) -> None:
        """A domain begins, with an empty table."""
        self._tables[domid] = {}

    def release(self, domid: int) -> None:
        """The domain is dead: pages that are mapped stay with the mapper until it unmaps them."""
        self._dead.add(domid)
        self._drop_unmapped(domid)

    def is_zombie(self, domid: int) -> bool:
        """Dead, but another domain still has pages of it mapped."""
        return domid in self._dead

    def _drop_unmapped(self, domid: int) -> None:
        left = {ref: entry for ref, entry in self._tables.get(domid, {}).items() if entry.mapped}
        if left:
            self._tables[domid] = left
        else:
            self._tables.pop(domid, None)
            self._dead.discard(domid)
