"""The guest's PCI buses: which devices it has, found by reading configuration space, and their drivers.

``pcifront_scan_root`` tries all 256 devfn of a root bus (BUS-22); a device that answers gets a
``GuestPciDev`` and a driver: the one that the guest's configuration names for it, else one that knows its ids.
A device is known by its address as one number (``Sbdf.number``), called ``devfn`` here: on the one bus of the
usual virtual topology it is no more than that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from domu_pcifront import plain
from domu_pcifront.device import GuestPciDev
from domu_pcifront.driver import PciDriver, ProbeError, driver_for_ids, load_driver
from domu_pcifront.pci_op import PciOps
from domu_pcifront.resources import Resources
from kernel_stub.kernel import ERR, INFO, Kernel
from kernel_stub.places import said, users_place
from kernel_stub.sync import Mutex
from protocol.ids import Sbdf
from protocol.topology import GuestDriverSpec

PREFIX = "pcifront pci-0:"
PROBE_FAILED = ": probe failed: "
ABSENT = (0xFFFFFFFF, 0x00000000, 0x0000FFFF, 0xFFFF0000)  # vendor/device dwords that mean "nobody here"

Root = tuple[int, int]  # segment, bus
MakeDevice = Callable[[int], GuestPciDev]


class GuestBus:
    """The root buses of one guest. ``wanted[devfn]`` is the driver that the guest's configuration asks for."""

    def __init__(self, kernel: Kernel, make_device: MakeDevice) -> None:
        self.kernel = kernel
        self.make_device = make_device
        self.devices: dict[int, GuestPciDev] = {}
        self.wanted: dict[int, GuestDriverSpec] = {}
        self.rescan_remove = Mutex(kernel, "pci_lock_rescan_remove")
        self.roots: set[Root] = set()
        self.resources = Resources(kernel, PREFIX)

    def driver_of(self, devfn: int) -> PciDriver | None:
        """The driver bound to a device, None if there is neither."""
        device = self.devices.get(devfn)
        return device.driver if device is not None else None

    async def scan(self, ops: PciOps, root: Root = (0, 0)) -> None:
        """Look at every devfn of a root bus; claim what the new ones have, then bind them."""
        verb = "Rescanning" if root in self.roots else "Creating"
        self.kernel.printk(INFO, f"{PREFIX} {verb} PCI Frontend Bus {root[0]:04x}:{root[1]:02x}")
        self.roots.add(root)
        first = Sbdf(*root, 0, 0).number
        async with self.rescan_remove:
            found = []
            for devfn in range(first, first + 256):
                if devfn not in self.devices and await ops.read(devfn, 0, 4) not in ABSENT:
                    found.append(await self._add(devfn))
            for device in found:
                await self.resources.claim(device)
            for device in found:
                await self._bind(device)

    async def _add(self, devfn: int) -> GuestPciDev:
        device = self.devices[devfn] = self.make_device(devfn)
        await device.identify()
        self.kernel.printk(INFO, f"{PREFIX} New device on {Sbdf.from_number(devfn)} found.")
        return device

    async def _bind(self, device: GuestPciDev) -> None:
        """A driver that does not exist or cannot start leaves its device without one."""
        name = ""
        try:
            cls, options = self._driver_for(device)
            if cls is None:
                return
            name = cls.name
            device.driver = cls(device, options)
            await plain.call(device.driver.probe)
        except Exception as error:  # whatever a user's driver raises: the other devices are served all the same
            self.kernel.printk(ERR, f"{name} {device.name}{PROBE_FAILED}{_shown(error)}")
            device.driver = None

    def _driver_for(self, device: GuestPciDev) -> tuple[type[PciDriver] | None, dict[str, Any]]:
        """The driver that the configuration names, else the one that knows the ids. Raises ValueError."""
        spec = self.wanted.get(device.devfn)
        if spec is None:
            return driver_for_ids(device.vendor, device.device), {}
        return load_driver(spec.driver, spec.folder), spec.options

    async def remove(self, devfn: int) -> None:
        """``pci_stop_and_remove_bus_device``: the driver's remove runs here and may use the device."""
        async with self.rescan_remove:
            device = self.devices.get(devfn)
            if device is None:
                return
            if device.driver is not None:
                await plain.call(device.driver.remove)
                device.driver = None
            self.resources.release(device)
            del self.devices[devfn]
            self.kernel.printk(INFO, f"{PREFIX} PCI device {device.name} removed.")

    async def remove_all(self) -> None:
        """``pcifront_free_roots``."""
        for devfn in sorted(self.devices):
            await self.remove(devfn)
        self.roots.clear()


def _shown(error: Exception) -> str:
    """A driver says by ProbeError, in its own words, that it cannot start; anything else is a mistake in it."""
    kind = "" if isinstance(error, ProbeError) else f"{type(error).__name__}: "
    return f"{kind}{said(error)}{users_place(error)}"
