"""A driver that has never heard of error recovery: no handlers, no data path."""

from __future__ import annotations

from typing import ClassVar

from domu_pcifront.driver import PciDriver, ProbeError


class Silent(PciDriver):
    """Enables its device and does nothing more. An error of its device costs the guest (FE-20)."""

    name: ClassVar[str] = "silent"

    async def probe(self) -> None:
        """Switch the device on."""
        if await self.dev.enable_device() < 0:
            raise ProbeError("cannot enable the device")
        await self.dev.set_master()

    async def remove(self) -> None:
        """Switch the device off."""
        await self.dev.disable_device()
