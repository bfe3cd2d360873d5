"""A recorded machine, booted once and set back before each case.

What a case may change is taken at boot (``_Image``) and put back: registers, drivers, counters, limiters,
the lists of functions. A machine on which a task is left waiting is not used again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from dom0_pciback.aer.info import AerInfo
from dom0_pciback.aer.names import COR_NAMES, UNCOR_NAMES
from dom0_pciback.aer.stats import DEVICE_FILES, ROOT_FILES
from dom0_pciback.drivers.aerlab import Answers
from dom0_pciback.native import NativeDom0
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import PciDriver
from dom0_pciback.pci.state import SavedState
from dom0_pciback.pcie.collector import EventCollector
from dom0_pciback.pcie.function import Function
from dom0_pciback.pcie.link import LinkState
from dom0_pciback.pcie.port import Port, RootPort
from kernel_stub.kernel import Kernel, Task
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP
from protocol.ports import Record
from protocol.register_names import REGISTERS
from xenaer.boot import data_dir
from xenaer.conform.case import Case, Registers
from xenaer.conform.steps import SetLimit, SetRegister, Step, UnsupportedError
from xenaer.host import load_host
from xenaer.simulation.world import World

NS_PER_S = 1_000_000_000
BOOT_NS = 60 * NS_PER_S
XEN_MACHINES = "xen-"  # hosts of the recordings of a real Xen (``xen_machine``)
UNREACHABLE = {"command": "0xffff", "status": "0xffff"}


class _FunctionImage(NamedTuple):
    function: Function
    data: bytes
    children: tuple[Function, ...]
    link: LinkState | None
    reachable_at: int


class _DeviceImage(NamedTuple):
    dev: PciDev
    driver: PciDriver | None
    saved_state: SavedState | None
    enable_cnt: int
    devpath: str
    subordinate: tuple[PciDev, ...]
    below: tuple[PciDev, ...]


class Memory:
    """A journal in memory that can be emptied."""

    __slots__ = ("append", "records")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.append = self.records.append

    def flush(self) -> None:
        """Nothing waits."""


class Machine:
    """``name`` is one of ``machine_names``. ``stuck``: not to be used again."""

    def __init__(self, name: str) -> None:
        host = load_host(_folder() / f"{name}.yaml")
        self.name = name
        self.stuck = False
        self.world = World(host.seed)
        self.journal = Memory()
        self.kernel = Kernel("dom0", self.world, self.journal)
        self.world.adopt(self.kernel)
        self.dom0 = NativeDom0(self.kernel, self.world, host)
        self.kernel.spawn(self.dom0.start(), "init")
        self.world.run_until(lambda: False, BOOT_NS)
        self.core, self.hierarchy = self.dom0.core, self.dom0.hierarchy
        self.names = {spec.name: Sbdf.parse(spec.bdf) for spec in host.functions if spec.name}
        self.processors = host.boot.processors
        self._servants: set[Task] = set(self.kernel.tasks)  # the interrupt threads, waiting for work
        self._functions = [_function_image(function) for function in self.hierarchy.functions.values()]
        self._known = dict(self.core.devices)
        self._devices = [_device_image(dev) for dev in self.core.devices.values()]

    @property
    def at_rest(self) -> bool:
        """All tasks of the last case have ended, and the interrupt threads wait for work."""
        waiting = all(not rpc.fifo and rpc.queue.waiters for rpc in self.dom0.aer.roots.values())
        return set(self.kernel.tasks) == self._servants and waiting

    def known(self, sbdf: Sbdf) -> PciDev:
        """A function that was there after boot, gone or not."""
        return self._known[sbdf]

    # -- back to the state after boot ------------------------------------------------------------
    def reset(self) -> None:
        """As it was after boot."""
        self.journal.records.clear()
        self.dom0.injector.unload()
        self.dom0.answers.clear()
        self.kernel.choose = lambda label, ways: 0
        self.hierarchy.functions.clear()
        self.core.devices.clear()
        for image in self._functions:
            _restore_function(image)
            self.hierarchy.functions[image.function.sbdf] = image.function
        for device in self._devices:
            _restore_device(device, self.kernel)
            self.core.devices[device.dev.sbdf] = device.dev

    # -- to the start of a case ------------------------------------------------------------------
    def prepare(self, case: Case, preparation: list[Step]) -> None:
        """Drivers, registers and counters as the case found them. Raises UnsupportedError."""
        self.reset()
        touched = [step for step in preparation if isinstance(step, SetRegister)]
        for device in case.devices:
            self._bind(device.sbdf, device.driver, device.answers, recorded=bool(case.before))
        for sbdf, entry in case.start.items():
            self._start(sbdf, entry)
        for sbdf, registers in case.before.items():
            self._set_registers(sbdf, registers, {step.register for step in touched if step.sbdf == sbdf})
        for step in touched:
            if step.sbdf not in case.before:
                self.set_register(step.sbdf, step.register, step.value)
        for sbdf, counters in case.counters.items():
            self._set_counters(sbdf, counters)
        for limit in preparation:
            if isinstance(limit, SetLimit):
                self._set_limit(limit)

    def _bind(self, sbdf: Sbdf, name: str, answers: Answers, *, recorded: bool) -> None:
        dev = self.device(sbdf)
        self.dom0.answers[sbdf] = answers
        dev.set_driver(self.core.drivers[name] if name else None)
        dev.enable_cnt = 1 if name else 0

    def device(self, sbdf: Sbdf) -> PciDev:
        """A function of the kernel. Raises UnsupportedError."""
        dev = self.core.devices.get(sbdf)
        if dev is None:
            raise UnsupportedError(f"machine {self.name} has no function {sbdf}")
        return dev

    def _start(self, sbdf: Sbdf, entry: Registers | str) -> None:
        """Values that earlier cases left, and functions that are gone (errata section 5)."""
        if isinstance(entry, str):
            self._absent(sbdf)
            return
        suppressed = {key: value for key, value in entry.items() if key.endswith("_suppressed")}
        self._set_registers(sbdf, {key: value for key, value in entry.items() if key not in suppressed}, set())
        info = self.device(sbdf).aer_info
        for key, value in suppressed.items():
            if info is not None:
                getattr(info, key.removesuffix("_suppressed")).missed = value

    def _absent(self, sbdf: Sbdf) -> None:
        dev = self.core.devices.get(sbdf)
        if dev is not None:
            for each in (*dev.below, dev):
                self.core.forget(each)
        self.hierarchy.unplug(sbdf)

    def _set_registers(self, sbdf: Sbdf, registers: Registers, touched: set[str]) -> None:
        """``touched`` were written by the preparation, hence are not in the image that a driver has saved."""
        dev = self.device(sbdf)
        if {key: registers.get(key) for key in UNREACHABLE} == UNREACHABLE:
            self.hierarchy.unplug(sbdf)
            return
        before = self.core.read(dev, HEADER.COMMAND, 2)
        for name, text in registers.items():
            if name == "aer_header_log":
                dwords = tuple(int(dword, 16) for dword in text)
                self.hierarchy.functions[sbdf].config.poke_dwords(dev.aer + AER.HEADER_LOG, dwords)
            elif name in REGISTERS:
                self.set_register(sbdf, name, int(text, 16))
        if "command" in registers and "command" not in touched:
            _adapt_image(dev, before, int(registers["command"], 16))

    def set_register(self, sbdf: Sbdf, name: str, value: int) -> None:
        """Give a register a value, past its write masks. Raises UnsupportedError for one that is not there."""
        dev, function = self.device(sbdf), self.hierarchy.functions[sbdf]
        set_named_register(function, dev, name, value)

    def _set_counters(self, sbdf: Sbdf, counters: dict[str, Any]) -> None:
        info = self.device(sbdf).aer_info
        if info is None:
            raise UnsupportedError(f"{sbdf} has no AER counters")
        for file, value in counters.items():
            if file in (*ROOT_FILES, *DEVICE_FILES):
                set_counter_file(info, file, value)
            else:
                raise UnsupportedError(f"{sbdf}: counter file {file!r}")

    def _set_limit(self, limit: SetLimit) -> None:
        info = self.device(limit.sbdf).aer_info
        if info is None:
            raise UnsupportedError(f"{limit.sbdf} has no rate limits")
        limiter = getattr(info, f"{limit.limiter}_ratelimit")
        if limit.field == "burst":
            limiter.burst = limit.value
        else:
            limiter.set_interval_ms(limit.value)


def _folder() -> Path:
    return data_dir("hosts") / "recorded"


def machine_names() -> list[str]:
    """Machines without Xen that are described in ``hosts/recorded``."""
    return sorted(file.stem for file in _folder().glob("*.yaml") if not file.stem.startswith(XEN_MACHINES))


def set_named_register(function: Function, dev: PciDev, name: str, value: int) -> None:
    """Give a register of ``REGISTERS`` a value, past its write mask. Raises UnsupportedError if it is not there."""
    layout, register, size, shift = REGISTERS[name]
    base = {EXP: dev.exp, AER: dev.aer}.get(layout, 0)
    if layout in (EXP, AER) and not base:
        raise UnsupportedError(f"{dev.sbdf} has no register {name}")
    function.config.poke(base + register + shift, size, value)


def _function_image(function: Function) -> _FunctionImage:
    link = function.link.state if isinstance(function, Port) else None
    return _FunctionImage(
        function, bytes(function.config.data), tuple(function.children), link, function.reachable_at
    )  # fmt: skip


def _device_image(dev: PciDev) -> _DeviceImage:
    return _DeviceImage(
        dev, dev.driver, dev.saved_state, dev.enable_cnt, dev.devpath, tuple(dev.subordinate), dev.below
    )  # fmt: skip


def _restore_function(image: _FunctionImage) -> None:
    function = image.function
    function.config.data[:] = image.data
    function.children[:] = image.children
    function.ready_at = 0
    function.reachable_at = image.reachable_at
    function.log_valid = False
    if isinstance(function, Port) and image.link is not None:
        function.link.state = image.link
    if isinstance(function, RootPort | EventCollector):
        function.aer_interrupt.level = False


def _restore_device(image: _DeviceImage, kernel: Kernel) -> None:
    dev = image.dev
    dev.set_driver(image.driver)
    dev.error_state = type(dev.error_state).NORMAL
    dev.saved_state, dev.enable_cnt, dev.devpath = image.saved_state, image.enable_cnt, image.devpath
    dev.subordinate[:] = image.subordinate
    dev.below = image.below
    dev.reset_methods = None
    if dev.aer_info is not None:
        dev.aer_info = AerInfo(kernel)


def _adapt_image(dev: PciDev, after_boot: int, command: int) -> None:
    """The saved Command is the one of the case, but for the bits that a driver sets after saving (errata 4.4)."""
    state = dev.saved_state
    if state is None:
        return
    header = list(state.header)
    later = after_boot ^ header[1] & 0xFFFF
    header[1] = header[1] & ~0xFFFF | command & ~later | header[1] & later
    dev.saved_state = state._replace(header=tuple(header))


_NUMBERS = {
    "aer_dev_correctable": {name: bit for bit, name in COR_NAMES.items()},
    "aer_dev_nonfatal": {name: bit for bit, name in UNCOR_NAMES.items()},
    "aer_dev_fatal": {name: bit for bit, name in UNCOR_NAMES.items()},
}


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
