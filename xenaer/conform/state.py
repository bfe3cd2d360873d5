"""What can be seen of a function at one moment: registers, counters, driver (golden README, "Format of a case")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dom0_pciback.aer.stats import DEVICE_FILES, ROOT_FILES, AerStats
from dom0_pciback.drivers.aerlab import VARIANTS
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.regs import ALL_ONES
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_header import HEADER, TYPE1
from protocol.layout_pcie import EXP, ROOTS, SLOT_PORTS
from protocol.register_names import REGISTERS

if TYPE_CHECKING:
    from dom0_pciback.pci.core import PciCore
    from xenaer.conform.machine import Machine

Value = str | list[str] | list[int]

# names in the order of the recordings; those of HIDDEN are shown only where they changed
HEADER_NAMES = ("command", "status")
BRIDGE_NAMES = ("secondary_status", "bridge_control")
EXP_NAMES = ("devctl", "devsta", "lnksta")
SLOT_NAMES = ("sltctl", "sltsta")
HEADER_LOG = "aer_header_log"
AER_NAMES = (
    *("aer_unc_status", "aer_unc_mask", "aer_unc_severity", "aer_cor_status", "aer_cor_mask", "aer_cap_ctl"),
    HEADER_LOG,
)
ROOT_NAMES = ("aer_root_command", "aer_root_status", "aer_err_src_cor", "aer_err_src_uncor")
HIDDEN = ("id", "buses", *SLOT_NAMES)


class DeviceState(NamedTuple):
    """Registers by name, counters by file (zeros left out), and the driver, None for none."""

    registers: dict[str, Value]
    counters: dict[str, Any]
    driver: str | None
    recording: bool


def of_machine(machine: Machine) -> dict[Sbdf, DeviceState]:
    """Every function that the kernel knows."""
    return {sbdf: of_device(machine.core, dev) for sbdf, dev in machine.core.devices.items()}


def of_device(core: PciCore, dev: PciDev) -> DeviceState:
    """One function, as programs in the machine see it."""
    driver = dev.driver.name if dev.driver is not None else None
    counters = _counters(dev.aer_info.stats, dev.kind) if dev.aer_info is not None else {}
    return DeviceState(_registers(core, dev), counters, driver, driver in VARIANTS)


def _registers(core: PciCore, dev: PciDev) -> dict[str, Value]:
    ids = core.read(dev, HEADER.VENDOR_ID, 4)
    shown: dict[str, Value] = {"id": f"{ids & 0xFFFF:04x}:{ids >> 16:04x}"}
    names = list(HEADER_NAMES)
    if ids != ALL_ONES[4]:
        names += _names_of(dev)
    for name in names:
        shown[name] = _header_log(core, dev) if name == HEADER_LOG else _value(core, dev, name)
    if ids != ALL_ONES[4] and dev.is_bridge:
        shown["buses"] = [core.read(dev, TYPE1.PRIMARY_BUS + index, 1) for index in range(3)]
    return shown


def _header_log(core: PciCore, dev: PciDev) -> list[str]:
    return [f"{core.read(dev, dev.aer + AER.HEADER_LOG + 4 * index, 4):#010x}" for index in range(4)]


def _names_of(dev: PciDev) -> tuple[str, ...]:
    """Registers beyond the first two that this function has, in the order of the recordings."""
    return (
        *(BRIDGE_NAMES if dev.is_bridge else ()),
        *(EXP_NAMES if dev.exp else ()),
        *(SLOT_NAMES if dev.exp and dev.kind in SLOT_PORTS else ()),
        *(AER_NAMES if dev.aer else ()),
        *(ROOT_NAMES if dev.aer and dev.kind in ROOTS else ()),
    )


def _value(core: PciCore, dev: PciDev, name: str) -> str:
    """Read as the recorder did: whole dwords of the AER capability, so that a simulation shows (errata 7.7)."""
    layout, register, size, shift = REGISTERS[name]
    base = {EXP: dev.exp, AER: dev.aer}.get(layout, 0)
    if layout is AER:
        value = core.read(dev, base + register, 4) >> 8 * shift & (1 << 8 * size) - 1
    else:
        value = core.read(dev, base + register + shift, size)
    return f"0x{value:0{2 * size}x}"


def _counters(stats: AerStats, kind: str) -> dict[str, Any]:
    """Counters that are not zero, in the order of the recordings."""
    shown: dict[str, Any] = {}
    for file, (severity, names, array, total) in DEVICE_FILES.items():
        if not stats.totals[severity] and not any(stats.bits[severity]):
            continue
        counted = enumerate(stats.bits[severity])
        found = {names.get(bit, f"{array}_bit[{bit}]"): count for bit, count in counted if count}
        if stats.totals[severity]:
            found[total] = stats.totals[severity]
        shown[file] = found
    if kind in ROOTS:
        shown.update({file: stats.root[severity] for file, severity in ROOT_FILES.items() if stats.root[severity]})
    return shown
