"""A device without a data path: an identity, a signature and scratch registers in every BAR."""

from __future__ import annotations

from dom0_pciback.pcie.devices.base import BusMaster
from kernel_stub.kernel import Kernel
from protocol.device_regs import ALL_ONES, BAR_SIZE

IDENTITY = 0x584E554C  # "XNUL"
SIGNATURE = 0x30BF8024  # what the recorded driver reads at BAR 4 of a live device (xen-pci-errata.md 4.2)


class PlainModel:
    """Offset 0 identity, offset 4 signature (both read-only), the rest keeps what is written until a reset."""

    def __init__(self, kernel: Kernel, bus: BusMaster, label: str) -> None:
        self._scratch: dict[tuple[int, int], int] = {}

    def mmio_read(self, bar: int, offset: int, size: int) -> int:
        """``DeviceModel.mmio_read``."""
        if size not in (1, 2, 4, 8) or offset % size or not 0 <= offset <= BAR_SIZE - size:
            return (1 << 8 * size) - 1
        pair = self._dword(bar, offset & ~3) | self._dword(bar, (offset & ~3) + 4) << 32
        return pair >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def mmio_write(self, bar: int, offset: int, size: int, value: int) -> None:
        """``DeviceModel.mmio_write``; only aligned dwords are taken."""
        if size == 4 and 8 <= offset <= BAR_SIZE - 4 and offset % 4 == 0:
            self._scratch[bar, offset] = value & ALL_ONES

    def reset(self) -> None:
        """``DeviceModel.reset``."""
        self._scratch.clear()

    def _dword(self, bar: int, offset: int) -> int:
        if offset == 0:
            return IDENTITY
        return SIGNATURE if offset == 4 else self._scratch.get((bar, offset), 0)
