"""Seized devices: ``struct pcistub_device`` and its life (xen-pci.md 4.1, 4.2, 4.7).

seize (probe) > assign to a guest > put back > release. A device is reset and restored to the state of its
seizure whenever it changes hands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.state import SavedState, Values, restore_state, save_state
from dom0_pciback.pciback.conf_field import NO_RESOURCE, Resource
from dom0_pciback.pciback.conf_space import ConfSpace
from kernel_stub.kernel import DEBUG, WARNING
from protocol.layout_header import COMMAND_IO, COMMAND_MASTER, COMMAND_MEMORY, HEADER, bar_offset
from protocol.layout_msi import MSI, MSI_FLAGS_ENABLE
from protocol.layout_pm import PM, PM_CTRL_STATE_MASK

if TYPE_CHECKING:
    from dom0_pciback.pciback.backend import XenPcibkDevice

COMMAND_MEMORY_IO = COMMAND_IO | COMMAND_MEMORY
BARS = {0: 6, 1: 2}  # by header type
BAR_IO, BAR_64BIT = 0x1, 0x4
FIRST_GSI = 16  # gsi of the first device; the others follow in order of seizure
FIRST_PIRQ = 54
WARN_BURST = 10  # warnings that a guest can provoke, per assignment
ENXIO, ENODEV = 6, 19


class HostAccess:
    """``ConfigAccess`` of the virtual configuration space: one device through dom0's PCI core.

    ``verbose``: the debug line of ``__pci_set_master``, which a guest can provoke as often as it likes.
    """

    __slots__ = ("_read", "_sbdf", "_write", "core", "decoding", "dev", "verbose")

    def __init__(self, core: PciCore, dev: PciDev, *, verbose: bool) -> None:
        self.core = core
        self.dev = dev
        self.verbose = verbose
        self.decoding = COMMAND_MEMORY_IO
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
        """``pci_enable_device``: the decodings for which dom0 has resources (6.3)."""
        self.core.update(self.dev, HEADER.COMMAND, 2, 0, self.decoding)
        return 0

    def disable_device(self) -> None:
        """``pci_disable_device``: the last thing it does is to end bus mastering."""
        self.set_master(False)

    def set_master(self, on: bool) -> None:
        """``pci_set_master`` or ``pci_clear_master``."""
        changed = bool(self.read(HEADER.COMMAND, 2) & COMMAND_MASTER) != on
        if changed and self.verbose:
            self.core.printk(DEBUG, self.dev, f"{'en' if on else 'dis'}abling bus mastering")
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
        self.access = HostAccess(core, dev, verbose=not hardened)
        self.seized: SavedState = save_state(core, dev)
        self.msi_image: Values = ()
        resources = read_resources(core, dev)
        self.access.decoding = _decoding(resources)
        self.conf = ConfSpace(
            self.access,
            resources=resources,
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

    def say_interrupt_off(self) -> None:
        """``xen_pcibk_reset_device``: the shared interrupt is no longer acknowledged for the guest (6.8)."""
        if self.conf.enable_intx:
            for irq, what in ((self.gsi, "enable-> disable"), (0, "disabled")):
                text = f"xen_pciback: xen-pciback[{self.dev.name}]: #{irq} on  {what}"
                self.core.printk(DEBUG, self.dev, text)

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


def _decoding(resources: tuple[Resource, ...]) -> int:
    """Command bits that ``pci_enable_resources`` sets."""
    kinds = {COMMAND_IO if resource.is_io else COMMAND_MEMORY for resource in resources if resource.usable}
    return sum(kinds)


def read_resources(core: PciCore, dev: PciDev) -> tuple[Resource, ...]:
    """The BARs of a device, sized as ``pci_read_bases`` does; decoding is off meanwhile."""
    command = core.read(dev, HEADER.COMMAND, 2)
    core.write(dev, HEADER.COMMAND, 2, command & ~COMMAND_MEMORY_IO)
    registers = [_size_register(core, dev, bar_offset(index)) for index in range(BARS[dev.header_type])]
    core.write(dev, HEADER.COMMAND, 2, command)
    found: list[Resource] = []
    for index, (value, sizing) in enumerate(registers):
        if found and found[-1].is_64bit:
            found.append(NO_RESOURCE)  # the upper half of the one before
            continue
        flags = value & (0x3 if value & BAR_IO else 0xF)
        high, high_sizing = registers[index + 1] if flags & 7 == BAR_64BIT else (0, 0)
        mask = high_sizing << 32 | sizing & ~flags
        found.append(Resource(high << 32 | value & ~flags, mask & -mask, flags))
    return tuple(found)


def _size_register(core: PciCore, dev: PciDev, offset: int) -> tuple[int, int]:
    """A base address register, and what it answers to all ones."""
    value = core.read(dev, offset, 4)
    core.write(dev, offset, 4, 0xFFFFFFFF)
    sizing = core.read(dev, offset, 4)
    core.write(dev, offset, 4, value)
    return value, sizing
