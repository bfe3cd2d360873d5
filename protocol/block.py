"""The block device: registers and commands, shared by its model and by the driver ``xblk``.

The medium outlives a reset, as a disk does; registers and queue do not.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from protocol.device_regs import COMMON_LAYOUT, Reg, Status, ring_layout

IDENTITY = 0x58424C4B  # "XBLK"
QUEUE = 0x40  # offset of the ring group
SECTOR_SIZE = 512
SECTORS = 2048  # 1 MiB
MAX_SECTORS = 128  # of one command


class BlockReg(IntEnum):
    """Offsets beyond those of ``device_regs.Reg``. Counters are read-only and wrap at 32 bits."""

    SECTORS = 0x20
    SECTOR_SIZE = 0x24
    READS = 0x80
    WRITES = 0x84
    FLUSHES = 0x88


class Op(IntEnum):
    """Operation of a command."""

    READ = 1
    WRITE = 2
    FLUSH = 3  # address, sector number and count are ignored


class Result(IntEnum):
    """``status`` of a command; the driver writes PENDING, the device anything else."""

    PENDING = 0
    OK = 1
    BAD_COMMAND = 2
    BAD_RANGE = 3


LAYOUT: dict[int, tuple[int, int]] = {
    Reg.ID: (IDENTITY, 0),
    **COMMON_LAYOUT,
    Reg.STATUS: (Status.LINK_UP, 0),
    BlockReg.SECTORS: (SECTORS, 0),
    BlockReg.SECTOR_SIZE: (SECTOR_SIZE, 0),
    BlockReg.READS: (0, 0),
    BlockReg.WRITES: (0, 0),
    BlockReg.FLUSHES: (0, 0),
    **ring_layout(QUEUE),
}

# 32 bytes: operation, reserved, sectors, first sector (LBA), address of the buffer, status, tag.
COMMAND = struct.Struct("<HHIQQII")
COMPLETION = struct.Struct("<II")  # status, tag: written by the device when all data has been moved
COMPLETION_OFFSET = 24
