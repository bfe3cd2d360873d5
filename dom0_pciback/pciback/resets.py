"""Resets that belong to a recovery or to the hypervisor stub, and the lock that keeps them apart (H21, H22).

One lock per port guards bus reset, FLR, restore and deassignment of everything below it. A frozen recovery
holds it from its first step to the restore, so that no killed function is given to the next guest before
the bus reset that is still owed. A recovery and a reset that somebody asks for by sysfs never run at the same time:
what guests do and what is cleared meanwhile would be lost in the reset. Nor do two recoveries of which one is about
what is below the other's port: drivers would hear the phases of both at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dom0_pciback.aer.root_reset import bridge_of
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.reset import pcie_reset_flr
from dom0_pciback.pci.state import SavedState
from dom0_pciback.pciback.pciback import Pciback
from dom0_pciback.pciback.restore import live_image, restore
from dom0_pciback.pcie.iommu import Iommu
from kernel_stub.kernel import DEBUG
from kernel_stub.sync import Mutex, WaitQueue


class Locks:
    """Several locks taken in order and given back in reverse, as ``async with``."""

    __slots__ = ("locks",)

    def __init__(self, locks: list[Mutex]) -> None:
        self.locks = locks

    async def __aenter__(self) -> None:
        for lock in self.locks:
            await lock.acquire()

    async def __aexit__(self, *error: object) -> None:
        for lock in reversed(self.locks):
            lock.release()


class Turn:
    """``async with``: ``dev`` is among those ``under_way``, once there is nothing ``in_the_way``."""

    __slots__ = ("_dev", "_ends", "_in_the_way", "_under_way")

    def __init__(
        self, ends: WaitQueue, dev: PciDev, under_way: list[PciDev], in_the_way: Callable[[], bool]
    ) -> None:  # fmt: skip
        self._ends = ends
        self._dev = dev
        self._under_way = under_way
        self._in_the_way = in_the_way

    async def __aenter__(self) -> None:
        while self._in_the_way():
            await self._ends.wait()
        self._under_way.append(self._dev)

    async def __aexit__(self, *error: object) -> None:
        self._under_way.remove(self._dev)
        self._ends.wake_all()


class Resets:
    """Reset locks, DMA blocks and images of functions."""

    def __init__(self, core: PciCore, pciback: Pciback, iommu: Iommu) -> None:
        self.core = core
        self.pciback = pciback
        self.iommu = iommu
        self._locks: dict[PciDev, Mutex] = {}
        self._recovering: list[PciDev] = []  # ports
        self._asked: list[PciDev] = []  # functions that are being reset by sysfs
        self._apart = WaitQueue(core.kernel, "a recovery or a reset by sysfs to end")
        pciback.reset_lock = self.lock

    def subtree(self, bridge: PciDev) -> Locks:
        """All that a bus reset of ``bridge`` touches: its lock and those of the ports below, top down."""
        ports = [bridge, *(dev for dev in bridge.below if dev.is_bridge)]
        return Locks([self.lock_of_port(port) for port in ports])

    def lock_of_port(self, bridge: PciDev) -> Mutex:
        """The reset lock of a port."""
        lock = self._locks.get(bridge)
        if lock is None:
            lock = self._locks[bridge] = Mutex(self.core.kernel, f"reset lock of {bridge.name}")
        return lock

    def lock(self, dev: PciDev) -> Mutex:
        """The reset lock of the port above ``dev``."""
        return self.lock_of_port(bridge_of(dev))

    # -- recoveries and resets by sysfs, one after the other -------------------------------------
    def recovering(self, bridge: PciDev) -> Turn:
        """A recovery of all that is below ``bridge``."""

        def in_the_way() -> bool:
            others = (_covers(bridge, other) or _covers(other, bridge) for other in self._recovering)
            return any(others) or any(_covers(bridge, dev) for dev in self._asked)

        return Turn(self._apart, bridge, self._recovering, in_the_way)

    def by_sysfs(self, dev: PciDev) -> Turn:
        """A reset of ``dev`` that nobody but its user needs: it has time until the recovery has ended."""
        return Turn(self._apart, dev, self._asked, lambda: any(_covers(bridge, dev) for bridge in self._recovering))

    # -- resets ----------------------------------------------------------------------------------
    async def flr(self, dev: PciDev) -> str:
        """Function level reset of one function: empty, or why it was not possible. The lock is held."""
        async with dev.device_lock:
            rc = await pcie_reset_flr(self.core, dev)
        if rc:
            return f"no function level reset ({rc})"
        self.core.printk(DEBUG, dev, "reset via flr")
        return ""

    async def flr_all(self, functions: Iterable[PciDev]) -> str:
        """FLR of several functions; the first failure ends it."""
        for dev in functions:
            if text := await self.flr(dev):
                return text
        return ""

    def image(self, dev: PciDev) -> SavedState | None:
        """Configuration that ``dev`` has to get back: None for what was saved at enumeration (ports)."""
        psdev = self.pciback.slots.get(dev.sbdf)
        if psdev is None:
            return None
        return psdev.seized if psdev.pdev is None or psdev.pdev.stopped else live_image(psdev)

    def restore(self, dev: PciDev) -> None:
        """H18 for one function."""
        restore(self.core, dev, self.image(dev))

    # -- DMA (X44) -----------------------------------------------------------------------------
    def block_dma(self, functions: Iterable[PciDev]) -> None:
        """No DMA of frozen functions until they resume, whatever their guests do to Command."""
        for dev in functions:
            self.iommu.block(dev.sbdf)

    def allow_dma(self, functions: Iterable[PciDev]) -> None:
        """The functions resume."""
        for dev in functions:
            self.iommu.unblock(dev.sbdf)


def _covers(bridge: PciDev, dev: PciDev) -> bool:
    return dev is bridge or dev in bridge.below
