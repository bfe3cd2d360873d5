"""Configuration header, type 0 (endpoints) and type 1 (bridges), and the bits that error handling uses.

Source: linux-aer.md 1.1 (header bits), errata 4.1 (values after boot) and 4.4 (what a reset clears).
"""

from __future__ import annotations

from protocol.registers import Layout, Reg

CONFIG_SIZE = 4096

COMMAND_IO = 0x0001
COMMAND_MEMORY = 0x0002
COMMAND_MASTER = 0x0004
COMMAND_SERR = 0x0100
COMMAND_INTX_DISABLE = 0x0400
COMMAND_WRITABLE = 0x0547  # the above, and parity error response

STATUS_CAP_LIST = 0x0010
STATUS_SIG_SYSTEM_ERROR = 0x4000
STATUS_ERRORS = 0xF900  # write-one-to-clear bits of Status and Secondary Status
SEC_STATUS_RCV_SYSTEM_ERROR = 0x4000

BRIDGE_CTL_SERR = 0x0002
BRIDGE_CTL_BUS_RESET = 0x0040
BRIDGE_CTL_WRITABLE = 0x005F

HEADER_TYPE_BRIDGE = 0x01
HEADER_TYPE_MULTIFUNCTION = 0x80

BAR_SIZE = 0x10000  # BAR 0 of every endpoint model: 64 KiB of 32-bit memory
BAR_ADDRESS = 0xFFFFFFFF & ~(BAR_SIZE - 1)
WINDOW_ADDRESS = 0xFFF0


class HEADER(Layout, length=0x40):
    """What both header types have in common."""

    VENDOR_ID = Reg(0x00, 2)
    DEVICE_ID = Reg(0x02, 2)
    COMMAND = Reg(0x04, 2, rw=COMMAND_WRITABLE)
    STATUS = Reg(0x06, 2, w1c=STATUS_ERRORS, reset=STATUS_CAP_LIST)
    REVISION_ID = Reg(0x08, 1)
    CLASS_PROG = Reg(0x09, 1)
    CLASS_DEVICE = Reg(0x0A, 2)
    CACHE_LINE_SIZE = Reg(0x0C, 1, rw=0xFF)
    LATENCY_TIMER = Reg(0x0D, 1)
    HEADER_TYPE = Reg(0x0E, 1)
    BIST = Reg(0x0F, 1)
    CAPABILITY_LIST = Reg(0x34, 1)
    INTERRUPT_LINE = Reg(0x3C, 1, rw=0xFF)
    INTERRUPT_PIN = Reg(0x3D, 1)


class TYPE0(Layout, length=0x40):
    """The part of the header that endpoints have: base addresses and subsystem."""

    BASE_ADDRESS_0 = Reg(0x10, rw=BAR_ADDRESS)
    BASE_ADDRESS_1 = Reg(0x14)
    BASE_ADDRESS_2 = Reg(0x18)
    BASE_ADDRESS_3 = Reg(0x1C)
    BASE_ADDRESS_4 = Reg(0x20)
    BASE_ADDRESS_5 = Reg(0x24)
    CARDBUS_CIS = Reg(0x28)
    SUBSYSTEM_VENDOR_ID = Reg(0x2C, 2)
    SUBSYSTEM_ID = Reg(0x2E, 2)
    ROM_ADDRESS = Reg(0x30)


class TYPE1(Layout, length=0x40):
    """The part of the header that bridges have: bus numbers, windows, Bridge Control.

    Secondary Status survives a bus reset (errata C7); bus numbers and Bridge Control do not (errata 4.4).
    """

    BASE_ADDRESS_0 = Reg(0x10)
    BASE_ADDRESS_1 = Reg(0x14)
    PRIMARY_BUS = Reg(0x18, 1, rw=0xFF)
    SECONDARY_BUS = Reg(0x19, 1, rw=0xFF)
    SUBORDINATE_BUS = Reg(0x1A, 1, rw=0xFF)
    SEC_LATENCY_TIMER = Reg(0x1B, 1)
    IO_BASE = Reg(0x1C, 1, rw=0xF0)
    IO_LIMIT = Reg(0x1D, 1, rw=0xF0)
    SEC_STATUS = Reg(0x1E, 2, w1c=STATUS_ERRORS, sticky=True)
    MEMORY_BASE = Reg(0x20, 2, rw=WINDOW_ADDRESS)
    MEMORY_LIMIT = Reg(0x22, 2, rw=WINDOW_ADDRESS)
    PREF_MEMORY_BASE = Reg(0x24, 2, rw=WINDOW_ADDRESS, reset=0x0001)
    PREF_MEMORY_LIMIT = Reg(0x26, 2, rw=WINDOW_ADDRESS, reset=0x0001)
    PREF_BASE_UPPER32 = Reg(0x28, rw=0xFFFFFFFF)
    PREF_LIMIT_UPPER32 = Reg(0x2C, rw=0xFFFFFFFF)
    IO_BASE_UPPER16 = Reg(0x30, 2, rw=0xFFFF)
    IO_LIMIT_UPPER16 = Reg(0x32, 2, rw=0xFFFF)
    ROM_ADDRESS1 = Reg(0x38)
    BRIDGE_CONTROL = Reg(0x3E, 2, rw=BRIDGE_CTL_WRITABLE)


def bar_offset(bar: int) -> int:
    """Offset of base address register ``bar`` (0..5)."""
    return int(TYPE0.BASE_ADDRESS_0) + 4 * bar
