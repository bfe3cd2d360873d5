"""End-to-end CRC of TLPs: who enables it (``pcie_set_ecrc_checking``, linux-aer.md 1.6; needs ``CONFIG_PCIE_ECRC``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dom0_pciback.pci.ownership import pcie_aer_is_native
from protocol.layout_aer import (
    AER,
    AER_CAP_ECRC_CHKC,
    AER_CAP_ECRC_CHKE,
    AER_CAP_ECRC_GENC,
    AER_CAP_ECRC_GENE,
)

if TYPE_CHECKING:
    from dom0_pciback.pci.core import PciCore
    from dom0_pciback.pci.device import PciDev

ENABLES = ((AER_CAP_ECRC_GENC, AER_CAP_ECRC_GENE), (AER_CAP_ECRC_CHKC, AER_CAP_ECRC_CHKE))  # capable, enable


def pcie_set_ecrc_checking(core: PciCore, dev: PciDev) -> None:
    """``ecrc=on`` enables what the function is capable of, ``off`` disables it, ``bios`` leaves it as it is."""
    policy = core.boot.ecrc
    if policy == "bios" or not pcie_aer_is_native(core, dev):
        return
    control = core.read(dev, dev.aer + AER.CAP, 4)
    for capable, enable in ENABLES:
        control &= ~enable
        if policy == "on" and control & capable:
            control |= enable
    core.write(dev, dev.aer + AER.CAP, 4, control)
