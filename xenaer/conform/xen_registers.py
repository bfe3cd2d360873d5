"""Registers and counters as the recordings of a real Xen list them: lines in, lines out (errata 4.3).

``BUS:SLOT.F name=hex ...``; the port has a second line with what only a port has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dom0_pciback.aer.stats import DEVICE_FILES, ROOT_FILES, AerStats, device_file, root_file
from dom0_pciback.pcie.function import Function
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_header import HEADER, TYPE0, TYPE1
from protocol.layout_pcie import EXP
from protocol.registers import Layout


class Field(NamedTuple):
    """One ``name=``: ``times`` registers of ``size`` bytes, side by side from ``offset`` on."""

    layout: type[Layout]
    offset: int
    size: int
    times: int = 1


FIELDS: dict[str, Field] = {
    "id": Field(HEADER, HEADER.VENDOR_ID, 4),
    "cmd": Field(HEADER, HEADER.COMMAND, 2),
    "sts": Field(HEADER, HEADER.STATUS, 2),
    "devctl": Field(EXP, EXP.DEVCTL, 2),
    "devsta": Field(EXP, EXP.DEVSTA, 2),
    "lnksta": Field(EXP, EXP.LNKSTA, 2),
    "uesta": Field(AER, AER.UNCOR_STATUS, 4),
    "uemsk": Field(AER, AER.UNCOR_MASK, 4),
    "uesvrt": Field(AER, AER.UNCOR_SEVER, 4),
    "cesta": Field(AER, AER.COR_STATUS, 4),
    "cemsk": Field(AER, AER.COR_MASK, 4),
    "aercap": Field(AER, AER.CAP, 4),
    "hdr": Field(AER, AER.HEADER_LOG, 4, 4),
    "bars": Field(HEADER, TYPE0.BASE_ADDRESS_0, 4, 6),
    "secsts": Field(HEADER, TYPE1.SEC_STATUS, 2),
    "brctl": Field(HEADER, TYPE1.BRIDGE_CONTROL, 2),
    "rootctl": Field(EXP, EXP.RTCTL, 2),
    "rootcmd": Field(AER, AER.ROOT_COMMAND, 4),
    "rootsta": Field(AER, AER.ROOT_STATUS, 4),
    "errsrc": Field(AER, AER.ROOT_ERR_SRC, 4),
}


def _offset(function: Function, field: Field) -> int:
    return {EXP: function.exp, AER: function.aer}.get(field.layout, 0) + int(field.offset)


def show(function: Function, names: tuple[str, ...]) -> str:
    """The line of a function."""
    sbdf = function.sbdf
    shown = [f"{sbdf.bus:02x}:{sbdf.device:02x}.{sbdf.function}"]
    for name in names:
        field = FIELDS[name]
        at, peek = _offset(function, field), function.config.peek
        dwords = [f"{peek(at + field.size * index, field.size):0{2 * field.size}x}" for index in range(field.times)]
        shown.append(f"{name}={','.join(dwords)}")
    return " ".join(shown)


def set_registers(function: Function, values: dict[str, tuple[int, ...]]) -> None:
    """Give the registers of a line their values, past the write masks."""
    for name, dwords in values.items():
        field = FIELDS[name]
        for index, dword in enumerate(dwords[: field.times]):
            function.config.poke(_offset(function, field) + field.size * index, field.size, dword)


def show_counters(name: str, file: str, stats: AerStats) -> str:
    """The line of one sysfs file."""
    text = device_file(stats, file) if file in DEVICE_FILES else root_file(stats, file)
    return f"{name} {file}: {text.replace(chr(10), ' ')}"


def counter_files(*, root: bool) -> tuple[str, ...]:
    """The files of a function, in the order of the recordings."""
    return (*DEVICE_FILES, *(ROOT_FILES if root else ()))


# -- from lines ----------------------------------------------------------------------------------
def parse_registers(line: str) -> tuple[Sbdf, dict[str, tuple[int, ...]]]:
    """``BUS:SLOT.F name=hex[,hex] ...``: the function and the values of each name."""
    address, *fields = line.split()
    values: dict[str, tuple[int, ...]] = {}
    for item in fields:
        name, equals, text = item.partition("=")
        try:
            values[name] = tuple(int(dword, 16) for dword in text.split(","))
        except ValueError:
            raise ValueError(f"{item!r} is no register value") from None
        if not equals:
            raise ValueError(f"{item!r} is no register value")
    return Sbdf.parse(address), values


def parse_counters(line: str) -> tuple[Sbdf, str, Any]:
    """``BDF FILE: ...``: the function, the sysfs file, and a number or a map of names to numbers."""
    head, colon, text = line.partition(": ")
    address, _, file = head.partition(" ")
    words = text.split()
    if not colon or not file or not words:
        raise ValueError(f"{line!r} is no counter line")
    sbdf = Sbdf.parse(address)
    numbers = [word for word in words if word.isdecimal()]
    if len(words) == 1 and numbers:
        return sbdf, file, int(words[0])
    if len(words) != 2 * len(numbers):
        raise ValueError(f"{line!r} is no counter line")
    return sbdf, file, {words[i]: int(words[i + 1]) for i in range(0, len(words), 2)}
