"""A whole configuration space as a dump shows it, and what it tells about its function.

Source: linux-aer.md 1.1 and 1.2; errata 4.1 for what Link and Slot Capabilities mean.
"""

from __future__ import annotations

from typing import Any

from protocol.capabilities import Capability, capabilities, find, peek
from protocol.layout_aer import AER, AER_CAP_ECRC_CAPABLE
from protocol.layout_header import CONFIG_SIZE, HEADER, HEADER_TYPE_BRIDGE, TYPE0, TYPE1
from protocol.layout_pcie import (
    EXP,
    EXP_DEVCAP_FLR,
    EXP_DEVCAP_RBER,
    EXP_FLAGS_TYPE_SHIFT,
    EXP_FLAGS_VERSION_MASK,
    EXP_LNKCAP_DLLLARC,
    EXP_LNKCAP_WIDTH_SHIFT,
    EXP_SLTCAP_NUMBER_SHIFT,
    EXP_TYPE,
    SLOT_PORTS,
)
from protocol.layout_pm import PM
from protocol.topology import BRIDGES

HEADER_SIZE = 0x40
SUBSYSTEM, DPC, COLLECTOR = 0x0D, 0x001D, 0x0007  # capabilities that are only read here

# PCI Express type -> kind of function; a legacy endpoint is an endpoint
_KINDS = {number: kind for kind, number in EXP_TYPE.items()} | {1: "endpoint"}


def read_image(text: str) -> bytes:
    """The bytes that ``text`` writes in hex. Raises ValueError for a size that no configuration space has."""
    try:
        image = bytes.fromhex(text)
    except ValueError:
        raise ValueError("an odd number of hexadecimal digits; allowed: pairs of them") from None
    if not HEADER_SIZE <= len(image) <= CONFIG_SIZE:
        raise ValueError(f"{len(image)} bytes; allowed: {HEADER_SIZE} to {CONFIG_SIZE}")
    return image


def kind_of(image: bytes, found: list[Capability]) -> str | None:
    """The kind of function (``protocol.topology.Kind``) that has this space; None if there is none for it."""
    header = image[HEADER.HEADER_TYPE] & 0x7F
    exp = find(found, EXP.cap_id)
    if exp is None:
        return "endpoint" if header == 0 else None
    kind = _KINDS.get(peek(image, exp.offset + EXP.FLAGS, 2) >> EXP_FLAGS_TYPE_SHIFT & 0xF)
    return kind if kind is not None and header == HEADER_TYPE_BRIDGE * (kind in BRIDGES) else None


def describe(image: bytes, found: list[Capability]) -> dict[str, Any]:
    """Fields of ``FunctionSpec`` that the space determines, without ``kind``."""
    exp, aer = find(found, EXP.cap_id), find(found, AER.cap_id, extended=True)
    fields: dict[str, Any] = {
        "vendor": peek(image, HEADER.VENDOR_ID, 2),
        "device": peek(image, HEADER.DEVICE_ID, 2),
        "revision": image[HEADER.REVISION_ID],
        "class_code": peek(image, HEADER.CLASS_PROG, 3),
        "subsystem": _subsystem(image, found),
        "pm": find(found, PM.cap_id) is not None,
        "pcie": exp is not None,
        "aer": exp is not None and aer is not None,
        "dpc": find(found, DPC, extended=True) is not None,
    }
    if aer is not None:
        fields["ecrc"] = bool(peek(image, aer.offset + AER.CAP, 4) & AER_CAP_ECRC_CAPABLE)
    if exp is not None:
        fields |= _express(image, exp, kind_of(image, found))
    if image[HEADER.HEADER_TYPE] & 0x7F == HEADER_TYPE_BRIDGE:
        fields |= {"secondary": image[TYPE1.SECONDARY_BUS], "subordinate": image[TYPE1.SUBORDINATE_BUS]}
    return fields | _collector(image, found)


def exp_end(image: bytes, exp: Capability) -> int:
    """Where the Express capability ends: version 1 has no second half, and its tail depends on the type."""
    flags = peek(image, exp.offset + EXP.FLAGS, 2)
    kind = _KINDS.get(flags >> EXP_FLAGS_TYPE_SHIFT & 0xF, "")
    sizes = {"root_port": int(EXP.DEVCAP2), "event_collector": int(EXP.DEVCAP2), "rciep": int(EXP.LNKCAP)}
    sizes["downstream_port"] = int(EXP.RTCTL)
    size = EXP.length if flags & EXP_FLAGS_VERSION_MASK > 1 else sizes.get(kind, int(EXP.SLTCAP))
    return min(exp.end, exp.offset + size)


def _subsystem(image: bytes, found: list[Capability]) -> tuple[int, int] | None:
    """In the header of a device; bridges have a capability for it, or none at all."""
    if image[HEADER.HEADER_TYPE] & 0x7F != HEADER_TYPE_BRIDGE:
        return peek(image, TYPE0.SUBSYSTEM_VENDOR_ID, 2), peek(image, TYPE0.SUBSYSTEM_ID, 2)
    place = find(found, SUBSYSTEM)
    return None if place is None else (peek(image, place.offset + 4, 2), peek(image, place.offset + 6, 2))


def _express(image: bytes, exp: Capability, kind: str | None) -> dict[str, Any]:
    capabilities_of, end = peek(image, exp.offset + EXP.DEVCAP, 4), exp_end(image, exp)
    fields: dict[str, Any] = {"role_based": bool(capabilities_of & EXP_DEVCAP_RBER)}
    if kind not in BRIDGES:
        fields["flr"] = bool(capabilities_of & EXP_DEVCAP_FLR)
    if exp.offset + EXP.LNKCAP < end:
        link = peek(image, exp.offset + EXP.LNKCAP, 4)
        fields |= {"link_speed": link & 0xF, "link_width": link >> EXP_LNKCAP_WIDTH_SHIFT & 0x3F}
        if kind in SLOT_PORTS:
            fields["link_reporting"] = bool(link & EXP_LNKCAP_DLLLARC)
    if kind in SLOT_PORTS and exp.offset + EXP.SLTCAP < end:
        fields["slot"] = peek(image, exp.offset + EXP.SLTCAP, 4) >> EXP_SLTCAP_NUMBER_SHIFT
    return fields


def _collector(image: bytes, found: list[Capability]) -> dict[str, Any]:
    """Whose errors an event collector receives (PCIe base specification 7.9.10)."""
    place = find(found, COLLECTOR, extended=True)
    if place is None:
        return {}
    fields: dict[str, Any] = {"rciep_devices": peek(image, place.offset + 4, 4)}
    buses = peek(image, place.offset + 8, 4) if peek(image, place.offset, 4) >> 16 & 0xF >= 2 else 0
    first, last = buses >> 8 & 0xFF, buses >> 16 & 0xFF
    if 0 < first <= last:
        fields["rciep_buses"] = (first, last)
    return fields


def read(text: str) -> tuple[bytes, list[Capability]]:
    """Image and capabilities of a configuration space in hex. Raises ValueError."""
    image = read_image(text)
    return image, capabilities(image)
