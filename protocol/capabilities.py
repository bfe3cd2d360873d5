"""The two capability lists of a configuration space that is given as bytes, and the names of capabilities.

Source: linux-aer.md 1.1 and 1.2; the walk is that of ``pci_find_capability`` and ``pci_find_ext_capability``.
Names are those of ``lspci -vv``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from protocol.layout_header import CONFIG_SIZE, HEADER, STATUS_CAP_LIST

FIRST, EXTENDED = 0x40, 0x100  # where the lists may begin: behind the header, in the extended space

NAMES: dict[int, str] = {
    0x01: "Power Management", 0x02: "AGP", 0x03: "Vital Product Data", 0x04: "Slot ID", 0x05: "MSI",
    0x06: "CompactPCI hot-swap", 0x07: "PCI-X", 0x08: "HyperTransport", 0x09: "Vendor Specific Information",
    0x0A: "Debug port", 0x0B: "CompactPCI central resource control", 0x0C: "Hot-plug capable", 0x0D: "Subsystem",
    0x0E: "AGP3", 0x0F: "Secure device", 0x10: "Express", 0x11: "MSI-X", 0x12: "SATA HBA",
    0x13: "PCI Advanced Features", 0x14: "Enhanced Allocation (EA)",
}  # fmt: skip
EXTENDED_NAMES: dict[int, str] = {
    0x01: "Advanced Error Reporting", 0x02: "Virtual Channel", 0x03: "Device Serial Number", 0x04: "Power Budgeting",
    0x05: "Root Complex Link", 0x06: "Root Complex Internal Link", 0x07: "Root Complex Event Collector",
    0x08: "Multi-Function Virtual Channel", 0x09: "Virtual Channel", 0x0A: "Root Bridge Control Block",
    0x0B: "Vendor Specific Information", 0x0D: "Access Control Services",
    0x0E: "Alternative Routing-ID Interpretation (ARI)", 0x0F: "Address Translation Service (ATS)",
    0x10: "Single Root I/O Virtualization (SR-IOV)", 0x11: "Multi-Root I/O Virtualization (MR-IOV)",
    0x12: "Multicast", 0x13: "Page Request Interface (PRI)", 0x15: "Physical Resizable BAR",
    0x16: "Dynamic Power Allocation", 0x17: "Transaction Processing Hints", 0x18: "Latency Tolerance Reporting",
    0x19: "Secondary PCI Express", 0x1B: "Process Address Space ID (PASID)", 0x1D: "Downstream Port Containment",
    0x1E: "L1 PM Substates", 0x1F: "Precision Time Measurement", 0x22: "Readiness Time Reporting",
    0x23: "Designated Vendor-Specific", 0x24: "Virtual Resizable BAR", 0x25: "Data Link Feature",
    0x26: "Physical Layer 16.0 GT/s", 0x27: "Lane Margining at the Receiver", 0x2A: "Physical Layer 32.0 GT/s",
    0x2E: "Data Object Exchange", 0x30: "Integrity & Data Encryption",
}  # fmt: skip


class Capability(NamedTuple):
    """One entry of a list. ``end`` is where the next capability (of any place in the list) or the space begins."""

    cap_id: int
    offset: int
    end: int
    extended: bool

    @property
    def name(self) -> str:
        """What lspci calls it."""
        known = (EXTENDED_NAMES if self.extended else NAMES).get(self.cap_id)
        return known or f"{'extended ' * self.extended}capability {self.cap_id:#04x}"


class CapabilityError(ValueError):
    """A list that has no end; ``offset`` is where the pointer stands that leads back."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset


def peek(image: bytes, offset: int, size: int) -> int:
    """The little-endian number at ``offset``; what lies behind the end of the image reads as 0."""
    return int.from_bytes(image[offset : offset + size], "little")


def capabilities(image: bytes) -> list[Capability]:
    """Both lists in their order; pointers that lead out of them end them. Raises CapabilityError for a loop."""
    plain = []
    if peek(image, HEADER.STATUS, 2) & STATUS_CAP_LIST:
        plain = _walk(image, FIRST, _plain_next, int(HEADER.CAPABILITY_LIST), peek(image, HEADER.CAPABILITY_LIST, 1))
    extended = _walk(image, EXTENDED, _extended_next, EXTENDED, EXTENDED) if len(image) > EXTENDED else []
    return _with_ends(plain, EXTENDED, extended=False) + _with_ends(extended, CONFIG_SIZE, extended=True)


def find(found: list[Capability], cap_id: int, *, extended: bool = False) -> Capability | None:
    """The first capability with this identifier."""
    return next((cap for cap in found if cap.cap_id == cap_id and cap.extended is extended), None)


def _plain_next(image: bytes, offset: int) -> tuple[int, int, int] | None:
    """Identifier, place of the pointer, pointer; None where there is no capability."""
    cap_id = image[offset] if offset < min(len(image), EXTENDED) else 0xFF
    return None if cap_id == 0xFF else (cap_id, offset + 1, peek(image, offset + 1, 1))


def _extended_next(image: bytes, offset: int) -> tuple[int, int, int] | None:
    header = peek(image, offset, 4)
    return None if header in (0, 0xFFFFFFFF) else (header & 0xFFFF, offset, header >> 20)


Next = Callable[[bytes, int], tuple[int, int, int] | None]


def _walk(image: bytes, first: int, step: Next, place: int, pointer: int) -> list[tuple[int, int]]:
    """(identifier, offset) from ``pointer`` on, which stands at ``place``."""
    found: dict[int, int] = {}
    while (offset := pointer & ~3) >= first:
        if offset in found:
            raise CapabilityError(f"the capability list is a loop: {place:#04x} leads back to {offset:#04x}", place)
        entry = step(image, offset)
        if entry is None:
            break
        found[offset], place, pointer = entry
    return [(cap_id, offset) for offset, cap_id in found.items()]


def _with_ends(entries: list[tuple[int, int]], limit: int, *, extended: bool) -> list[Capability]:
    """Each capability ends where the next one in address order begins."""
    begins = sorted(offset for _, offset in entries)
    ends = dict(zip(begins, [*begins, limit][1:], strict=True))
    return [Capability(cap_id, offset, ends[offset], extended) for cap_id, offset in entries]
