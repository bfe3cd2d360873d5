"""Quirks: fields that an operator adds for one device through sysfs (xen-pci.md 6.7)."""

from __future__ import annotations

import re
from typing import NamedTuple

from dom0_pciback.pciback.conf_field import PASS_THROUGH, Field
from protocol.ids import Sbdf

_QUIRK = re.compile(r"(?P<sbdf>[0-9a-fA-F:]+\.[0-7])-(?P<reg>[0-9a-fA-F]+):(?P<size>[0-9]+):(?P<mask>[0-9a-fA-F]+)")


class Quirk(NamedTuple):
    """A register of one device that its guest may write; ``mask`` is checked but not applied."""

    sbdf: Sbdf
    reg: int
    size: int
    mask: int

    def field(self) -> Field:
        """The read and write pass-through field that this quirk stands for."""
        read, write = PASS_THROUGH[self.size]
        return Field(self.reg, self.size, "quirk", read, write)


def parse_quirk(text: str) -> Quirk:
    """Read ``DDDD:BB:SS.F-reg:size:mask`` (``reg`` and ``mask`` hexadecimal). Raises ValueError."""
    match = _QUIRK.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a quirk; expected DDDD:BB:SS.F-reg:size:mask")
    reg, size, mask = int(match["reg"], 16), int(match["size"]), int(match["mask"], 16)
    if size not in PASS_THROUGH:
        raise ValueError(f"{text!r}: size must be 1, 2 or 4")
    if reg > 0xFFF or reg % size:
        raise ValueError(f"{text!r}: register must be at most fff and a multiple of the size")
    if mask >> 8 * size:
        raise ValueError(f"{text!r}: mask does not fit in {size} bytes")
    return Quirk(Sbdf.parse(match["sbdf"]), reg, size, mask)
