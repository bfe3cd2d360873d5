"""What the attributes of one function are about: the function, and what enumeration found out once for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dom0_pciback.aer.core import AerCore
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.reset_methods import methods_at_enumeration
from dom0_pciback.sysfs import resources
from dom0_pciback.sysfs.capabilities import find_capability
from protocol.layout_header import CONFIG_SIZE, HEADER, TYPE0
from protocol.layout_pcie import EXP, SLOT_PORTS

CONVENTIONAL_SIZE = 256
CHUNK = 0x100  # configuration space that is not all zero is looked at again in pieces of this size
ALL_ONES = 0xFFFFFFFF
SSVID_CAP_ID, SSVID_VENDOR, SSVID_DEVICE = 0x0D, 4, 6  # subsystem of a bridge: capability, its registers


class Identity(NamedTuple):
    """What does not change while the function is there (``pci_setup_device`` and ``pci_init_capabilities``).

    ``config_end`` is where the last capability ends; beyond it configuration space is reserved and reads 0.
    """

    path: str
    subsystem: tuple[int, int]
    revision: int
    resources: tuple[resources.Row, ...]
    reset_methods: tuple[str, ...]
    config_size: int
    config_end: int
    lnkcap: int
    lnkcap2: int
    sltcap: int


@dataclass(slots=True)
class Subject:
    """One function as its attributes see it."""

    core: PciCore
    aer: AerCore
    dev: PciDev
    identity: Identity

    def config(self) -> bytes:
        """Configuration space as it is now; all ones if nobody answers (``pci_read_config``)."""
        dev, size = self.dev, self.identity.config_size
        return b"".join(_dwords(self.core, dev, self.identity.config_end)).ljust(
            size, b"\xff" if self.core.read(dev, 0, 4) == ALL_ONES else b"\0"
        )


def identify(core: PciCore, dev: PciDev) -> Identity:
    """Look at a function that has just been found."""
    size = CONFIG_SIZE if dev.exp else CONVENTIONAL_SIZE
    link = {reg: core.read(dev, dev.exp + reg, 4) if dev.exp else 0 for reg in (EXP.LNKCAP, EXP.LNKCAP2)}
    slot = dev.exp and dev.kind in SLOT_PORTS
    return Identity(
        path=dev.devpath.removeprefix("/"),
        subsystem=_subsystem(core, dev),
        revision=core.read(dev, HEADER.REVISION_ID, 1),
        resources=resources.rows(core, dev),
        reset_methods=methods_at_enumeration(core, dev),
        config_size=size,
        config_end=_config_end(core, dev, size),
        lnkcap=link[EXP.LNKCAP],
        lnkcap2=link[EXP.LNKCAP2],
        sltcap=core.read(dev, dev.exp + EXP.SLTCAP, 4) if slot else 0,
    )


def _subsystem(core: PciCore, dev: PciDev) -> tuple[int, int]:
    """Vendor and device; bridges have them in a capability, and without it the kernel shows 0."""
    vendor, device = int(TYPE0.SUBSYSTEM_VENDOR_ID), int(TYPE0.SUBSYSTEM_ID)
    if dev.is_bridge:
        found = find_capability(core, dev, SSVID_CAP_ID)
        if not found:
            return 0, 0
        vendor, device = found + SSVID_VENDOR, found + SSVID_DEVICE
    return core.read(dev, vendor, 2), core.read(dev, device, 2)


def _dwords(core: PciCore, dev: PciDev, end: int) -> list[bytes]:
    return [core.read(dev, offset, 4).to_bytes(4, "little") for offset in range(0, end, 4)]


def _config_end(core: PciCore, dev: PciDev, size: int) -> int:
    used = len(b"".join(_dwords(core, dev, size)).rstrip(b"\0"))
    return min(size, -(-used // CHUNK) * CHUNK)
