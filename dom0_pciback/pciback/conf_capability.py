"""Fields of the capabilities that pciback filters: VPD, power management, MSI, MSI-X.

Every other capability (PCI Express, AF, SR-IOV, AER) has no field: it is read through, and writes to it are
dropped (xen-pci.md 6.5, CFG-4). Source: xen-pci.md 6.5 and 6.6; kernel ``conf_space_capability.c``.
"""

from __future__ import annotations

from enum import IntFlag

from dom0_pciback.pciback.conf_field import (
    ACCESS_DENIED,
    SUCCESS,
    ConfDevice,
    ConfigAccess,
    Field,
    Write,
    read_byte,
    read_dword,
    read_word,
)
from dom0_pciback.pciback.conf_header import CMD_INTX_DISABLE, COMMAND

CAP_PM = 0x01
CAP_VPD = 0x03
CAP_MSI = 0x05
CAP_PCIE = 0x10
CAP_MSIX = 0x11

STATUS = 0x06
STATUS_CAP_LIST = 0x10
CAPABILITY_POINTER = 0x34
MAX_CAPABILITIES = 48  # (256 - 64) / 4: a list that is longer is a loop

VPD_WRITE = 0x8000
PM_CAP_PME = 0xF800
PM_CTRL_STATE = 0x0003
PM_CTRL_PME_ENABLE = 0x0100
PM_CTRL_PME_STATUS = 0x8000
PM_CTRL_GUEST = 0x9E00  # PME_STATUS and DATA_SEL
MSI_ENABLE = 0x0001
MSIX_ENABLE = 0x8000
MSIX_MASKALL = 0x4000


class InterruptType(IntFlag):
    """Interrupts that a device may raise now, read from its registers (6.6)."""

    NONE = 0
    INTX = 1
    MSI = 2
    MSIX = 4


def find_capabilities(access: ConfigAccess) -> dict[int, int]:
    """Walk the capability list: id -> offset of the first capability with that id."""
    found: dict[int, int] = {}
    if not access.read(STATUS, 2) & STATUS_CAP_LIST:
        return found
    offset = access.read(CAPABILITY_POINTER, 1) & 0xFC
    for _ in range(MAX_CAPABILITIES):
        if offset < 0x40:
            break
        entry = access.read(offset, 2)
        if entry & 0xFF == 0xFF:
            break
        found.setdefault(entry & 0xFF, offset)
        offset = entry >> 8 & 0xFC
    return found


def capability_fields(capabilities: dict[int, int]) -> list[Field]:
    """Rows of ``CAPABILITY_FIELDS`` for the capabilities that are there, at absolute offsets."""
    return [
        field._replace(offset=base + field.offset)
        for cap, base in capabilities.items()
        for field in CAPABILITY_FIELDS.get(cap, ())
    ]


def clear_pme_enable(dev: ConfDevice) -> None:
    """At seizure: the device must not wake anybody. PME_STATUS is write-1-to-clear and is left alone."""
    if CAP_PM in dev.capabilities:
        offset = dev.capabilities[CAP_PM] + 4
        now = dev.access.read(offset, 2)
        if now & PM_CTRL_PME_ENABLE:
            dev.access.write(offset, 2, now & ~(PM_CTRL_PME_ENABLE | PM_CTRL_PME_STATUS))


def vpd_address_write(dev: ConfDevice, offset: int, value: int) -> int:
    """Select a VPD address for reading; the flag that starts a write of VPD is denied."""
    if value & VPD_WRITE:
        return ACCESS_DENIED
    dev.access.write(offset, 2, value)
    return SUCCESS


def pm_caps_read(dev: ConfDevice, offset: int) -> int:
    """Capabilities without PME support in any state."""
    return dev.access.read(offset, 2) & ~PM_CAP_PME


def pm_ctrl_write(dev: ConfDevice, offset: int, value: int) -> int:
    """PME_STATUS and DATA_SEL are written; the power state goes through dom0's PCI core."""
    now = dev.access.read(offset, 2)
    dev.access.write(offset, 2, now & ~PM_CTRL_GUEST | value & PM_CTRL_GUEST)
    return ACCESS_DENIED if dev.access.set_power_state(value & PM_CTRL_STATE) else SUCCESS


def active_interrupts(dev: ConfDevice) -> InterruptType:
    """``xen_pcibk_get_interrupt_type()``: INTx counts only if neither MSI nor MSI-X is on."""
    caps, found = dev.capabilities, InterruptType.NONE
    if CAP_MSI in caps and dev.access.read(caps[CAP_MSI] + 2, 2) & MSI_ENABLE:
        found |= InterruptType.MSI
    if CAP_MSIX in caps and dev.access.read(caps[CAP_MSIX] + 2, 2) & MSIX_ENABLE:
        found |= InterruptType.MSIX
    if not found and not dev.access.read(COMMAND, 2) & CMD_INTX_DISABLE:
        found = InterruptType.INTX
    return found


def _flags_write(allowed: int, enable: int, kind: InterruptType) -> Write:
    """Write function of a Message Control register: the five steps of 6.6 for one interrupt type."""

    def write(dev: ConfDevice, offset: int, value: int) -> int:
        if not dev.permissive:
            changed = dev.access.read(offset, 2) ^ value
            if not changed:
                return SUCCESS
            if not dev.allow_interrupt_control or changed & ~allowed:
                return ACCESS_DENIED
            # MSI and MSI-X exclude each other; INTx and the same type do not stand in the way.
            if value & enable and active_interrupts(dev) not in (InterruptType.NONE, InterruptType.INTX, kind):
                return ACCESS_DENIED
        dev.access.write(offset, 2, value)
        return SUCCESS

    return write


msi_flags_write = _flags_write(MSI_ENABLE, MSI_ENABLE, InterruptType.MSI)
msix_flags_write = _flags_write(MSIX_ENABLE | MSIX_MASKALL, MSIX_ENABLE, InterruptType.MSIX)

_ID_AND_NEXT = Field(0, 2, "capability id and next", read_word)

# capability id -> its fields, offsets relative to the capability
CAPABILITY_FIELDS: dict[int, tuple[Field, ...]] = {
    CAP_VPD: (
        _ID_AND_NEXT,
        Field(2, 2, "vpd address", read_word, vpd_address_write),
        Field(4, 4, "vpd data", read_dword),
    ),
    CAP_PM: (
        _ID_AND_NEXT,
        Field(2, 2, "pm capabilities", pm_caps_read),
        Field(4, 2, "pm control", read_word, pm_ctrl_write),
        Field(6, 1, "pm bridge extensions", read_byte),
        Field(7, 1, "pm data", read_byte),
    ),
    CAP_MSI: (_ID_AND_NEXT, Field(2, 2, "msi flags", read_word, msi_flags_write)),
    CAP_MSIX: (_ID_AND_NEXT, Field(2, 2, "msix flags", read_word, msix_flags_write)),
}
