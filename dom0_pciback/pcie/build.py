"""Composes the registers of a function, and sets what firmware leaves behind; who owns errors enables reporting.

Source: linux-aer.md 1.6, errata 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from dom0_pciback.pcie import image
from dom0_pciback.pcie.collector import EventCollector
from dom0_pciback.pcie.function import Fabric, Function
from dom0_pciback.pcie.port import PORTS, Port, RootPort
from protocol.layout_aer import AER, AER_CAP_ECRC_CAPABLE, AER_CAP_ECRC_CHKE, AER_CAP_ECRC_GENE, AER_CAP_MHRC
from protocol.layout_dpc import DPC, dpc_capabilities
from protocol.layout_header import (
    BRIDGE_CTL_SERR,
    COMMAND_IO,
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
    EXP_LNKCAP_DLLLARC,
    EXP_LNKCAP_SDERC,
    EXP_LNKCAP_WIDTH_SHIFT,
    EXP_LNKSTA_2_5GT_X1,
    EXP_LNKSTA_DLLLA,
    EXP_SLTCAP_NUMBER_SHIFT,
    EXP_TYPE,
    SLOT_PORTS,
)
from protocol.layout_pm import PM, PM_CTRL_NO_SOFT_RESET
from protocol.layout_rcec import OWN_BUS_ONLY, RCEC, bus_numbers
from protocol.register_names import REGISTERS
from protocol.registers import Layout
from protocol.topology import FunctionSpec

PM_OFFSET, MSI_OFFSET, EXP_OFFSET, AER_OFFSET = 0x40, 0x50, 0x70, 0x100
DPC_OFFSET, RCEC_OFFSET = 0x150, 0x180

# what a function is: class (base class, sub class, programming interface), MSI vectors that it asks for
MODELS: dict[str, tuple[int, int]] = {
    "nic": (0x020000, 4),
    "block": (0x010000, 4),
    "plain": (0x00FF00, 1),
    "port": (0x060400, 1),
    "event_collector": (0x080700, 1),
}

COMMAND = COMMAND_IO | COMMAND_MEMORY | COMMAND_SERR

FIRST_WINDOW = 0xC0000000
NO_IO_WINDOW, NO_PREFETCHABLE_WINDOW = 0xF0, 0xFFF1
WINDOW = 0x100000  # a bridge's memory window is a multiple of 1 MiB


def make_function(spec: FunctionSpec, parent: Function | None, fabric: Fabric, multifunction: bool) -> Function:
    """A function with its registers at their power-on values; ``multifunction``: its device has several."""
    classes: dict[str, type[Function]] = {
        "root_port": RootPort,
        "upstream_port": Port,
        "downstream_port": Port,
        "pcie_pci_bridge": Port,
        "event_collector": EventCollector,
    }
    function = classes.get(spec.kind, Function)(spec, parent, fabric)
    if spec.config:
        at: dict[type[Layout], int] = image.lay_out(function)
    else:
        at = _compose(function, multifunction)
        function.prefix_log = at[AER] + AER.PREFIX_LOG if AER in at else 0
    function.pm, function.msi, function.exp = at.get(PM, 0), at.get(MSI, 0), at.get(EXP, 0)
    function.aer, function.dpc = at.get(AER, 0), at.get(DPC, 0)
    if isinstance(function, EventCollector):
        function.rcec = at.get(RCEC, 0)
    if function.exp and not spec.error_enables:
        function.config.restrict(function.exp + EXP.DEVCTL, 2, EXP_DEVCTL_AER_FLAGS)
    return function


def _compose(function: Function, multifunction: bool) -> dict[type[Layout], int]:
    """Registers by the description of the function; returns the offsets of its capabilities."""
    spec, config, values = function.spec, function.config, _values(function, multifunction)
    header = TYPE1 if function.is_port else TYPE0
    placed = _placed(spec)
    for layout, offset in ((HEADER, 0), (header, 0), *placed):
        config.add(layout, offset, spec.kind, values.get(layout, {}))
    config.add_capabilities(placed)
    at = dict(placed)
    if AER in at and not spec.ecrc:
        config.restrict(at[AER] + AER.CAP, 4, AER_CAP_ECRC_GENE | AER_CAP_ECRC_CHKE)
    return at


def _placed(spec: FunctionSpec) -> list[tuple[type[Layout], int]]:
    """The capabilities of a function and their offsets. A conventional function has neither EXP nor AER.

    DPC needs AER on the same port.
    """
    present = (
        (PM, PM_OFFSET, spec.pm),
        (MSI, MSI_OFFSET, True),
        (EXP, EXP_OFFSET, spec.pcie),
        (AER, AER_OFFSET, spec.pcie and spec.aer),
        (RCEC, RCEC_OFFSET, spec.kind == "event_collector"),
        (DPC, DPC_OFFSET, spec.dpc and spec.aer and spec.kind in SLOT_PORTS),
    )
    return [(layout, offset) for layout, offset, there in present if there]


def _values(function: Function, multifunction: bool) -> dict[type[Layout], dict[str, int]]:
    """Reset values in which this function differs from the register tables, by layout and register name."""
    spec = function.spec
    usual, vectors = MODELS["port" if function.is_port else spec.kind if spec.kind in MODELS else spec.model]
    class_code = usual if spec.class_code is None else spec.class_code
    subsystem = spec.subsystem or (spec.vendor, 0)
    has_slot, flr = spec.kind in SLOT_PORTS, spec.flr and not function.is_port
    ports_log = spec.kind in PORTS and function.fabric.profile.multiple_header_capable
    link = spec.link_speed | spec.link_width << EXP_LNKCAP_WIDTH_SHIFT
    reporting = has_slot and spec.link_reporting
    header_type = HEADER_TYPE_BRIDGE * function.is_port | HEADER_TYPE_MULTIFUNCTION * multifunction
    return {
        HEADER: {
            HEADER.VENDOR_ID.name: spec.vendor,
            HEADER.DEVICE_ID.name: spec.device,
            HEADER.REVISION_ID.name: spec.revision,
            HEADER.CLASS_DEVICE.name: class_code >> 8,
            HEADER.CLASS_PROG.name: class_code & 0xFF,
            HEADER.HEADER_TYPE.name: header_type,
            HEADER.INTERRUPT_PIN.name: 1,
        },
        TYPE0: {TYPE0.SUBSYSTEM_VENDOR_ID.name: subsystem[0], TYPE0.SUBSYSTEM_ID.name: subsystem[1]},
        PM: {PM.CTRL.name: PM_CTRL_NO_SOFT_RESET * (not spec.pm_reset)},
        MSI: {MSI.FLAGS.name: qmask(vectors)},
        EXP: {
            EXP.FLAGS.name: EXP_FLAGS_VERSION | EXP_TYPE[spec.kind] << EXP_FLAGS_TYPE_SHIFT | EXP_FLAGS_SLOT * has_slot,
            EXP.DEVCAP.name: EXP_DEVCAP_RBER * spec.role_based | EXP_DEVCAP_FLR * flr,
            EXP.LNKCAP.name: link | EXP_LNKCAP_SDERC * has_slot | EXP_LNKCAP_DLLLARC * reporting,
            EXP.LNKSTA.name: EXP_LNKSTA_2_5GT_X1 | EXP_LNKSTA_DLLLA * reporting,
            EXP.SLTCAP.name: spec.slot << EXP_SLTCAP_NUMBER_SHIFT,
            EXP.LNKCAP2.name: (2 << spec.link_speed) - 2,  # every speed up to that of LNKCAP; none told: none here
        },
        AER: {
            AER.UNCOR_MASK.name: AER.UNCOR_MASK.reset * function.fabric.profile.masked_by_default,
            AER.CAP.name: AER_CAP_ECRC_CAPABLE * spec.ecrc | AER_CAP_MHRC * ports_log,
        },
        DPC: {DPC.CAP.name: dpc_capabilities(spec.kind)},
        RCEC: {
            RCEC.BITMAP.name: spec.rciep_devices,
            RCEC.BUSN.name: bus_numbers(*(spec.rciep_buses or OWN_BUS_ONLY)),
        },
    }


def boot(functions: Sequence[Function]) -> None:
    """Program every function, roots first, as firmware leaves it, apart from Command, which drivers would set."""
    window = FIRST_WINDOW
    for function in functions:
        if function.parent is None:
            window = _assign_memory(function, window)
        if not function.spec.config:  # whose registers are those of a machine that has booted
            _program(function)
        elif function.is_port and not function.config.peek(TYPE1.SECONDARY_BUS, 1):
            _number(function)
        _preset(function)
    for function in functions:
        if function.parent is None:
            function.refresh()


def _program(function: Function) -> None:
    config = function.config
    config.poke(HEADER.COMMAND, 2, COMMAND)
    if function.is_port:
        _number(function)
        config.poke(TYPE1.BRIDGE_CONTROL, 2, BRIDGE_CTL_SERR)
        # pci_setup_bridge: a window that nothing needs has its base above its limit
        config.poke(TYPE1.IO_BASE, 1, NO_IO_WINDOW)
        config.poke(TYPE1.PREF_MEMORY_BASE, 2, NO_PREFETCHABLE_WINDOW)


def _number(port: Function) -> None:
    config, spec = port.config, port.spec
    config.poke(TYPE1.PRIMARY_BUS, 1, port.sbdf.bus)
    config.poke(TYPE1.SECONDARY_BUS, 1, spec.secondary)
    config.poke(TYPE1.SUBORDINATE_BUS, 1, max(spec.secondary, spec.subordinate))


def _preset(function: Function) -> None:
    for name, value in function.spec.registers.items():
        layout, register, size, shift = REGISTERS[name]
        base = {EXP: function.exp, AER: function.aer}.get(layout, 0)
        function.config.preset(base + register + shift, size, value)


def _assign_memory(function: Function, address: int) -> int:
    """Place BARs and windows from ``address`` on; returns the first free address behind them."""
    for bar in [] if function.spec.config else function.bars:
        function.config.poke(bar.offset, 4, address)
        address += bar.size
    if function.is_port:
        start = address = _align(address)
        for child in function.children:
            address = _assign_memory(child, address)
        address = _align(max(address, start + 1))
        if not function.spec.config:
            function.config.poke(TYPE1.MEMORY_BASE, 2, start >> 16 & WINDOW_ADDRESS)
            function.config.poke(TYPE1.MEMORY_LIMIT, 2, address - 1 >> 16 & WINDOW_ADDRESS)
    return address


def _align(address: int) -> int:
    return -(-address // WINDOW) * WINDOW
