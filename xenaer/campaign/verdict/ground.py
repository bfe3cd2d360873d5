"""What a host says once for all of its cases: who is below which port, who has what, who is how to be treated.

A ``State`` is what one case finds and the next one inherits: owners, names, connections. The verdict of a case begins
with one, so that the records of the boot are read once for many cases.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from protocol.ids import Sbdf
from protocol.topology import BRIDGES, HostSpec
from xenaer.campaign.verdict.masks import masks_of

OWN_SCOPE = frozenset({"root_port", "downstream_port", "rciep", "event_collector"})  # ``bridge_of``: themselves
PCIBACK = "pciback"


class Ground:
    """A host as the verdict needs it; made once, used for every case.

    ``scope`` is the port whose recovery an error of a function starts (linux-aer.md 4.1), ``group`` all functions that
    such a recovery concerns, ``below`` everything below a port, ``mates`` the functions on the same bus, ``native``
    those of dom0's own drivers, ``masks`` their (correctable, uncorrectable) bits that are masked after boot.
    """

    __slots__ = (
        "above", "below", "grace_ns", "group", "guests", "hardened", "host", "masks", "mates", "native", "ports",
        "rids", "scope", "tables",
    )  # fmt: skip

    def __init__(self, host: HostSpec) -> None:
        self.host = host
        self.hardened = host.profile == "hardened"
        self.tables = host.profile, tuple(host.turned_over())  # what selects pciback's tables
        self.grace_ns = host.timing.connect_grace_ms * 1_000_000
        self.guests = {guest.name: guest for guest in host.guests}
        parent = {function.bdf: function.parent for function in host.functions}
        self.ports = frozenset(f.bdf for f in host.functions if f.kind in BRIDGES)
        self.native = frozenset(f.bdf for f in host.functions if f.dom0_driver != PCIBACK)
        self.above = {bdf: _chain(bdf, parent) for bdf in parent}
        self.below = {
            port: tuple(bdf for bdf in parent if port in self.above[bdf] and bdf != port) for port in self.ports
        }
        self.mates = {bdf: tuple(b for b in parent if parent[b] == parent[bdf]) for bdf in parent if parent[bdf]}
        self.scope = {f.bdf: f.bdf if f.kind in OWN_SCOPE or not f.parent else f.parent for f in host.functions}
        self.group = {bdf: frozenset((bdf, *self.below.get(port, ()))) for bdf, port in self.scope.items()}
        self.masks = {f.bdf: masks_of(f, host) for f in host.functions}
        self.rids = {Sbdf.parse(bdf).rid: bdf for bdf in parent}

    def hit_by(self, subject: str, method: str) -> tuple[str, ...]:
        """The functions that a reset hits: a bus reset names the port, or the function that it was done for."""
        if method not in BUSES:
            return (subject,)
        return self.below[subject] if subject in self.below else self.mates.get(subject, (subject,))


BUSES = frozenset({"bus", "dpc"})  # resets of everything below a port


def _chain(bdf: str, parent: dict[str, str]) -> tuple[str, ...]:
    """``bdf`` and the ports above it, nearest first; a parent that does not exist ends it."""
    chain = [bdf]
    while (up := parent.get(chain[-1], "")) and up not in chain:
        chain.append(up)
    return tuple(chain)


@dataclass(slots=True)
class State:
    """Who has what at one moment. ``owners`` is the IOMMU's view, ``exported`` pciback's (guest, time in ns)."""

    owners: dict[str, str] = field(default_factory=dict)
    exported: dict[str, tuple[str, int]] = field(default_factory=dict)
    names: dict[tuple[str, str], str] = field(default_factory=dict)  # (guest, its name of a device) -> function
    domids: dict[int, str] = field(default_factory=dict)
    alive: dict[str, int] = field(default_factory=dict)  # guest -> domain id
    connected: set[str] = field(default_factory=set)

    def copy(self) -> State:
        """An independent copy."""
        return State(
            dict(self.owners), dict(self.exported), dict(self.names), dict(self.domids), dict(self.alive),
            set(self.connected),
        )  # fmt: skip

    @classmethod
    def planned(cls, ground: Ground) -> State:
        """Every guest that starts by itself lives, is connected, and has the devices of the host file."""
        state = cls()
        for domid, guest in enumerate((g for g in ground.host.guests if g.autostart), 1):
            state.domids[domid] = guest.name
            state.alive[guest.name] = domid
            if guest.type == "pv" and guest.front:
                state.connected.add(guest.name)
            state.add_devices(guest.name, (plan.bdf for plan in guest.devices))
        return state

    def add_devices(self, guest: str, bdfs: Iterable[str]) -> None:
        """The guest has these, in virtual slots of their own, functions of one card together (xen-pci.md 4.3)."""
        slots: dict[str, int] = {}
        for bdf in bdfs:
            slot = slots.setdefault(bdf[:-2], len(slots))
            self.owners[bdf] = guest
            self.exported[bdf] = guest, 0
            self.names[guest, f"0000:00:{slot:02x}{bdf[-2:]}"] = bdf
