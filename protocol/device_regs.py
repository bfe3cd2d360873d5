"""What the register blocks of the emulated devices have in common, as data shared by model and driver.

Both devices decode BAR 0 in dwords. A ring is five registers: base (two halves), number of entries, tail
(written by the driver: one past the last valid entry) and head (written by the device: next entry to take).
It is empty when head equals tail, so ``entries - 1`` entries can be outstanding.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

BAR = 0
BAR_SIZE = 0x1000
MAX_RING = 256  # entries; a larger or zero size stops the queue
DMA_BURST = 4096  # bytes moved by one DMA transaction at most
ALL_ONES = 0xFFFFFFFF


class Reg(IntEnum):
    """Offsets that every model with a data path has."""

    ID = 0x00  # identity, read-only
    CONTROL = 0x04
    STATUS = 0x08  # read-only
    CAUSE = 0x0C  # write 1 to clear
    MASK = 0x10  # causes that send an MSI


class Control(IntFlag):
    """Bits of ``CONTROL``. RESET acts at once and clears itself."""

    RESET = 0x1
    ENABLE = 0x2


class Status(IntFlag):
    """Bits of ``STATUS``. A HALTED device does nothing until it is reset."""

    LINK_UP = 0x1
    HALTED = 0x2


class Cause(IntFlag):
    """Bits of ``CAUSE`` and ``MASK``."""

    DONE = 0x1  # at least one entry was completed
    DMA_ERROR = 0x2  # a DMA transaction was aborted: the device has halted
    BAD_RING = 0x4  # size or tail out of range: the device has halted
    OVERRUN = 0x8  # a frame was dropped for want of a receive buffer


class RingReg(IntEnum):
    """Offsets inside the register group of a ring."""

    BASE_LO = 0x00
    BASE_HI = 0x04
    SIZE = 0x08
    TAIL = 0x0C
    HEAD = 0x10  # read-only


# Offset -> (value after reset, bits that a write changes). CAUSE and the tails have effects of their own.
COMMON_LAYOUT: dict[int, tuple[int, int]] = {
    Reg.CONTROL: (0, Control.ENABLE),
    Reg.STATUS: (0, 0),
    Reg.CAUSE: (0, 0),
    Reg.MASK: (0, 0xF),
}


def ring_layout(at: int) -> dict[int, tuple[int, int]]:
    """Layout of the ring whose register group begins at offset ``at``."""
    return {at + reg: (0, 0 if reg is RingReg.HEAD else ALL_ONES) for reg in RingReg}
