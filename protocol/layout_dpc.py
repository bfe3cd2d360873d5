"""Downstream Port Containment extended capability (ID 0x001d).

Source: linux-aer.md 10.1. Offsets are relative to the capability. UNVERIFIED, from the PCI Express Base Specification:
control and status are sticky. Firmware leaves every RP PIO error unmasked and uncorrectable here.
"""

from __future__ import annotations

from protocol.registers import Layout, Reg

DPC_CAP_IRQ = 0x001F  # interrupt message number
DPC_CAP_RP_EXT = 0x0020
DPC_CAP_POISONED_TLP = 0x0040
DPC_CAP_SW_TRIGGER = 0x0080
DPC_CAP_RP_PIO_LOG_SIZE = 0x0F00  # in dwords: 4 of header, 1 of ImpSpec log, then prefixes
DPC_CAP_RP_PIO_LOG_SIZE_SHIFT = 8
DPC_CAP_DL_ACTIVE = 0x1000
DPC_CAP_RP_PIO_LOG_SIZE4 = 0x2000  # bit 4 of the log size, Flit mode only

DPC_CTL_EN_FATAL = 0x0001
DPC_CTL_EN_NONFATAL = 0x0002
DPC_CTL_EN_MASK = 0x0003
DPC_CTL_INT_EN = 0x0008
DPC_CTL_SW_TRIGGER = 0x0040  # always reads 0

DPC_STATUS_TRIGGER = 0x0001
DPC_STATUS_REASON = 0x0006
DPC_STATUS_INTERRUPT = 0x0008
DPC_STATUS_RP_BUSY = 0x0010
DPC_STATUS_REASON_EXT = 0x0060
DPC_STATUS_RP_PIO_FEP = 0x1F00
DPC_STATUS_RP_PIO_FEP_SHIFT = 8

# reasons in their place in the status register; the last ones with their extension
DPC_REASON_UNCOR = 0x0000
DPC_REASON_NONFATAL = 0x0002
DPC_REASON_FATAL = 0x0004
DPC_REASON_EXT = 0x0006
DPC_REASON_RP_PIO = DPC_REASON_EXT
DPC_REASON_SW_TRIGGER = DPC_REASON_EXT | 0x0020

RP_PIO_ERRORS = {  # bit of the RP PIO registers -> text of the kernel's log (10.3)
    8 * space + bit: f"{request} {what}"
    for space, request in enumerate(("Configuration Request", "I/O Request", "Memory Request"))
    for bit, what in enumerate(("received UR Completion", "received CA Completion", "Completion Timeout"))
}
RP_PIO_ALL = sum(1 << bit for bit in RP_PIO_ERRORS)

_RP = ("root_port",)  # the only kind with root port extensions


class DPC(Layout, length=0x44, cap_id=0x001D, extended=True):
    """DPC capability. The RP PIO registers belong to the root port extensions."""

    CAP = Reg(0x04, 2)
    CTL = Reg(0x06, 2, rw=DPC_CTL_EN_MASK | DPC_CTL_INT_EN, sticky=True)
    STATUS = Reg(0x08, 2, w1c=DPC_STATUS_TRIGGER | DPC_STATUS_INTERRUPT, sticky=True)
    SOURCE_ID = Reg(0x0A, 2, sticky=True)
    RP_PIO_STATUS = Reg(0x0C, w1c=RP_PIO_ALL, sticky=True).only_in(*_RP)
    RP_PIO_MASK = Reg(0x10, rw=RP_PIO_ALL, sticky=True).only_in(*_RP)
    RP_PIO_SEVERITY = Reg(0x14, rw=RP_PIO_ALL, sticky=True, reset=RP_PIO_ALL).only_in(*_RP)
    RP_PIO_SYSERROR = Reg(0x18, rw=RP_PIO_ALL, sticky=True).only_in(*_RP)
    RP_PIO_EXCEPTION = Reg(0x1C, rw=RP_PIO_ALL, sticky=True).only_in(*_RP)
    RP_PIO_HEADER_LOG = Reg(0x20, sticky=True).only_in(*_RP)
    RP_PIO_HEADER_LOG_1 = Reg(0x24, sticky=True).only_in(*_RP)
    RP_PIO_HEADER_LOG_2 = Reg(0x28, sticky=True).only_in(*_RP)
    RP_PIO_HEADER_LOG_3 = Reg(0x2C, sticky=True).only_in(*_RP)
    RP_PIO_IMPSPEC_LOG = Reg(0x30, sticky=True).only_in(*_RP)
    RP_PIO_TLPPREFIX_LOG = Reg(0x34, sticky=True).only_in(*_RP)
    RP_PIO_TLPPREFIX_LOG_1 = Reg(0x38, sticky=True).only_in(*_RP)
    RP_PIO_TLPPREFIX_LOG_2 = Reg(0x3C, sticky=True).only_in(*_RP)
    RP_PIO_TLPPREFIX_LOG_3 = Reg(0x40, sticky=True).only_in(*_RP)


def dpc_capabilities(kind: str) -> int:
    """Capability register of a port of this kind: software trigger, and the extensions of a root port.

    A log of four dwords is what most root ports say that they have.
    """
    extensions = DPC_CAP_RP_EXT | 4 << DPC_CAP_RP_PIO_LOG_SIZE_SHIFT
    return DPC_CAP_SW_TRIGGER | (extensions if kind == "root_port" else 0)
