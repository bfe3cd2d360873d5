"""dom0's PCI core: the devices, access to their configuration space, drivers, log lines and uevents."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import PciDriver
from dom0_pciback.pci.enumerate import enumerate_devices
from dom0_pciback.pci.hardware import HierarchyLike
from dom0_pciback.pci.ownership import owns_aer
from dom0_pciback.pci.regs import ALL_ONES
from kernel_stub.kernel import Kernel
from kernel_stub.sync import Mutex, ReadersLock
from protocol.ers import ChannelState
from protocol.ids import Sbdf
from protocol.topology import BootSpec, TimingSpec

Read = Callable[[Sbdf, int, int], int]
Write = Callable[[Sbdf, int, int, int], None]
ResetGuard = Callable[[PciDev], AbstractAsyncContextManager[None]]
_GONE = ChannelState.PERM_FAILURE


class PciCore:
    """Owner of all ``PciDev``. Enumerates the hierarchy when it is made (``pci_scan_child_bus``).

    ``devices`` is in the order of ``pci_walk_bus``: ascending device and function, a bridge before what is
    below it. ``boot`` decides who owns AER (3.1, ``pci.ownership``); by default dom0 does, everywhere.
    """

    def __init__(
        self, kernel: Kernel, hierarchy: HierarchyLike, timing: TimingSpec, boot: BootSpec | None = None
    ) -> None:
        self.kernel = kernel
        self.hierarchy = hierarchy
        self.timing = timing
        self.boot = boot or BootSpec()
        self.owns_aer = owns_aer(self.boot)
        self.bus_sem = ReadersLock(kernel, "pci_bus_sem")  # held for reading through a recovery (errata 6.2)
        self.rescan_remove_lock = Mutex(kernel, "pci_rescan_remove_lock")
        self.reset_guard: ResetGuard = lambda dev: nullcontext()  # around every reset by sysfs
        self._read: Read = hierarchy.read
        self._write: Write = hierarchy.write
        self.devices: dict[Sbdf, PciDev] = {}
        self.drivers: dict[str, PciDriver] = {}
        self.wanted: dict[Sbdf, str] = {}  # driver_override: which driver a function gets when it is found
        enumerate_devices(self)

    # -- configuration space -------------------------------------------------------------------
    def read(self, dev: PciDev, offset: int, size: int) -> int:
        """Configuration read of 1, 2 or 4 bytes; all ones from a disconnected device (4.6)."""
        if dev.error_state is _GONE:
            return ALL_ONES[size]
        return self._read(dev.sbdf, offset, size)

    def write(self, dev: PciDev, offset: int, size: int, value: int) -> None:
        """Configuration write of 1, 2 or 4 bytes; dropped for a disconnected device."""
        if dev.error_state is not _GONE:
            self._write(dev.sbdf, offset, size, value)

    def update(self, dev: PciDev, offset: int, size: int, clear: int, set_: int) -> None:
        """Read, clear bits, set bits, write (``pcie_capability_clear_and_set_word``)."""
        self.write(dev, offset, size, self.read(dev, offset, size) & ~clear | set_)

    def replace_operations(self, read: Read, write: Write) -> None:
        """Put other bus operations in the place of the hardware's (``pci_bus_set_ops``)."""
        self._read, self._write = read, write

    # -- devices and drivers -------------------------------------------------------------------
    def walk_bus(self, bridge: PciDev) -> tuple[PciDev, ...]:
        """Everything below ``bridge``, without it, depth first (``pci_walk_bus``)."""
        return bridge.below

    def register_driver(self, driver: PciDriver) -> None:
        """``pci_register_driver``, without a match table: who wants a device bound to it says so."""
        self.drivers[driver.name] = driver

    async def bind(self, dev: PciDev, driver: PciDriver) -> int:
        """Bind ``driver`` under the device lock; 0, -16 if another one is bound, or what ``probe`` returned."""
        async with dev.device_lock:
            if dev.driver is not None:
                return -16
            dev.set_driver(driver)
            rc = await driver.probe(dev) if driver.probe is not None else 0
            if rc < 0:
                dev.set_driver(None)
            else:
                self.kernel.trace("pci.bind", dev.name, driver.name)
                self.uevent(dev, "bind")
            return rc

    async def unbind(self, dev: PciDev) -> None:
        """Call the driver's ``remove`` under the device lock and forget it; nothing if none is bound."""
        async with dev.device_lock:
            driver = dev.driver
            if driver is None:
                return
            if driver.remove is not None:
                await driver.remove(dev)
            dev.set_driver(None)
            self.kernel.trace("pci.unbind", dev.name, driver.name)
            self.uevent(dev, "unbind")

    def forget(self, dev: PciDev) -> None:
        """Take ``dev`` off the bus lists (``pci_destroy_dev``)."""
        self.devices.pop(dev.sbdf, None)
        if dev.bridge is not None and dev in dev.bridge.subordinate:
            dev.bridge.subordinate.remove(dev)
        above = dev.bridge
        while above is not None:
            above.below = tuple(each for each in above.below if each is not dev)
            above = above.bridge

    # -- what is left behind -------------------------------------------------------------------
    def printk(self, level: int, dev: PciDev, text: str) -> None:
        """``dev_printk``: the line with ``<driver or "pci"> <DBDF>: `` in front (5.1)."""
        self.kernel.printk(level, dev.prefix + text)

    def uevent(self, dev: PciDev, action: str, event: str = "", online: int | str = "") -> None:
        """An event of the device; ``change`` has ERROR_EVENT and DEVICE_ONLINE (4.7). No DRIVER while unbound."""
        driver = dev.driver
        self.kernel.trace("uevent", dev.name, action, event, online, driver.name if driver else "", dev.devpath)
