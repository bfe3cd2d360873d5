"""Names of registers in files that people and recordings have: host files, recorded cases (golden README).

A name stands for one register of a header or capability; ``aer_header_log`` and ``buses``, which are several,
are the business of those who read them.
"""

from __future__ import annotations

from typing import NamedTuple

from protocol.layout_aer import AER
from protocol.layout_header import HEADER, TYPE1
from protocol.layout_pcie import EXP
from protocol.registers import Layout, Reg


class Named(NamedTuple):
    """A register and the header or capability that it is in; ``size`` and ``shift`` (bytes) for a part of it."""

    layout: type[Layout]
    register: Reg
    size: int
    shift: int = 0

    @property
    def digits(self) -> int:
        """Hexadecimal digits of a value."""
        return 2 * self.size


def _whole(layout: type[Layout], register: Reg) -> Named:
    return Named(layout, register, register.width)


REGISTERS: dict[str, Named] = {
    "command": _whole(HEADER, HEADER.COMMAND),
    "status": _whole(HEADER, HEADER.STATUS),
    "secondary_status": _whole(TYPE1, TYPE1.SEC_STATUS),
    "bridge_control": _whole(TYPE1, TYPE1.BRIDGE_CONTROL),
    "devcap": _whole(EXP, EXP.DEVCAP),
    "devctl": _whole(EXP, EXP.DEVCTL),
    "devsta": _whole(EXP, EXP.DEVSTA),
    "lnksta": _whole(EXP, EXP.LNKSTA),
    "sltctl": _whole(EXP, EXP.SLTCTL),
    "sltsta": _whole(EXP, EXP.SLTSTA),
    "rootctl": _whole(EXP, EXP.RTCTL),
    "aer_unc_status": _whole(AER, AER.UNCOR_STATUS),
    "aer_unc_mask": _whole(AER, AER.UNCOR_MASK),
    "aer_unc_severity": _whole(AER, AER.UNCOR_SEVER),
    "aer_cor_status": _whole(AER, AER.COR_STATUS),
    "aer_cor_mask": _whole(AER, AER.COR_MASK),
    "aer_cap_ctl": _whole(AER, AER.CAP),
    "aer_root_command": _whole(AER, AER.ROOT_COMMAND),
    "aer_root_status": _whole(AER, AER.ROOT_STATUS),
    "aer_err_src_cor": Named(AER, AER.ROOT_ERR_SRC, 2),
    "aer_err_src_uncor": Named(AER, AER.ROOT_ERR_SRC, 2, 2),
}
