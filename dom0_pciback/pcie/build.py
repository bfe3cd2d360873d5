"""Composes the registers of a function, and sets what firmware and Linux's enumeration leave behind.

Source: linux-aer.md 1.6 and 1.7, errata 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from dom0_pciback.pcie.function import Fabric, Function
from dom0_pciback.pcie.port import Port, RootPort
from protocol.layout_aer import AER, AER_CAP_MHRC
from protocol.layout_header import (
    BRIDGE_CTL_SERR,
    COMMAND_IO,
    COMMAND_MASTER,
    COMMAND_MEMORY,
    COMMAND_SERR,
    HEADER,
    HEADER_TYPE_BRIDGE,
    HEADER_TYPE_MULTIFUNCTION,
    TYPE0,
    TYPE1,
    WINDOW_ADDRESS,
)
from protocol.layout_msi import MSI, qmask
from protocol.layout_pcie import (
    EXP,
    EXP_DEVCAP_FLR,
    EXP_DEVCAP_RBER,
    EXP_DEVCTL_AER_FLAGS,
    EXP_FLAGS_SLOT,
    EXP_FLAGS_TYPE_SHIFT,
    EXP_FLAGS_VERSION,
    EXP_LNKCAP_2_5GT,
    EXP_LNKCAP_DLLLARC,
    EXP_LNKCAP_SDERC,
    EXP_LNKCAP_X1,
    EXP_LNKSTA_2_5GT_X1,
    EXP_LNKSTA_DLLLA,
    EXP_TYPE,
    SLOT_PORTS,
)
from protocol.layout_pm import PM
from protocol.registers import Layout
from protocol.topology import FunctionSpec

PM_OFFSET, MSI_OFFSET, EXP_OFFSET, AER_OFFSET = 0x40, 0x50, 0x70, 0x100

# what a function is: (base class, sub class and programming interface), MSI vectors that it asks for
MODELS: dict[str, tuple[int, int, int]] = {
    "nic": (0x0200, 0x00, 4),
    "block": (0x0100, 0x00, 4),
    "plain": (0x00FF, 0x00, 1),
    "port": (0x0604, 0x00, 1),
}

COMMAND_ENDPOINT = COMMAND_IO | COMMAND_MEMORY | COMMAND_SERR
COMMAND_PORT = COMMAND_ENDPOINT | COMMAND_MASTER

FIRST_WINDOW = 0xC0000000
WINDOW = 0x100000  # a bridge's memory window is a multiple of 1 MiB


def make_function(spec: FunctionSpec, parent: Function | None, fabric: Fabric, multifunction: bool) -> Function:
    """A function with its registers at their power-on values; ``multifunction``: its device has several."""
    classes: dict[str, type[Function]] = {
        "endpoint": Function,
        "root_port": RootPort,
        "upstream_port": Port,
        "downstream_port": Port,
    }
    function = classes[spec.kind](spec, parent, fabric)
    values, config = _values(function, multifunction), function.config
    header = TYPE1 if function.is_port else TYPE0
    placed: list[tuple[type[Layout], int]] = [(PM, PM_OFFSET), (MSI, MSI_OFFSET), (EXP, EXP_OFFSET)]
    if spec.aer:
        placed.append((AER, AER_OFFSET))
    for layout, offset in ((HEADER, 0), (header, 0), *placed):
        config.add(layout, offset, spec.kind, values.get(layout, {}))
    function.pm, function.msi, function.exp = PM_OFFSET, MSI_OFFSET, EXP_OFFSET
    function.aer = AER_OFFSET if spec.aer else 0
    config.add_capabilities(placed)
    return function


def _values(function: Function, multifunction: bool) -> dict[type[Layout], dict[str, int]]:
    """Reset values in which this function differs from the register tables, by layout and register name."""
    spec = function.spec
    class_code, prog_if, vectors = MODELS["port" if function.is_port else spec.model]
    has_slot, flr = spec.kind in SLOT_PORTS, spec.flr and not function.is_port
    ports_log = function.is_port and function.fabric.profile.multiple_header_capable
    header_type = HEADER_TYPE_BRIDGE * function.is_port | HEADER_TYPE_MULTIFUNCTION * multifunction
    return {
        HEADER: {
            HEADER.VENDOR_ID.name: spec.vendor,
            HEADER.DEVICE_ID.name: spec.device,
            HEADER.CLASS_DEVICE.name: class_code,
            HEADER.CLASS_PROG.name: prog_if,
            HEADER.HEADER_TYPE.name: header_type,
            HEADER.INTERRUPT_PIN.name: 1,
        },
        TYPE0: {TYPE0.SUBSYSTEM_VENDOR_ID.name: spec.vendor},
        MSI: {MSI.FLAGS.name: qmask(vectors)},
        EXP: {
            EXP.FLAGS.name: EXP_FLAGS_VERSION | EXP_TYPE[spec.kind] << EXP_FLAGS_TYPE_SHIFT | EXP_FLAGS_SLOT * has_slot,
            EXP.DEVCAP.name: EXP_DEVCAP_RBER * spec.role_based | EXP_DEVCAP_FLR * flr,
            EXP.LNKCAP.name: EXP_LNKCAP_2_5GT | EXP_LNKCAP_X1 | (EXP_LNKCAP_SDERC | EXP_LNKCAP_DLLLARC) * has_slot,
            EXP.LNKSTA.name: EXP_LNKSTA_2_5GT_X1 | EXP_LNKSTA_DLLLA * has_slot,
        },
        AER: {AER.CAP.name: AER.CAP.reset | AER_CAP_MHRC * ports_log},
    }


def boot(functions: Sequence[Function]) -> None:
    """Program every function, roots first, as firmware and Linux's enumeration leave it."""
    window = FIRST_WINDOW
    for function in functions:
        if function.parent is None:
            window = _assign_memory(function, window)
        _program(function)
    for function in functions:
        if function.parent is None:
            function.refresh()


def _program(function: Function) -> None:
    config, spec = function.config, function.spec
    config.poke(HEADER.COMMAND, 2, COMMAND_PORT if function.is_port else COMMAND_ENDPOINT)
    if function.aer:
        config.poke(function.exp + EXP.DEVCTL, 2, EXP_DEVCTL_AER_FLAGS)
    if function.is_port:
        config.poke(TYPE1.PRIMARY_BUS, 1, function.sbdf.bus)
        config.poke(TYPE1.SECONDARY_BUS, 1, spec.secondary)
        config.poke(TYPE1.SUBORDINATE_BUS, 1, max(spec.secondary, spec.subordinate))
        config.poke(TYPE1.BRIDGE_CONTROL, 2, BRIDGE_CTL_SERR)


def _assign_memory(function: Function, address: int) -> int:
    """Place BARs and windows from ``address`` on; returns the first free address behind them."""
    for bar in function.bars:
        function.config.poke(bar.offset, 4, address)
        address += bar.size
    if function.is_port:
        start = address = _align(address)
        for child in function.children:
            address = _assign_memory(child, address)
        address = _align(max(address, start + 1))
        function.config.poke(TYPE1.MEMORY_BASE, 2, start >> 16 & WINDOW_ADDRESS)
        function.config.poke(TYPE1.MEMORY_LIMIT, 2, address - 1 >> 16 & WINDOW_ADDRESS)
    return address


def _align(address: int) -> int:
    return -(-address // WINDOW) * WINDOW
