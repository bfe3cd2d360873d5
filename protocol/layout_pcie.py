"""PCI Express capability (ID 0x10): Device, Link, Slot and Root registers.

Source: linux-aer.md 1.1; errata 4.1 for values and 4.4 for what a reset leaves (Device Status, Link Status,
Slot Control and Slot Status stay). Offsets are relative to the capability.
"""

from __future__ import annotations

from protocol.registers import Layout, Reg

SLOT_PORTS = ("root_port", "downstream_port")

ROOTS = ("root_port", "event_collector")  # have root error registers

EXP_TYPE: dict[str, int] = {
    "endpoint": 0x0,
    "root_port": 0x4,
    "upstream_port": 0x5,
    "downstream_port": 0x6,
    "pcie_pci_bridge": 0x7,
    "rciep": 0x9,
    "event_collector": 0xA,
}

EXP_FLAGS_VERSION = 0x0002
EXP_FLAGS_VERSION_MASK = 0x000F
EXP_FLAGS_TYPE_SHIFT = 4
EXP_FLAGS_SLOT = 0x0100

EXP_DEVCAP_RBER = 0x00008000
EXP_DEVCAP_FLR = 0x10000000

EXP_DEVCTL_CERE = 0x0001
EXP_DEVCTL_NFERE = 0x0002
EXP_DEVCTL_FERE = 0x0004
EXP_DEVCTL_URRE = 0x0008
EXP_DEVCTL_AER_FLAGS = 0x000F
EXP_DEVCTL_FLR = 0x8000  # starts a reset when written as 1, always reads 0
EXP_DEVCTL_WRITABLE = 0x7FFF

EXP_DEVSTA_CED = 0x0001
EXP_DEVSTA_NFED = 0x0002
EXP_DEVSTA_FED = 0x0004
EXP_DEVSTA_URD = 0x0008
EXP_DEVSTA_ERRORS = 0x000F
EXP_DEVSTA_TRPND = 0x0020

EXP_LNKCAP_WIDTH_SHIFT = 4
EXP_LNKCAP_SDERC = 0x00080000
EXP_LNKCAP_DLLLARC = 0x00100000

EXP_LNKSTA_2_5GT_X1 = 0x0011
EXP_LNKSTA_SPEED_WIDTH = 0x03FF
EXP_LNKSTA_DLLLA = 0x2000

EXP_SLTCAP_NUMBER_SHIFT = 19
EXP_SLTSTA_EVENTS = 0x011F
EXP_SLTSTA_ATTENTION = 0x0001
EXP_SLTSTA_PRESENCE_CHANGED = 0x0008
EXP_SLTSTA_COMMAND_COMPLETED = 0x0010
EXP_SLTSTA_PRESENT = 0x0040
EXP_SLTCTL_IDLE = 0x03C0

EXP_DEVCAP2_EXTENDED_FMT = 0x00100000
EXP_DEVCAP2_EETLPP = 0x00200000
EXP_DEVCAP2_EETLP_MAX_SHIFT = 22  # two bits, 0 means 4

EXP_RTCTL_SERR = 0x0007
EXP_RTSTA_PME = 0x00010000


class EXP(Layout, length=0x3C, cap_id=0x10):
    """PCI Express capability structure, version 2."""

    FLAGS = Reg(0x02, 2)
    DEVCAP = Reg(0x04)
    DEVCTL = Reg(0x08, 2, rw=EXP_DEVCTL_WRITABLE)
    DEVSTA = Reg(0x0A, 2, w1c=EXP_DEVSTA_ERRORS, sticky=True)
    LNKCAP = Reg(0x0C)
    LNKCTL = Reg(0x10, 2, rw=0x0FDB)
    LNKSTA = Reg(0x12, 2, w1c=0xC000, sticky=True, reset=EXP_LNKSTA_2_5GT_X1)
    SLTCAP = Reg(0x14).only_in(*SLOT_PORTS)
    SLTCTL = Reg(0x18, 2, rw=0x1FFF, sticky=True, reset=EXP_SLTCTL_IDLE).only_in(*SLOT_PORTS)
    SLTSTA = Reg(0x1A, 2, w1c=EXP_SLTSTA_EVENTS, sticky=True).only_in(*SLOT_PORTS)
    RTCTL = Reg(0x1C, 2, rw=0x001F).only_in(*ROOTS)
    RTCAP = Reg(0x1E, 2).only_in(*ROOTS)
    RTSTA = Reg(0x20, w1c=EXP_RTSTA_PME).only_in(*ROOTS)
    DEVCAP2 = Reg(0x24, reset=EXP_DEVCAP2_EXTENDED_FMT | EXP_DEVCAP2_EETLPP)
    DEVCTL2 = Reg(0x28, 2, rw=0x001F)
    DEVSTA2 = Reg(0x2A, 2)
    LNKCAP2 = Reg(0x2C, reset=0x00000002)
    LNKCTL2 = Reg(0x30, 2, rw=0x000F, reset=0x0001)
    LNKSTA2 = Reg(0x32, 2)
    SLTCAP2 = Reg(0x34)
    SLTCTL2 = Reg(0x38, 2)
    SLTSTA2 = Reg(0x3A, 2)
