"""End-End TLP prefixes (``pci_configure_eetlp_prefix``): how many a function may log (linux-aer.md 1.1, 3.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.layout_pcie import EXP, EXP_DEVCAP2_EETLP_MAX_SHIFT, EXP_DEVCAP2_EETLPP

if TYPE_CHECKING:
    from dom0_pciback.pci.core import PciCore
    from dom0_pciback.pci.device import PciDev

TOP_KINDS = frozenset({"root_port", "rciep"})  # need nobody above who lets prefixes through


def pci_configure_eetlp_prefix(core: PciCore, dev: PciDev) -> None:
    """Set ``eetlp_prefix_max`` from Device Capabilities 2, where 0 means 4; the whole way up must support them."""
    if not dev.exp:
        return
    capabilities = core.read(dev, dev.exp + EXP.DEVCAP2, 4)
    way_up = dev.kind in TOP_KINDS or (dev.bridge is not None and dev.bridge.eetlp_prefix_max)
    if capabilities & EXP_DEVCAP2_EETLPP and way_up:
        dev.eetlp_prefix_max = capabilities >> EXP_DEVCAP2_EETLP_MAX_SHIFT & 3 or 4
