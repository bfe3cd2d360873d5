"""Power management capability (ID 0x01).

No_Soft_Reset is set: going from D3hot to D0 resets nothing, so PM offers no reset method (linux-aer.md 11).
"""

from __future__ import annotations

from protocol.registers import Layout, Reg

PM_CTRL_STATE_MASK = 0x0003
PM_CTRL_NO_SOFT_RESET = 0x0008


class PM(Layout, length=0x08, cap_id=0x01):
    """Power management registers: capabilities (version 3) and control/status."""

    PMC = Reg(0x02, 2, reset=0x0003)
    CTRL = Reg(0x04, 2, rw=PM_CTRL_STATE_MASK, reset=PM_CTRL_NO_SOFT_RESET)
