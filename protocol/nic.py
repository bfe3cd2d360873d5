"""The network device: registers, descriptors and frames, shared by its model and by the driver ``xnic``.

Its peer on the wire is a loop-back that a driver can verify: it answers a good frame with the addresses
swapped, the payload unchanged, the sequence number incremented and the CRC32 computed anew.
"""

from __future__ import annotations

import struct
from binascii import crc32
from enum import IntEnum, IntFlag
from typing import NamedTuple

from protocol.device_regs import COMMON_LAYOUT, Reg, Status, ring_layout

IDENTITY = 0x584E4943  # "XNIC"
TX_RING = 0x40  # offsets of the two ring groups
RX_RING = 0x60
MAC = bytes.fromhex("00163e000001")  # of the device, in the range of Xen guests
PEER_MAC = bytes.fromhex("00163effffff")


class NicReg(IntEnum):
    """Offsets beyond those of ``device_regs.Reg``. Counters are read-only and wrap at 32 bits."""

    MAC_LO = 0x20  # bytes 0 to 3, little-endian
    MAC_HI = 0x24  # bytes 4 and 5
    TX_FRAMES = 0x80
    RX_FRAMES = 0x84
    DROPPED = 0x88


class Flag(IntFlag):
    """``flags`` of a descriptor."""

    END = 0x1  # the frame ends in this buffer (always: one frame, one buffer)


LAYOUT: dict[int, tuple[int, int]] = {
    Reg.ID: (IDENTITY, 0),
    **COMMON_LAYOUT,
    Reg.STATUS: (Status.LINK_UP, 0),
    NicReg.MAC_LO: (int.from_bytes(MAC[:4], "little"), 0),
    NicReg.MAC_HI: (int.from_bytes(MAC[4:], "little"), 0),
    NicReg.TX_FRAMES: (0, 0),
    NicReg.RX_FRAMES: (0, 0),
    NicReg.DROPPED: (0, 0),
    **ring_layout(TX_RING),
    **ring_layout(RX_RING),
}

# 16 bytes: address, length, flags, done. The device writes ``done`` (transmit) or the last 8 bytes (receive).
DESCRIPTOR = struct.Struct("<QIHH")
COMPLETION = struct.Struct("<IHH")
COMPLETION_OFFSET = 8
DONE_OFFSET = 14
DONE = b"\x01\x00"

BUFFER_SIZE = 2048
HEADER = struct.Struct(">6s6sHIH")  # destination, source, type, sequence number, length of the payload
TRAILER = struct.Struct(">I")  # CRC32 of all before
ETHERTYPE = 0x88B5  # IEEE 802 local experimental
MAX_FRAME = 1518
MAX_PAYLOAD = MAX_FRAME - HEADER.size - TRAILER.size


class Frame(NamedTuple):
    """A decoded frame."""

    destination: bytes
    source: bytes
    sequence: int
    payload: bytes

    def encode(self) -> bytes:
        """The bytes on the wire, CRC included."""
        head = HEADER.pack(self.destination, self.source, ETHERTYPE, self.sequence & 0xFFFFFFFF, len(self.payload))
        body = head + self.payload
        return body + TRAILER.pack(crc32(body))


def decode(data: bytes) -> Frame | None:
    """Read a frame; None if its length, type or CRC is wrong."""
    if not HEADER.size + TRAILER.size <= len(data) <= MAX_FRAME:
        return None
    destination, source, kind, sequence, length = HEADER.unpack_from(data)
    end = HEADER.size + length
    if kind != ETHERTYPE or end + TRAILER.size != len(data) or TRAILER.unpack_from(data, end)[0] != crc32(data[:end]):
        return None
    return Frame(destination, source, sequence, data[HEADER.size : end])


def echo(data: bytes) -> bytes | None:
    """What the peer answers to a frame; None (silence) to a damaged one."""
    frame = decode(data)
    if frame is None:
        return None
    return Frame(frame.source, frame.destination, frame.sequence + 1, frame.payload).encode()
