"""Taking a function away from the kernel: ``pci_stop_and_remove_bus_device`` (errata 6.2, 7.1, 7.3)."""

from __future__ import annotations

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev


async def pci_stop_and_remove_bus_device(core: PciCore, dev: PciDev) -> None:
    """Unbind the driver, announce the end, and forget the function; what is below a bridge goes first.

    The uevent ``remove`` comes before the wait for ``pci_bus_sem``: a walk that has begun still meets the
    function, without a driver and with a path that leads nowhere.
    """
    for child in reversed(list(dev.subordinate)):
        await pci_stop_and_remove_bus_device(core, child)
    await core.unbind(dev)
    core.uevent(dev, "remove")
    dev.devpath = f"/{dev.name}"
    await core.bus_sem.down_write()
    core.forget(dev)
    core.kernel.trace("pci.remove", dev.name)
