"""The PCI topology that a guest sees: a virtual bus, or the machine's own addresses.

One instance per guest connection. Both kinds answer the same questions; see the table in xen-pci.md 4.3
(kernel ``vpci.c`` and ``passthrough.c``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from protocol.ids import Sbdf, devfn

SLOTS = 32
ENOMEM = 12
EFAULT = 14
NO_SPACE = "No more space on root virtual PCI bus"
NO_BRIDGES = "bridges cannot be exported on the virtual PCI bus"

GuestAddress = tuple[int, int, int]  # segment, bus, devfn as the guest sees them
DeviceLog = Callable[[Sbdf, str], None]


def _silent(_sbdf: Sbdf, _text: str) -> None:
    """Nobody reads the log lines of this topology."""


class Topology(Protocol):
    """What pciback needs of a topology. ``kind`` stands in the log line ``backend is <kind>``."""

    kind: str

    def add(self, sbdf: Sbdf, is_virtfn: bool = False, is_bridge: bool = False) -> int:
        """Export a function: its devfn (0..255) in the guest, or a negative errno."""

    def remove(self, sbdf: Sbdf) -> None:
        """Take a function out; nothing happens if it is not there."""

    def lookup(self, domain: int, bus: int, devfn: int) -> Sbdf | None:
        """The machine address of a guest address, or None."""

    def guest_address(self, sbdf: Sbdf) -> GuestAddress | None:
        """The guest's address of an exported function, or None."""

    def roots(self) -> list[tuple[int, int]]:
        """(segment, bus) of each root bus to publish as ``root-M``."""


class Vpci:
    """Segment 0, bus 0, 32 slots; functions of one machine slot stay together.

    ``hardened`` refuses a devfn above 0xff (X3). ``refuse_bridges`` False is defect D18; not given, it follows
    ``hardened``. ``log(sbdf, text)`` gets the kernel's lines about placement.
    """

    kind = "vpci"

    def __init__(self, hardened: bool = True, log: DeviceLog = _silent, *, refuse_bridges: bool | None = None) -> None:
        self._hardened = hardened
        self._refuse_bridges = hardened if refuse_bridges is None else refuse_bridges
        self._log = log
        # Per slot, in order of arrival: (machine address, is a virtual function).
        self._slots: list[list[tuple[Sbdf, bool]]] = [[] for _ in range(SLOTS)]
        self._by_devfn: dict[int, Sbdf] = {}
        self._devfn_of: dict[Sbdf, int] = {}

    def add(self, sbdf: Sbdf, is_virtfn: bool = False, is_bridge: bool = False) -> int:
        """Place a function; its virtual devfn, or -ENOMEM (``NO_SPACE``), or -EFAULT (``NO_BRIDGES``)."""
        if is_bridge and self._refuse_bridges:
            return -EFAULT
        slot = self._shared_slot(sbdf, is_virtfn)
        if slot is not None:
            self._log(sbdf, f"vpci: assign to virtual slot {slot} func {sbdf.function}")
        else:
            slot = next((i for i, there in enumerate(self._slots) if not there), None)
            if slot is None:
                return -ENOMEM
            self._log(sbdf, f"vpci: assign to virtual slot {slot}")
        self._slots[slot].append((sbdf, is_virtfn))
        virtual = devfn(slot, sbdf.function)
        self._by_devfn[virtual] = sbdf
        self._devfn_of[sbdf] = virtual
        return virtual

    def _shared_slot(self, sbdf: Sbdf, is_virtfn: bool) -> int | None:
        """The slot that holds another function of the same machine slot.

        A virtual function at function 0 stays alone: it is not a multi-function device, so a guest would
        not look for the functions beside it.
        """
        if is_virtfn and sbdf.function == 0:
            return None
        for slot, there in enumerate(self._slots):
            if there:
                first, first_is_virtfn = there[0]
                alone = first_is_virtfn and first.function == 0
                if not alone and first[:3] == sbdf[:3]:
                    return slot
        return None

    def remove(self, sbdf: Sbdf) -> None:
        """Take a function out; its slot is free again when it was the last one there."""
        virtual = self._devfn_of.pop(sbdf, None)
        if virtual is not None:
            del self._by_devfn[virtual]
            slot = self._slots[virtual >> 3]
            slot[:] = [entry for entry in slot if entry[0] != sbdf]

    def lookup(self, domain: int, bus: int, devfn: int) -> Sbdf | None:
        """The machine address behind a guest address. ``linux`` ignores devfn bits above 7 (X3)."""
        if domain or bus or (self._hardened and devfn > 0xFF):
            return None
        return self._by_devfn.get(devfn & 0xFF)

    def guest_address(self, sbdf: Sbdf) -> GuestAddress | None:
        """(0, 0, virtual devfn), or None."""
        virtual = self._devfn_of.get(sbdf)
        return None if virtual is None else (0, 0, virtual)

    def roots(self) -> list[tuple[int, int]]:
        """Always the one virtual root bus."""
        return [(0, 0)]


def _no_parent(_sbdf: Sbdf) -> Sbdf | None:
    """A flat hierarchy: every function is on a root bus."""
    return None


class Passthrough:
    """The guest sees the machine's addresses; no limit.

    ``parent_of`` names the bridge above a function, None on a root bus: a bus is published as a root
    unless a bridge above it is exported itself.
    """

    kind = "passthrough"

    def __init__(self, parent_of: Callable[[Sbdf], Sbdf | None] = _no_parent) -> None:
        self._parent_of = parent_of
        self._functions: dict[GuestAddress, Sbdf] = {}

    def add(self, sbdf: Sbdf, is_virtfn: bool = False, is_bridge: bool = False) -> int:
        """Export a function or bridge at its own address; its devfn. Nothing is refused."""
        self._functions[_own_address(sbdf)] = sbdf
        return sbdf.devfn

    def remove(self, sbdf: Sbdf) -> None:
        """Take a function out."""
        self._functions.pop(_own_address(sbdf), None)

    def lookup(self, domain: int, bus: int, devfn: int) -> Sbdf | None:
        """The function at exactly this address, or None."""
        return self._functions.get((domain, bus, devfn))

    def guest_address(self, sbdf: Sbdf) -> GuestAddress:
        """The machine address; the kernel does not look whether the function is exported."""
        return _own_address(sbdf)

    def roots(self) -> list[tuple[int, int]]:
        """The bus of each function that has no exported bridge above it, without repetition."""
        exported = set(self._functions.values())
        found = [(s.segment, s.bus) for s in self._functions.values() if exported.isdisjoint(self._ancestors(s))]
        return list(dict.fromkeys(found))

    def _ancestors(self, sbdf: Sbdf) -> list[Sbdf]:
        above: list[Sbdf] = []
        parent = self._parent_of(sbdf)
        while parent is not None:
            above.append(parent)
            parent = self._parent_of(parent)
        return above


def _own_address(sbdf: Sbdf) -> GuestAddress:
    return (sbdf.segment, sbdf.bus, sbdf.devfn)
