"""Permissions of a node (XS-7) and who asks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hypervisor_stub.xenstore.errors import XenStoreError
from hypervisor_stub.xenstore.paths import DOMID_MAX
from hypervisor_stub.xenstore.quota import Quotas
from protocol.ids import DOM0

READ = 1
WRITE = 2
OWNER = 4
ALL_RIGHTS = READ | WRITE | OWNER

LETTERS = {"n": 0, "r": READ, "w": WRITE, "b": READ | WRITE}
_LETTER_OF = {rights: letter for letter, rights in LETTERS.items()}
_ENTRY = re.compile(r"([nrwb])([0-9]{1,5})")


class Entry(NamedTuple):
    """One ``<c><domid>``. A dead domain's entry is still listed but grants nothing (XS-14)."""

    domid: int
    rights: int
    alive: bool = True

    @classmethod
    def parse(cls, text: str) -> Entry:
        """Read e.g. ``r7``; EINVAL if malformed."""
        match = _ENTRY.fullmatch(text)
        if match is None or int(match[2]) > DOMID_MAX:
            raise XenStoreError("EINVAL", f"permission {text[:20]!r}")
        return cls(int(match[2]), LETTERS[match[1]])

    def __str__(self) -> str:
        return f"{_LETTER_OF[self.rights]}{self.domid}"


class Perms:
    """Immutable permission list: first entry owner and default for everybody not listed, then exceptions."""

    __slots__ = ("entries", "owner")

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self.entries = entries
        self.owner = entries[0].domid if entries[0].alive else DOM0  # whose quota the node counts against

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Perms:
        """From the strings of SET_PERMS; EINVAL for none or a malformed one."""
        if not texts:
            raise XenStoreError("EINVAL", "no permission entry")
        return cls(tuple(Entry.parse(text) for text in texts))

    def texts(self) -> list[str]:
        """As GET_PERMS answers, e.g. ``["n0", "r7"]``."""
        return [str(entry) for entry in self.entries]

    def rights(self, domid: int) -> int:
        """READ | WRITE | OWNER bits of an unprivileged domain."""
        first = self.entries[0]
        if first.domid == domid and first.alive:
            return ALL_RIGHTS
        for entry in self.entries[1:]:
            if entry.domid == domid and entry.alive:
                return entry.rights
        return first.rights

    def owned_by(self, domid: int) -> Perms:
        """The same list with another owner: what an unprivileged creator's node gets (XS-4)."""
        first = self.entries[0]
        if first.domid == domid and first.alive:
            return self
        return Perms((Entry(domid, first.rights), *self.entries[1:]))

    def without_domain(self, domid: int) -> Perms:
        """The same list with the entries of a dead domain switched off (XS-14)."""
        if all(entry.domid != domid for entry in self.entries):
            return self
        return Perms(tuple(e._replace(alive=e.alive and e.domid != domid) for e in self.entries))


class Caller:
    """Whose request it is: domain, whether permissions and quotas apply to it (XS-7, XS-13), and which."""

    __slots__ = ("domid", "privileged", "quotas")

    def __init__(self, domid: int, privileged: bool, quotas: Quotas) -> None:
        self.domid = domid
        self.privileged = privileged
        self.quotas = quotas

    def may(self, perms: Perms, needed: int) -> bool:
        """Whether all bits of ``needed`` are granted."""
        return self.privileged or perms.rights(self.domid) & needed == needed

    def may_some(self, perms: Perms, needed: int) -> bool:
        """Whether a bit of ``needed`` is granted."""
        return self.privileged or perms.rights(self.domid) & needed != 0
