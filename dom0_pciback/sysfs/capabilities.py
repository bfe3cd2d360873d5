"""Looking for a capability that enumeration had no use for."""

from __future__ import annotations

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from protocol.layout_header import HEADER, STATUS_CAP_LIST

FIRST = 0x40
LIST_MAX = 48  # PCI_FIND_CAP_TTL
NOBODY = 0xFF  # what a function that does not answer has as identifier


def find_capability(core: PciCore, dev: PciDev, wanted: int) -> int:
    """Offset of a capability, 0 if there is none (``pci_find_capability``)."""
    if not core.read(dev, HEADER.STATUS, 2) & STATUS_CAP_LIST:
        return 0
    offset = core.read(dev, HEADER.CAPABILITY_LIST, 1) & ~3
    for _ in range(LIST_MAX):
        entry = core.read(dev, offset, 2) if offset >= FIRST else NOBODY
        if entry & 0xFF in (wanted, NOBODY):
            return offset if entry & 0xFF == wanted else 0
        offset = entry >> 8 & ~3
    return 0
