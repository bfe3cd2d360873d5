"""The shared page of the PCI split driver: layout, flag bits, and its operations as an ordered stream.

The page is ``struct xen_pci_sharedinfo``, 572 bytes, little-endian (xen-pci.md section 1). Both ends hold
a copy. What crosses the wire is the stream of operations done to it: bytes written, one bit set, one bit
cleared; never the flags word as a whole, which the other side changes at the same time (WIRE-1).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

PAGE_SIZE = 572
SH_INFO_MAX_VEC = 128

# Flag bits (1.3).
PCIF_ACTIVE = 0  # frontend: `op` holds a request
PCIB_AERHANDLER = 1  # frontend serves AER requests
PCIB_ACTIVE = 2  # backend: `aer_op` holds a request

# Absolute offsets in the page (1.1).
OP = 4
OP_ERR = 8
OP_VALUE = 32
OP_MSIX = 40
AER_OP = 552
AER_ERR = 556

# cmd err domain bus devfn offset size value info, without the MSI-X entries
_OP = struct.Struct("<IiIIIiiII")
_AER = struct.Struct("<IiIII")
_S32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
OP_HEAD = _OP.size  # 36 bytes
MSIX_BYTES = SH_INFO_MAX_VEC * 4

# Operations of the stream: (code, argument, data).
WRITE, SET, CLEAR = 0, 1, 2
PageOp = tuple[int, int, bytes]


class PciOp(IntEnum):
    """``XEN_PCI_OP_*`` (1.4). Note that resume is 7 and mmio 8; the order of a recovery is 6, 8, 9, 7."""

    CONF_READ = 0
    CONF_WRITE = 1
    ENABLE_MSI = 2
    DISABLE_MSI = 3
    ENABLE_MSIX = 4
    DISABLE_MSIX = 5
    AER_DETECTED = 6
    AER_RESUME = 7
    AER_MMIO = 8
    AER_SLOTRESET = 9


class PciErr(IntEnum):
    """``XEN_PCI_ERR_*`` (1.5)."""

    SUCCESS = 0
    DEV_NOT_FOUND = -1
    INVALID_OFFSET = -2
    ACCESS_DENIED = -3
    NOT_IMPLEMENTED = -4
    OP_FAILED = -5


class Op(NamedTuple):
    """``struct xen_pci_op`` without the MSI-X entries; addresses are those that the guest sees."""

    cmd: int
    err: int
    domain: int
    bus: int
    devfn: int
    offset: int
    size: int
    value: int
    info: int


class AerOp(NamedTuple):
    """``struct xen_pcie_aer_op``; ``err`` is the channel state in a request and the result in a reply."""

    cmd: int
    err: int
    domain: int
    bus: int
    devfn: int


class SharedPage:
    """One end's copy of the page; every change is also noted in ``pending`` for the other end.

    ``apply`` takes in what the other end did. Offsets and bits are checked there: a violation raises
    ValueError, which the channel turns into a disconnect (X48).
    """

    __slots__ = ("_view", "data", "pending", "raised")

    def __init__(self, image: bytes = b"") -> None:
        self.data = bytearray(image.ljust(PAGE_SIZE, b"\0")[:PAGE_SIZE])
        self._view = memoryview(self.data)  # storing bytes through it takes a third of the time
        self.pending: list[PageOp] = []
        self.raised: list[int] = []  # bits set among ``pending``

    def write(self, offset: int, data: bytes) -> None:
        """Store ``data`` at ``offset``."""
        self._view[offset : offset + len(data)] = data
        self.pending.append((WRITE, offset, data))

    def set_bit(self, bit: int) -> None:
        """Set flag ``bit`` (0..31) and nothing else."""
        self.data[bit >> 3] |= 1 << (bit & 7)
        self.pending.append((SET, bit, b""))
        self.raised.append(bit)

    def clear_bit(self, bit: int) -> None:
        """Clear flag ``bit`` (0..31) and nothing else."""
        self.data[bit >> 3] &= ~(1 << (bit & 7))
        self.pending.append((CLEAR, bit, b""))

    def test_bit(self, bit: int) -> bool:
        """Is flag ``bit`` set."""
        return bool(self.data[bit >> 3] & 1 << (bit & 7))

    def apply(self, ops: tuple[PageOp, ...]) -> None:
        """Carry out operations of the other end, in order. Raises ValueError outside the page."""
        page, view = self.data, self._view
        for code, arg, data in ops:
            if code == WRITE:
                end = arg + len(data)
                if end > PAGE_SIZE:
                    raise ValueError(f"write of {len(data)} bytes at {arg} is outside the page")
                view[arg:end] = data
            elif arg > 31:
                raise ValueError(f"no flag bit {arg}")
            elif code == SET:
                page[arg >> 3] |= 1 << (arg & 7)
            else:
                page[arg >> 3] &= ~(1 << (arg & 7))

    # -- the two slots -------------------------------------------------------------------------
    def op(self) -> Op:
        """The configuration request slot, decoded."""
        return Op._make(_OP.unpack_from(self.data, OP))

    def op_result(self) -> tuple[int, int]:
        """``err`` and ``value`` of the request slot."""
        data = self.data
        return _S32.unpack_from(data, OP_ERR)[0], _U32.unpack_from(data, OP_VALUE)[0]

    def op_bytes(self) -> bytes:
        """The request slot as it is, for comparison with a private copy (H6)."""
        return bytes(self.data[OP : OP + OP_HEAD])

    def write_op(self, op: tuple[int, ...]) -> None:
        """Store a request; the MSI-X entries stay as they are."""
        self.write(OP, _OP.pack(*op))

    def msix_entries(self, count: int) -> tuple[tuple[int, int], ...]:
        """The first ``count`` (at most 128) entries as (vector, entry)."""
        raw = struct.unpack_from(f"<{2 * count}H", self.data, OP_MSIX)
        return tuple(zip(raw[::2], raw[1::2], strict=True))

    def write_msix(self, entries: tuple[tuple[int, int], ...]) -> None:
        """Store MSI-X entries from the first on."""
        self.write(OP_MSIX, struct.pack(f"<{2 * len(entries)}H", *(x for pair in entries for x in pair)))

    def aer_op(self) -> AerOp:
        """The AER slot, decoded."""
        return AerOp._make(_AER.unpack_from(self.data, AER_OP))

    def write_aer(self, cmd: int, err: int, domain: int, bus: int, devfn: int) -> None:
        """Store an AER request."""
        self.write(AER_OP, _AER.pack(cmd, err, domain, bus, devfn))

    def aer_err(self) -> int:
        """State of a request, result of a reply (WIRE-6: one word for both)."""
        value: int = _S32.unpack_from(self.data, AER_ERR)[0]
        return value

    def write_aer_err(self, value: int) -> None:
        """Store an AER result; any 32-bit number (FE-25)."""
        self.write(AER_ERR, _S32.pack(wrap_s32(value)))

    def write_result(self, err: int, value: int) -> None:
        """Store the outcome of a configuration request: ``err`` and ``value`` only."""
        self.write(OP_ERR, _S32.pack(err))
        self.write(OP_VALUE, value.to_bytes(4, "little"))


def wrap_s32(value: int) -> int:
    """``value`` as a C program would store it in an s32."""
    return (int(value) + 0x80000000 & 0xFFFFFFFF) - 0x80000000
