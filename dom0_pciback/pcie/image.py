"""Registers of a function whose whole configuration space is given (``FunctionSpec.config``).

Everything is where and as the image has it. What software may change, and what a reset does, still comes from the
register tables, at the image's offsets; capabilities without a table are read-only.
"""

from __future__ import annotations

from dom0_pciback.pcie.function import Function
from protocol.capabilities import Capability, find, peek
from protocol.config_image import exp_end, read
from protocol.layout_aer import AER
from protocol.layout_dpc import DPC
from protocol.layout_header import CONFIG_SIZE, HEADER, TYPE0, TYPE1, bar_offset
from protocol.layout_msi import MSI, MSI32, MSI_FLAGS_64BIT, MSI_FLAGS_MASKBIT, MSIX
from protocol.layout_pcie import EXP
from protocol.layout_pm import PM
from protocol.layout_rcec import RCEC
from protocol.registers import Layout

LAYOUTS: tuple[type[Layout], ...] = (PM, MSI, MSIX, EXP, AER, DPC, RCEC)
BARS = {True: 2, False: 6}  # of a port, of another function
IO_BAR, BAR_64BIT = 0x1, 0x4
IO_BAR_SIZE_MAX = 256


def lay_out(function: Function) -> dict[type[Layout], int]:
    """Give ``function`` the registers of its image; returns the offsets of the capabilities that are modelled."""
    image, found = read(function.spec.config)
    config, kind = function.config, function.kind
    config.add(HEADER, 0, kind, {})
    config.add(TYPE1 if function.is_port else TYPE0, 0, kind, {})
    at: dict[type[Layout], int] = {}
    for layout in LAYOUTS:
        capability = find(found, layout.cap_id, extended=layout.extended)
        if capability is not None and _belongs(layout, found):
            at[layout] = capability.offset
            form, end = _form(layout, image, capability)
            config.add(form, capability.offset, kind, {}, end)
            if layout is AER and capability.offset + AER.length <= end:
                function.prefix_log = capability.offset + AER.PREFIX_LOG
    _open_bars(function, image)
    config.preset(0, CONFIG_SIZE, int.from_bytes(image, "little"))
    return at


def _belongs(layout: type[Layout], found: list[Capability]) -> bool:
    """Extended capabilities count only in a PCI Express function."""
    return not layout.extended or find(found, EXP.cap_id) is not None


def _form(layout: type[Layout], image: bytes, capability: Capability) -> tuple[type[Layout], int]:
    """The form of the capability that the function has, and where it ends."""
    if layout is EXP:
        return EXP, exp_end(image, capability)
    if layout is not MSI:
        return layout, capability.end
    flags = peek(image, capability.offset + MSI.FLAGS, 2)
    form: type[Layout] = MSI if flags & MSI_FLAGS_64BIT else MSI32
    masks = MSI.MASK if form is MSI else MSI32.MASK
    end = capability.end if flags & MSI_FLAGS_MASKBIT else min(capability.end, capability.offset + masks)
    return form, end


def _open_bars(function: Function, image: bytes) -> None:
    """Let software program every BAR. An image does not tell their sizes: each is as large as its place allows."""
    wide = False
    for bar in range(BARS[function.is_port]):
        offset = bar_offset(bar)
        value = peek(image, offset, 4)
        if wide:
            function.config.allow(offset, 4, 0xFFFFFFFF)
            wide = False
            continue
        flags = 0x3 if value & IO_BAR else 0xF
        address = value & ~flags
        size = min(address & -address, IO_BAR_SIZE_MAX) if value & IO_BAR else address & -address
        function.config.allow(offset, 4, -size & 0xFFFFFFFF if size else 0)
        wide = not value & IO_BAR and bool(value & BAR_64BIT)
