"""Seized devices: ``struct pcistub_device`` and its life (xen-pci.md 4.1, 4.2, 4.7).

seize (probe) > assign to a guest > put back > release. A device is reset and restored to the state of its
seizure whenever it changes hands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.state import SavedState, Values, restore_state, save_state
from dom0_pciback.pciback.conf_space import ConfSpace, Resource
from kernel_stub.kernel import WARNING
from protocol.layout_header import COMMAND_IO, COMMAND_MASTER, COMMAND_MEMORY, HEADER, bar_offset
from protocol.layout_msi import MSI, MSI_FLAGS_ENABLE
from protocol.layout_pm import PM, PM_CTRL_STATE_MASK

if TYPE_CHECKING:
    from dom0_pciback.pciback.backend import XenPcibkDevice

COMMAND_MEMORY_IO = COMMAND_IO | COMMAND_MEMORY
BARS = {0: 6, 1: 2}  # by header type
FIRST_GSI = 16  # gsi of the first device; the others follow in order of seizure
FIRST_PIRQ = 54
WARN_BURST = 10  # warnings that a guest can provoke, per assignment
ENXIO, ENODEV = 6, 19


class HostAccess:
    """``ConfigAccess`` of the virtual configuration space: one device through dom0's PCI core."""

    __slots__ = ("_read", "_sbdf", "_write", "core", "dev")

    def __init__(self, core: PciCore, dev: PciDev) -> None:
        self.core = core
        self.dev = dev
        self._sbdf = dev.sbdf
        self._read = core.hierarchy.read
        self._write = core.hierarchy.write

    def read(self, offset: int, size: int) -> int:
        """Hardware register."""
        return self._read(self._sbdf, offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Hardware register."""
        self._write(self._sbdf, offset, size, value)

    def enable_device(self) -> int:
        """``pci_enable_device``: both decodings, as dom0's resources say."""
        self.core.update(self.dev, HEADER.COMMAND, 2, 0, COMMAND_MEMORY_IO)
        return 0

    def disable_device(self) -> None:
        """``pci_disable_device``: the last thing it does is to end bus mastering."""
        self.set_master(False)

    def set_master(self, on: bool) -> None:
        """``pci_set_master`` or ``pci_clear_master``."""
        self.core.update(self.dev, HEADER.COMMAND, 2, COMMAND_MASTER, COMMAND_MASTER if on else 0)

    def set_power_state(self, state: int) -> int:
        """``pci_set_power_state`` by the PM control register."""
        if not self.dev.pm:
            return -ENODEV
        self.core.update(self.dev, self.dev.pm + PM.CTRL, 2, PM_CTRL_STATE_MASK, state)
        return 0


class PcistubDevice:
    """One seized function. ``pdev`` is the guest that has it, None while nobody has.

    ``detaching`` is set first when a guest is to give the device back (H11); ``faulty`` says why a device
    must not be given to anybody (KILL-5); ``clean`` is true from the stub's reset to the next assignment.
    """

    __slots__ = (
        "access", "clean", "conf", "core", "detaching", "dev", "faulty", "gsi", "leaked", "msi_image", "pdev", "pirq",
        "seized", "warnings", "young_since",
    )  # fmt: skip

    def __init__(self, core: PciCore, dev: PciDev, number: int, *, hardened: bool) -> None:
        self.core = core
        self.dev = dev
        self.gsi = FIRST_GSI + number
        self.pirq = FIRST_PIRQ + number
        self.pdev: XenPcibkDevice | None = None
        self.detaching = False
        self.clean = False
        self.young_since: int | None = None  # exported then (ns), and the guest has not taken it up yet (H13)
        self.faulty = ""
        self.leaked = False  # a gsi look-up has kept a reference (D13)
        self.warnings = 0
        self.access = HostAccess(core, dev)
        self.seized: SavedState = save_state(core, dev)
        self.msi_image: Values = ()
        self.conf = ConfSpace(
            self.access,
            resources=read_resources(core, dev),
            irq=self.gsi,
            hardened=hardened,
            warn=lambda text: core.printk(WARNING, dev, text),
        )

    @property
    def domid(self) -> int | None:
        """Domain that has the device, None if nobody has."""
        return self.pdev.domid if self.pdev is not None else None

    @property
    def memory_enabled(self) -> bool:
        """Memory decoding is on in hardware."""
        return bool(self.access.read(HEADER.COMMAND, 2) & COMMAND_MEMORY)

    @property
    def msi_enabled(self) -> bool:
        """MSI is on in hardware."""
        return bool(self.dev.msi and self.access.read(self.dev.msi + MSI.FLAGS, 2) & MSI_FLAGS_ENABLE)

    def enable_msi(self) -> int:
        """``pci_enable_msi``: 0, or the errno (positive) that the guest is not told."""
        if not self.dev.msi:
            return ENXIO
        self.core.update(self.dev, self.dev.msi + MSI.FLAGS, 2, 0, MSI_FLAGS_ENABLE)
        self.msi_image = save_state(self.core, self.dev).msi
        return 0

    def disable_msi(self) -> None:
        """``pci_disable_msi``; nothing if it is off."""
        self.msi_image = ()
        if self.msi_enabled:
            self.core.update(self.dev, self.dev.msi + MSI.FLAGS, 2, MSI_FLAGS_ENABLE, 0)

    def may_warn(self) -> bool:
        """One more warning that the guest provoked: False once it has had its share."""
        self.warnings += 1
        return self.warnings <= WARN_BURST

    def restore_seized(self) -> None:
        """Configuration space as it was at seizure (4.7, KILL-4.6)."""
        restore_state(self.core, self.dev, self.seized)

    def forget_guest(self, *, keep_permissive: bool) -> None:
        """Virtual fields as new; permissive mode ends with the assignment unless D24 is on (BE-20)."""
        self.conf.reset_fields(keep_permissive=keep_permissive)
        self.pdev = None
        self.young_since = None
        self.detaching = False
        self.warnings = 0


def read_resources(core: PciCore, dev: PciDev) -> tuple[Resource, ...]:
    """The BARs of a device, sized as ``pci_read_bases`` does; decoding is off meanwhile."""
    command = core.read(dev, HEADER.COMMAND, 2)
    core.write(dev, HEADER.COMMAND, 2, command & ~COMMAND_MEMORY_IO)
    found = tuple(_read_bar(core, dev, bar_offset(index)) for index in range(BARS[dev.header_type]))
    core.write(dev, HEADER.COMMAND, 2, command)
    return found


def _read_bar(core: PciCore, dev: PciDev, offset: int) -> Resource:
    value = core.read(dev, offset, 4)
    core.write(dev, offset, 4, 0xFFFFFFFF)
    sizing = core.read(dev, offset, 4)
    core.write(dev, offset, 4, value)
    mask = 0x3 if value & 1 else 0xF
    size = -(sizing & ~mask) & 0xFFFFFFFF
    return Resource(value & ~mask, size, value & mask)
