"""What dom0 does for a function that was reset: restore it (H18, KILL-4.6) and look whether it is well (H19).

The image for a function that a guest keeps is the one of seizure plus what the guest and dom0 changed since:
decoding and bus mastering as the guest last asked for them, MSI as dom0 has it. Nothing is ever taken from
registers read after the error. AER masks and severities are sticky: a reset leaves them as dom0 set them.
"""

from __future__ import annotations

from dom0_pciback.aer.raw_status import pci_aer_raw_clear_status
from dom0_pciback.aer.status import pcie_clear_device_status
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.state import SavedState, restore_state
from dom0_pciback.pciback.stub import PcistubDevice
from protocol.layout_aer import AER
from protocol.layout_header import COMMAND_IO, COMMAND_MASTER, COMMAND_MEMORY, HEADER, TYPE1
from protocol.layout_pcie import EXP, EXP_DEVCTL_AER_FLAGS

COMMAND_DWORD = 1  # header dword that holds Command
COMMAND_GUEST = COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER  # what a guest may have switched on
HEADER_BARS = range(4, 10)
GONE = frozenset({0xFFFF, 0x0001})  # no answer; the retry value (KILL-4.5)


def live_image(psdev: PcistubDevice) -> SavedState:
    """The image for a function whose guest lives on."""
    header = list(psdev.seized.header)
    command = header[COMMAND_DWORD] & 0xFFFF | psdev.conf.command & COMMAND_GUEST
    header[COMMAND_DWORD] = header[COMMAND_DWORD] & 0xFFFF0000 | command
    return psdev.seized._replace(header=tuple(header), aer=(), msi=psdev.msi_image)


def restore(core: PciCore, dev: PciDev, image: SavedState | None) -> None:
    """``pci_restore_state`` with ``image`` (None: the one saved at enumeration), then no status is left."""
    restore_state(core, dev, image)
    clear_all_status(core, dev)
    core.kernel.trace("recovery.restore", dev.name)


def clear_all_status(core: PciCore, dev: PciDev) -> None:
    """H24: Device Status, all AER status; for a bridge Secondary Status and a root port's status too.

    After EDR it is the kernel that clears them although the firmware owns them (linux-aer.md 10.4).
    """
    pcie_clear_device_status(core, dev)
    pci_aer_raw_clear_status(core, dev)
    if dev.is_bridge:
        core.write(dev, TYPE1.SEC_STATUS, 2, core.read(dev, TYPE1.SEC_STATUS, 2))


def clear_recovered_status(core: PciCore, dev: PciDev, new: int) -> None:
    """H24 for the source at the end of a round, whatever came of it: what the recovery was about.

    A correctable error that has come meanwhile was not, nor were the bits ``new`` of uncorrectable status: they stay
    until their message has been looked at (after a reset ``restore`` has cleared them with all the rest).
    """
    pcie_clear_device_status(core, dev)
    if dev.aer:
        status = dev.aer + AER.UNCOR_STATUS
        core.write(dev, status, 4, core.read(dev, status, 4) & ~new)
    if dev.is_bridge:
        core.write(dev, TYPE1.SEC_STATUS, 2, core.read(dev, TYPE1.SEC_STATUS, 2))


def check(core: PciCore, dev: PciDev, image: SavedState | None, *, again: bool = False) -> str:
    """H19: empty if the function is well, else what is wrong with it; first finding wins.

    ``again``: the second look, at the end. Status that is set by then is a new error, which gets a round or a
    recovery of its own (errata 9.2 no. 14); right after the clearing it means that the reset was no use.
    """
    if text := gone(core, dev):
        return text
    image = image or dev.saved_state
    if image is not None and (ids := core.read(dev, HEADER.VENDOR_ID, 4)) != image.header[0]:
        return _found(core, dev, f"is another device ({_ids(ids)}, not {_ids(image.header[0])})")
    header = _check_header(core, dev, image) if image is not None else ""
    reporting = _check_reporting(core, dev, image) if image is not None else ""
    for text in (header, reporting, "" if again else _check_status(core, dev)):
        if text:
            return _found(core, dev, text)
    core.kernel.trace("recovery.check", dev.name, True, "")
    return ""


def gone(core: PciCore, dev: PciDev) -> str:
    """The first question of ``check`` alone, for a function that nothing was done to; empty if it answers."""
    vendor = core.read(dev, HEADER.VENDOR_ID, 2)
    return _found(core, dev, f"does not answer (vendor id {vendor:04x})") if vendor in GONE else ""


def _found(core: PciCore, dev: PciDev, text: str) -> str:
    core.kernel.trace("recovery.check", dev.name, False, text)
    return text


def _ids(dword: int) -> str:
    return f"{dword & 0xFFFF:04x}:{dword >> 16:04x}"


def _check_header(core: PciCore, dev: PciDev, image: SavedState) -> str:
    command = core.read(dev, HEADER.COMMAND, 2)
    wanted = image.header[COMMAND_DWORD] & 0xFFFF
    if command != wanted:
        return f"Command is {command:04x}, not {wanted:04x}"
    if dev.header_type == 0:
        for index in HEADER_BARS:
            value = core.read(dev, 4 * index, 4)
            if value != image.header[index]:
                return f"BAR {index - 4} is {value:08x}, not {image.header[index]:08x}"
    return ""


def _check_reporting(core: PciCore, dev: PciDev, image: SavedState) -> str:
    """The enables are as they were; who owns AER decides whether they were ever on (linux-aer.md 3.1)."""
    wanted = next((value for offset, _, value in image.exp if offset == dev.exp + EXP.DEVCTL), 0)
    if ~core.read(dev, dev.exp + EXP.DEVCTL, 2) & wanted & EXP_DEVCTL_AER_FLAGS:
        return "error reporting is off in Device Control"
    return ""


def _check_status(core: PciCore, dev: PciDev) -> str:
    if dev.aer:
        mask = core.read(dev, dev.aer + AER.UNCOR_MASK, 4)
        status = core.read(dev, dev.aer + AER.UNCOR_STATUS, 4) & ~mask
        if status:
            return f"uncorrectable status {status:08x} is set again"
    return ""
