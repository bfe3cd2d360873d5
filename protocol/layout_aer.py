"""Advanced Error Reporting extended capability (ID 0x0001).

Source: linux-aer.md 1.2 (access and stickiness) and 1.6 (defaults). Offsets are relative to the capability.
"""

from __future__ import annotations

from protocol.bits import COR_ALL, COR_MASKED, UNCOR_ALL, UNCOR_FATAL, UNCOR_MASKED
from protocol.layout_pcie import ROOTS
from protocol.registers import Layout, Reg

AER_CAP_FEP = 0x0000001F
AER_CAP_ECRC_GENC = 0x00000020
AER_CAP_ECRC_GENE = 0x00000040
AER_CAP_ECRC_CHKC = 0x00000080
AER_CAP_ECRC_CHKE = 0x00000100
AER_CAP_ECRC_CAPABLE = AER_CAP_ECRC_GENC | AER_CAP_ECRC_CHKC
AER_CAP_MHRC = 0x00000200
AER_CAP_PREFIX_LOG_PRESENT = 0x00000800
AER_CAP_COMP_TIME_LOG = 0x00001000

AER_ROOT_CMD_COR_EN = 0x1
AER_ROOT_CMD_NONFATAL_EN = 0x2
AER_ROOT_CMD_FATAL_EN = 0x4
AER_ROOT_CMD_ALL = 0x7

AER_ROOT_COR_RCV = 0x01
AER_ROOT_MULTI_COR_RCV = 0x02
AER_ROOT_UNCOR_RCV = 0x04
AER_ROOT_MULTI_UNCOR_RCV = 0x08
AER_ROOT_FIRST_FATAL = 0x10
AER_ROOT_NONFATAL_RCV = 0x20
AER_ROOT_FATAL_RCV = 0x40
AER_ROOT_STATUS_ALL = 0x7F
AER_ROOT_IRQ_SHIFT = 27


class AER(Layout, length=0x48, cap_id=0x0001, extended=True, version=2):
    """AER capability. The root registers exist in root ports and event collectors only."""

    UNCOR_STATUS = Reg(0x04, w1c=UNCOR_ALL, sticky=True)
    UNCOR_MASK = Reg(0x08, rw=UNCOR_ALL, sticky=True, reset=UNCOR_MASKED)
    UNCOR_SEVER = Reg(0x0C, rw=UNCOR_ALL, sticky=True, reset=UNCOR_FATAL)
    COR_STATUS = Reg(0x10, w1c=COR_ALL, sticky=True)
    COR_MASK = Reg(0x14, rw=COR_ALL, sticky=True, reset=COR_MASKED)
    CAP = Reg(0x18, rw=AER_CAP_ECRC_GENE | AER_CAP_ECRC_CHKE, sticky=True, reset=AER_CAP_ECRC_CAPABLE)
    HEADER_LOG = Reg(0x1C, sticky=True)
    HEADER_LOG_1 = Reg(0x20, sticky=True)
    HEADER_LOG_2 = Reg(0x24, sticky=True)
    HEADER_LOG_3 = Reg(0x28, sticky=True)
    ROOT_COMMAND = Reg(0x2C, rw=AER_ROOT_CMD_ALL).only_in(*ROOTS)
    ROOT_STATUS = Reg(0x30, w1c=AER_ROOT_STATUS_ALL, sticky=True).only_in(*ROOTS)
    ROOT_ERR_SRC = Reg(0x34, sticky=True).only_in(*ROOTS)
    PREFIX_LOG = Reg(0x38, sticky=True)
    PREFIX_LOG_1 = Reg(0x3C, sticky=True)
    PREFIX_LOG_2 = Reg(0x40, sticky=True)
    PREFIX_LOG_3 = Reg(0x44, sticky=True)
