"""Puts a machine to the start of a case: drivers, registers and counters as the recorder found them.

Source: errata section 5 (what earlier cases left) and 4.4 (what drivers had saved).
"""

from __future__ import annotations

from typing import Any

from dom0_pciback.aer.info import AerInfo
from dom0_pciback.aer.names import COR_NAMES, UNCOR_NAMES
from dom0_pciback.aer.ratelimit import NS_PER_JIFFY, RateLimit
from dom0_pciback.aer.stats import DEVICE_FILES, ROOT_FILES
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pcie.function import Function
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP
from protocol.register_names import REGISTERS
from xenaer.conform.case import Case, DeviceOf, Registers
from xenaer.conform.machine import Machine
from xenaer.conform.steps import SetLimit, SetRegister, Step, UnsupportedError

UNREACHABLE = {"command": "0xffff", "status": "0xffff"}
SUPPRESSED = "_suppressed"

_NUMBERS = {
    "aer_dev_correctable": {name: bit for bit, name in COR_NAMES.items()},
    "aer_dev_nonfatal": {name: bit for bit, name in UNCOR_NAMES.items()},
    "aer_dev_fatal": {name: bit for bit, name in UNCOR_NAMES.items()},
}


def prepare(machine: Machine, case: Case, preparation: list[Step]) -> None:
    """Set ``machine`` back and then to the start of ``case``. Raises UnsupportedError."""
    machine.reset()
    touched = [step for step in preparation if isinstance(step, SetRegister)]
    for device in case.devices:
        _bind(machine, device)
    for sbdf, entry in case.start.items():
        _start(machine, sbdf, entry)
    for sbdf, registers in case.before.items():
        _set_registers(machine, sbdf, registers, {step.register for step in touched if step.sbdf == sbdf})
    for step in touched:
        if step.sbdf not in case.before:  # else it is in there: the snapshot was taken afterwards
            _set_register(machine, step.sbdf, step.register, step.value)
    for sbdf, counters in case.counters.items():
        _set_counters(machine, sbdf, counters)
    for limit in preparation:
        if isinstance(limit, SetLimit):
            _set_limit(machine, limit)


def _bind(machine: Machine, device: DeviceOf) -> None:
    dev = machine.device(device.sbdf)
    machine.dom0.answers[device.sbdf] = device.answers
    dev.set_driver(machine.core.drivers[device.driver] if device.driver else None)
    dev.enable_cnt = 1 if device.driver else 0


def _start(machine: Machine, sbdf: Sbdf, entry: Registers | str) -> None:
    """Values that earlier cases left, and functions that are gone."""
    if isinstance(entry, str):
        _absent(machine, sbdf)
        return
    suppressed = {key: value for key, value in entry.items() if key.endswith(SUPPRESSED)}
    _set_registers(machine, sbdf, {key: value for key, value in entry.items() if key not in suppressed}, set())
    info = machine.device(sbdf).aer_info
    for key, value in suppressed.items():
        if info is not None:
            _suppressed(getattr(info, key.removesuffix(SUPPRESSED)), value, machine.world.now())


def _suppressed(limiter: RateLimit, count: int, now: int) -> None:
    """``count`` calls were refused in a window that has ended long ago."""
    limiter.started, limiter.missed = True, count
    limiter.begin = now - 2 * limiter.interval * NS_PER_JIFFY


def _absent(machine: Machine, sbdf: Sbdf) -> None:
    dev = machine.core.devices.get(sbdf)
    if dev is not None:
        for each in (*dev.below, dev):
            machine.core.forget(each)
    machine.hierarchy.unplug(sbdf)


def _set_registers(machine: Machine, sbdf: Sbdf, registers: Registers, touched: set[str]) -> None:
    """``touched`` were written by the preparation, hence are not in the image that a driver has saved."""
    dev = machine.device(sbdf)
    if {key: registers.get(key) for key in UNREACHABLE} == UNREACHABLE:
        machine.hierarchy.unplug(sbdf)
        return
    after_boot = machine.core.read(dev, HEADER.COMMAND, 2)
    for name, text in registers.items():
        if name == "aer_header_log":
            dwords = tuple(int(dword, 16) for dword in text)
            machine.hierarchy.functions[sbdf].config.poke_dwords(dev.aer + AER.HEADER_LOG, dwords)
        elif name in REGISTERS:
            _set_register(machine, sbdf, name, int(text, 16))
    if "command" in registers and "command" not in touched:
        _adapt_image(dev, after_boot, int(registers["command"], 16))


def _set_register(machine: Machine, sbdf: Sbdf, name: str, value: int) -> None:
    set_named_register(machine.hierarchy.functions[sbdf], machine.device(sbdf), name, value)


def set_named_register(function: Function, dev: PciDev, name: str, value: int) -> None:
    """Give a register of ``REGISTERS`` a value, past its write mask. Raises UnsupportedError if it is not there."""
    layout, register, size, shift = REGISTERS[name]
    base = {EXP: dev.exp, AER: dev.aer}.get(layout, 0)
    if layout in (EXP, AER) and not base:
        raise UnsupportedError(f"{dev.name} has no register {name}")
    if value >> 8 * size:
        raise UnsupportedError(f"{dev.name}: {name} {value:#x} has more than {8 * size} bits")
    function.config.poke(base + register + shift, size, value)


def _adapt_image(dev: PciDev, after_boot: int, command: int) -> None:
    """The saved Command is the one of the case, but for the bits that a driver sets after saving (errata 4.4)."""
    state = dev.saved_state
    if state is None:
        return
    header = list(state.header)
    later = after_boot ^ header[1] & 0xFFFF
    header[1] = header[1] & ~0xFFFF | command & ~later | header[1] & later
    dev.saved_state = state._replace(header=tuple(header))


# -- counters and limits -------------------------------------------------------------------------
def _set_counters(machine: Machine, sbdf: Sbdf, counters: dict[str, Any]) -> None:
    info = machine.device(sbdf).aer_info
    if info is None:
        raise UnsupportedError(f"{sbdf} has no AER counters")
    for file, value in counters.items():
        if file in (*ROOT_FILES, *DEVICE_FILES):
            set_counter_file(info, file, value)
        else:
            raise UnsupportedError(f"{sbdf}: counter file {file!r}")


def set_counter_file(info: AerInfo, file: str, counts: Any) -> None:
    """Give the counters of one sysfs file their values. Raises UnsupportedError for a name that is not there."""
    if file in ROOT_FILES:
        info.stats.root[ROOT_FILES[file]] = counts
        return
    severity, _, array, total = DEVICE_FILES[file]
    for name, count in counts.items():
        if name == total:
            info.stats.totals[severity] = count
        elif name in _NUMBERS[file]:
            info.stats.bits[severity][_NUMBERS[file][name]] = count
        elif name.startswith(f"{array}_bit["):
            info.stats.bits[severity][int(name[len(array) + 5 : -1])] = count
        else:
            raise UnsupportedError(f"counter {name!r} in {file}")


def _set_limit(machine: Machine, limit: SetLimit) -> None:
    info = machine.device(limit.sbdf).aer_info
    if info is None:
        raise UnsupportedError(f"{limit.sbdf} has no rate limits")
    limiter = getattr(info, f"{limit.limiter}_ratelimit")
    if limit.field == "burst":
        limiter.burst = limit.value
    else:
        limiter.set_interval_ms(limit.value)
