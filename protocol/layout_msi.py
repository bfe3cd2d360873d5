"""Message signalled interrupts: MSI (ID 0x05) with 64-bit addresses, per-vector masks, up to 8 vectors; other forms
of it and MSI-X (ID 0x11) as far as dumps of real machines need them."""

from __future__ import annotations

from protocol.registers import Layout, Reg

MSI_FLAGS_ENABLE = 0x0001
MSI_FLAGS_QMASK_SHIFT = 1  # log2 of the vectors that the function asks for
MSI_FLAGS_QSIZE = 0x0070  # log2 of the vectors that software grants
MSI_FLAGS_QSIZE_SHIFT = 4
MSI_FLAGS_64BIT = 0x0080
MSI_FLAGS_MASKBIT = 0x0100
MSIX_FLAGS_MASKALL = 0x4000
MSIX_FLAGS_ENABLE = 0x8000


class MSI(Layout, length=0x18, cap_id=0x05):
    """MSI registers in their 64-bit form with masks; a function's number of vectors stands in FLAGS."""

    FLAGS = Reg(0x02, 2, rw=MSI_FLAGS_ENABLE | MSI_FLAGS_QSIZE, reset=MSI_FLAGS_64BIT | MSI_FLAGS_MASKBIT)
    ADDRESS_LO = Reg(0x04, rw=0xFFFFFFFC)
    ADDRESS_HI = Reg(0x08, rw=0xFFFFFFFF)
    DATA = Reg(0x0C, 2, rw=0xFFFF)
    MASK = Reg(0x10, rw=0xFF)
    PENDING = Reg(0x14)


class MSI32(Layout, length=0x14, cap_id=0x05):
    """MSI registers of a function without 64-bit addresses."""

    FLAGS = Reg(0x02, 2, rw=MSI_FLAGS_ENABLE | MSI_FLAGS_QSIZE)
    ADDRESS = Reg(0x04, rw=0xFFFFFFFC)
    DATA = Reg(0x08, 2, rw=0xFFFF)
    MASK = Reg(0x0C, rw=0xFFFFFFFF)
    PENDING = Reg(0x10)


class MSIX(Layout, length=0x0C, cap_id=0x11):
    """MSI-X capability; the table itself is in memory and not modelled."""

    FLAGS = Reg(0x02, 2, rw=MSIX_FLAGS_ENABLE | MSIX_FLAGS_MASKALL)
    TABLE = Reg(0x04)
    PBA = Reg(0x08)


def qmask(vectors: int) -> int:
    """FLAGS with the request for ``vectors`` (1, 2, 4 or 8) interrupts. Raises ValueError otherwise."""
    if vectors not in (1, 2, 4, 8):
        raise ValueError(f"a function asks for 1, 2, 4 or 8 MSI vectors, not {vectors}")
    return MSI.FLAGS.reset | (vectors.bit_length() - 1) << MSI_FLAGS_QMASK_SHIFT
