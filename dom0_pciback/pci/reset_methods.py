"""The list behind ``reset_method`` in sysfs: what a function may be reset by, and in which order.

The kernel makes the list when it finds a function (``pci_init_reset_methods``): its own bus below, if it is
a bridge, has not been scanned then, nor have the functions behind it on the same bus been found. So the first
function of a bus is offered a bus reset that is refused when it is asked for.
"""

from __future__ import annotations

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.reset import RESET_METHODS

BUS = "bus"


def methods_at_enumeration(core: PciCore, dev: PciDev) -> tuple[str, ...]:
    """``pci_init_reset_methods``."""
    return tuple(
        method.label
        for method in RESET_METHODS
        if (_is_first_on_bus(dev) if method.label == BUS else method.offered(core, dev))
    )


def _is_first_on_bus(dev: PciDev) -> bool:
    return dev.bridge is not None and dev.bridge.subordinate[0] is dev and not dev.no_bus_reset


def supported_now(core: PciCore, dev: PciDev, label: str) -> bool:
    """A write to ``reset_method`` may name the method: it is known, and offered by now."""
    return any(method.label == label and method.offered(core, dev) for method in RESET_METHODS)
