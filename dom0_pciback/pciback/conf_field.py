"""What a virtual field of configuration space is, and the state that fields work on.

A field is one row (offset, size, name, read, write). Readers and writers are plain functions of the
device and the offset, so that a table of fields is data that all devices share; what differs from device
to device is in :class:`ConfDevice`. Source: xen-pci.md 6.1 to 6.6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from protocol.sharedinfo import PciErr

SUCCESS = int(PciErr.SUCCESS)
ACCESS_DENIED = int(PciErr.ACCESS_DENIED)

RESOURCE_UNAVAILABLE = 0xB000_0000  # IORESOURCE_BUSY, _UNSET, _DISABLED: a BAR that dom0 does not vouch for
REGION_FLAGS = 0xF  # bits of Resource.flags that stand in the register too: I/O, type, prefetchable


class ConfigAccess(Protocol):
    """How pciback reaches one seized device through dom0's PCI core. No call waits."""

    def read(self, offset: int, size: int) -> int:
        """Hardware register, ``size`` 1, 2 or 4 bytes at an aligned offset inside the device's space."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a hardware register."""

    def enable_device(self) -> int:
        """``pci_enable_device``: memory and I/O decoding on; 0 or a negative errno."""

    def disable_device(self) -> None:
        """``pci_disable_device``."""

    def set_master(self, on: bool) -> None:
        """``pci_set_master`` or ``pci_clear_master``."""

    def set_power_state(self, state: int) -> int:
        """``pci_set_power_state`` to D0..D3hot (0..3); 0 or a negative errno."""


class Resource(NamedTuple):
    """A BAR or the ROM as dom0 knows it: first address, size in bytes (0: none), flags.

    ``flags`` has the low bits of the register in bits 3:0 and may have the kernel's IORESOURCE_DISABLED
    (1 << 28), IORESOURCE_UNSET (1 << 29) and IORESOURCE_BUSY (1 << 31).
    """

    start: int
    size: int
    flags: int

    @property
    def usable(self) -> bool:
        """The resource has an address that a guest may see."""
        return self.size > 0 and not self.flags & RESOURCE_UNAVAILABLE

    @property
    def is_io(self) -> bool:
        """It is an I/O BAR (register bit 0)."""
        return bool(self.flags & 1)

    @property
    def is_64bit(self) -> bool:
        """It is a memory BAR of two registers (register bits 2:1 are 10b)."""
        return self.flags & 7 == 4


NO_RESOURCE = Resource(0, 0, 0)


class Bar:
    """A base address register as the guest sees it (6.4).

    ``val`` is the address with its flag bits, ``len_val`` the answer in sizing mode, ``mask`` the bits that
    do not count in the test for a sizing write.
    """

    __slots__ = ("len_val", "mask", "sizing", "val")

    def __init__(self, val: int, len_val: int, mask: int) -> None:
        self.val = val
        self.len_val = len_val
        self.mask = mask
        self.sizing = False


class ConfDevice:
    """State behind the fields of one device, from its seizure on.

    ``command`` is the last value that the guest wrote to Command; ``enabled``, ``bus_master`` and
    ``enable_intx`` are what dom0 did for the guest. They do not follow a reset of the hardware, which is
    why a write of Command after a bus reset enables nothing (xen-pci-errata.md S4).
    """

    __slots__ = (
        "access", "allow_interrupt_control", "bars", "bus_master", "capabilities", "command", "device",
        "enable_intx", "enabled", "irq", "permissive", "resources", "vendor", "warn",
    )  # fmt: skip

    def __init__(
        self, access: ConfigAccess, resources: tuple[Resource, ...], irq: int, warn: Callable[[str], None]
    ) -> None:
        self.access = access
        self.resources = resources
        self.irq = irq
        self.warn = warn
        self.permissive = False
        self.allow_interrupt_control = False
        self.enabled = False
        self.bus_master = False
        self.enable_intx = False
        self.vendor = access.read(0x00, 2)
        self.device = access.read(0x02, 2)
        self.command = access.read(0x04, 2)
        self.bars: dict[int, Bar] = {}
        self.capabilities: dict[int, int] = {}


Read = Callable[[ConfDevice, int], int]
Write = Callable[[ConfDevice, int, int], int]


class Field(NamedTuple):
    """One virtual field. ``write`` None: writes are ignored with success (CFG-3).

    ``read(device, offset)`` returns the value; ``write(device, offset, value)`` an ``XEN_PCI_ERR_*`` number
    or a negative errno, 0 for success. ``value`` has the field's size.
    """

    offset: int
    size: int
    name: str
    read: Read
    write: Write | None = None


def read_byte(dev: ConfDevice, offset: int) -> int:
    """The hardware's byte."""
    return dev.access.read(offset, 1)


def read_word(dev: ConfDevice, offset: int) -> int:
    """The hardware's 16-bit register."""
    return dev.access.read(offset, 2)


def read_dword(dev: ConfDevice, offset: int) -> int:
    """The hardware's 32-bit register."""
    return dev.access.read(offset, 4)


def write_byte(dev: ConfDevice, offset: int, value: int) -> int:
    """Write through to the hardware's byte."""
    dev.access.write(offset, 1, value)
    return SUCCESS


def write_word(dev: ConfDevice, offset: int, value: int) -> int:
    """Write through to the hardware's 16-bit register."""
    dev.access.write(offset, 2, value)
    return SUCCESS


def write_dword(dev: ConfDevice, offset: int, value: int) -> int:
    """Write through to the hardware's 32-bit register."""
    dev.access.write(offset, 4, value)
    return SUCCESS


# Readers and writers that hand a register of this size through.
PASS_THROUGH: dict[int, tuple[Read, Write]] = {
    1: (read_byte, write_byte),
    2: (read_word, write_word),
    4: (read_dword, write_dword),
}
