"""Who may do DMA: the domain that a function is assigned to, unless it is blocked.

Source: xen-pci.md 5.3 and KILL-4.3. The hypervisor stub orders every change.
"""

from __future__ import annotations

from dom0_pciback.pcie.function import Function
from protocol.ids import DOM0, DOMID_IO, Sbdf


class Iommu:
    """Assignment of functions to domains. A function that was never assigned belongs to dom0."""

    __slots__ = ("_blocked", "_owner", "_revoked")

    def __init__(self) -> None:
        self._owner: dict[Sbdf, int] = {}
        self._blocked: set[Sbdf] = set()
        self._revoked: set[int] = set()  # domains that are being destroyed

    def assign(self, sbdf: Sbdf, domid: int) -> None:
        """Give the function to ``domid``; a block is lifted."""
        self._owner[sbdf] = domid
        self._blocked.discard(sbdf)
        self._revoked.discard(domid)  # the number belongs to a new domain

    def revoke(self, domid: int) -> None:
        """Cut a domain off from all its functions, in both directions, before anything else is done to it."""
        self._revoked.add(domid)

    def revoked(self, domid: int) -> bool:
        """The domain is being destroyed."""
        return domid in self._revoked

    def owned_by(self, sbdf: Sbdf, domid: int) -> bool:
        """The function is assigned to ``domid``, which is not being destroyed."""
        return self._owner.get(sbdf, DOM0) == domid and domid not in self._revoked

    def deassign(self, sbdf: Sbdf) -> None:
        """Quarantine: the function belongs to DOMID_IO, which has no memory to reach."""
        self._owner[sbdf] = DOMID_IO

    def block(self, sbdf: Sbdf) -> None:
        """Refuse every DMA of the function from now on, whoever owns it (KILL-4.3)."""
        self._blocked.add(sbdf)

    def unblock(self, sbdf: Sbdf) -> None:
        """Lift a block."""
        self._blocked.discard(sbdf)

    def owner(self, sbdf: Sbdf) -> int:
        """The domain that the function is assigned to."""
        return self._owner.get(sbdf, DOM0)

    def allows(self, sbdf: Sbdf, domid: int) -> bool:
        """Whether the function may reach memory of ``domid`` now."""
        return sbdf not in self._blocked and self.owned_by(sbdf, domid) and domid != DOMID_IO


def bus_master_ok(function: Function) -> bool:
    """Whether the function itself is able to issue a request: reachable and Command bus master set."""
    return function.bus_master_enabled()
