"""Headers of configuration requests, as the completer that rejects one logs them.

Source: linux-aer.md 2.1 (header log) and 5.4; layout of PCI Express Base Specification 2.2.7: three dwords, the first
with format and type in its top byte and the length in its low bits.
"""

from __future__ import annotations

from protocol.ids import Sbdf

CFG_READ, CFG_WRITE = 0x04, 0x44  # format and type of a Type 0 request; Type 1 is one more
ROOT_COMPLEX = Sbdf(0, 0, 0, 0)


def config_request(fmt_type: int, target: Sbdf, offset: int, size: int) -> tuple[int, int, int, int]:
    """Header log of a configuration request of ``size`` bytes at ``offset``, tag 0, issued by the root complex."""
    first_byte_enables = ((1 << size) - 1) << (offset & 3)
    return (
        fmt_type << 24 | 1,
        ROOT_COMPLEX.rid << 16 | first_byte_enables,
        target.rid << 16 | offset & 0xFFC,
        0,
    )
