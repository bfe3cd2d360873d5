"""Register fields that only kernel code looks at; registers themselves are declared in ``protocol.layout_*``."""

from __future__ import annotations

EXT_CAP_START = 0x100  # first extended capability
STATUS_IMM_READY = 0x0001  # Immediate Readiness: no wait after a reset
EXP_FLAGS_FLIT = 0x8000  # Flit mode supported
EXP_SLTCAP_HPC = 0x00000040  # hot-plug capable
EXP_LNKCAP_SPEED = 0x0000000F
EXP_LNKCAP_SPEED_5_0GT = 2
EXP_RTCTL_RRS_SVE = 0x0010  # configuration RRS software visibility
AER_CAP_TLP_LOG_FLIT = 0x40000
AER_CAP_TLP_LOG_SIZE = 0xF80000
AER_CAP_TLP_LOG_SIZE_SHIFT = 19
AER_ROOT_RECEIVED = 0x0F  # Root Error Status 3:0, AER_ERR_STATUS_MASK

PCI_VENDOR_ID_RRS = 0x0001  # Vendor ID that answers for a function which is not ready yet
ENOTTY = 25  # "no such reset": returned as -25
ALL_ONES = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFFFFFF}  # by access size: what a read of nothing gives
