"""``dev.sync``: the device as plain driver methods use it. Each call waits; see ``domu_pcifront.plain``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from domu_pcifront.plain import wait

if TYPE_CHECKING:
    from domu_pcifront.device import GuestPciDev


class SyncDevice:
    """The methods of ``GuestPciDev``, without ``await``. Raises NotInHandlerError outside driver methods."""

    __slots__ = ("_dev",)

    def __init__(self, dev: GuestPciDev) -> None:
        self._dev = dev

    def read_config(self, offset: int, size: int) -> int:
        """``GuestPciDev.read_config``."""
        return int(wait(self._dev.read_config, offset, size))

    def write_config(self, offset: int, size: int, value: int) -> None:
        """``GuestPciDev.write_config``."""
        wait(self._dev.write_config, offset, size, value)

    def find_capability(self, cap: int) -> int:
        """``GuestPciDev.find_capability``."""
        return int(wait(self._dev.find_capability, cap))

    def enable_device(self) -> int:
        """``GuestPciDev.enable_device``."""
        return int(wait(self._dev.enable_device))

    def disable_device(self) -> None:
        """``GuestPciDev.disable_device``."""
        wait(self._dev.disable_device)

    def set_master(self) -> None:
        """``GuestPciDev.set_master``."""
        wait(self._dev.set_master)

    def save_state(self) -> None:
        """``GuestPciDev.save_state``."""
        wait(self._dev.save_state)

    def restore_state(self) -> None:
        """``GuestPciDev.restore_state``."""
        wait(self._dev.restore_state)

    def mmio_read(self, bar: int, offset: int, size: int = 4) -> int:
        """``GuestPciDev.mmio_read``."""
        return int(wait(self._dev.mmio_read, bar, offset, size))

    def mmio_write(self, bar: int, offset: int, value: int, size: int = 4) -> None:
        """``GuestPciDev.mmio_write``; posted, so it does not wait."""
        self._dev.mmio_write(bar, offset, value, size)

    def enable_msi(self, count: int = 1) -> int:
        """``GuestPciDev.enable_msi``."""
        return int(wait(self._dev.enable_msi, count))

    def disable_msi(self) -> None:
        """``GuestPciDev.disable_msi``."""
        wait(self._dev.disable_msi)

    def msi_active(self) -> bool:
        """``GuestPciDev.msi_active``."""
        return bool(wait(self._dev.msi_active))

    def on_msi(self, vector: int, callback: Callable[[], None]) -> None:
        """``GuestPciDev.on_msi``; does not wait."""
        self._dev.on_msi(vector, callback)

    def wait_msi(self, vector: int, timeout_ns: int) -> bool:
        """``GuestPciDev.wait_msi``."""
        return bool(wait(self._dev.wait_msi, vector, timeout_ns))

    def sleep(self, ms: float) -> None:
        """``GuestPciDev.sleep``."""
        wait(self._dev.sleep, ms)

    def printk(self, level: int, text: str) -> None:
        """``GuestPciDev.printk``; does not wait."""
        self._dev.printk(level, text)

    def trace(self, label: str, *fields: Any) -> None:
        """``GuestPciDev.trace``; does not wait."""
        self._dev.trace(label, *fields)
