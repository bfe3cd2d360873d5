"""Names of things: PCI functions (SBDF) and domains.

Source: xen-pci.md 9.1 (syntax and limits), linux-aer.md 0.3 (Requester ID), models.md section 11.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

DOM0 = 0
KNOWN = 1024  # addresses that are remembered with their text; a host has fewer functions
DOMID_IO = 0x7FF1  # quarantine: owner of a seized device that no guest has (xen-pci.md 5.3)

_SBDF = re.compile(
    r"(?:(?P<seg>[0-9a-fA-F]{1,4}):)?(?P<bus>[0-9a-fA-F]{1,2}):"
    r"(?P<dev>[0-9a-fA-F]{1,2})\.(?P<fn>[0-9a-fA-F])"
)


def guest_identity(domid: int) -> str:
    """The name under which keys of domain ``domid`` are known."""
    return f"d{domid}"


def devfn(device: int, function: int) -> int:
    """Device (0..31) and function (0..7) as the 8-bit number that PCI uses (``PCI_DEVFN``)."""
    return device << 3 | function


class Sbdf(NamedTuple):
    """Segment (0..0xffff), bus (0..255), device (0..31), function (0..7) of a PCI function.

    Sorts in enumeration order; prints as ``0000:03:00.1`` (``%04x:%02x:%02x.%d``).
    """

    segment: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> Sbdf:
        """Read ``[SSSS:]BB:DD.F`` (hexadecimal). Raises ValueError that names what is allowed."""
        return _parse(text)

    @classmethod
    def from_rid(cls, rid: int, segment: int = 0) -> Sbdf:
        """The function that a 16-bit Requester ID (bus << 8 | devfn) names."""
        return cls(segment, rid >> 8 & 0xFF, rid >> 3 & 0x1F, rid & 7)

    @classmethod
    def from_number(cls, number: int) -> Sbdf:
        """The address whose ``number`` this is."""
        return cls.from_rid(number & 0xFFFF, number >> 16)

    @property
    def number(self) -> int:
        """The whole address as one number; on bus 0 of segment 0 that is the devfn."""
        return self.segment << 16 | self.rid

    @property
    def devfn(self) -> int:
        """8-bit device << 3 | function."""
        return self.device << 3 | self.function

    @property
    def rid(self) -> int:
        """16-bit Requester ID (``PCI_DEVID``)."""
        return self.bus << 8 | self.device << 3 | self.function

    def __str__(self) -> str:
        return _text(self)


@lru_cache(KNOWN)
def _parse(text: str) -> Sbdf:
    match = _SBDF.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a PCI address; expected [SSSS:]BB:DD.F, e.g. 0000:03:00.0")
    seg, bus, dev, fn = (int(match[k] or "0", 16) for k in ("seg", "bus", "dev", "fn"))
    if dev > 0x1F or fn > 7:
        raise ValueError(f"{text!r}: device must be 00..1f and function 0..7")
    return Sbdf(seg, bus, dev, fn)


@lru_cache(KNOWN)
def _text(sbdf: Sbdf) -> str:
    segment, bus, device, function = sbdf
    return f"{segment:04x}:{bus:02x}:{device:02x}.{function:d}"
