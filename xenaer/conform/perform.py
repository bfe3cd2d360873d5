"""Performs a case on its machine, in virtual time, and says what could be seen (``Seen``)."""

from __future__ import annotations

from typing import Any, NamedTuple

from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.remove import pci_stop_and_remove_bus_device
from dom0_pciback.pci.reset import reset_function
from dom0_pciback.pcie.function import Function
from kernel_stub.kernel import WARNING, Choose
from protocol.ids import Sbdf
from protocol.ports import Record
from xenaer.conform import state
from xenaer.conform.case import Case
from xenaer.conform.machine import NS_PER_S, Machine
from xenaer.conform.prepare import prepare
from xenaer.conform.steps import (
    Continue,
    HardwareError,
    Request,
    Sleep,
    SoftwareError,
    Step,
    Stop,
    Unplug,
    UnsupportedError,
    parse_injected,
    parse_preparation,
)

MONITOR_NS = 1_000_000  # until the next step, on a quiet host (errata 6.1)
PATIENCE_NS = 200 * NS_PER_S  # until everything has ended


class Seen(NamedTuple):
    """Journal of the case, and the state of all functions before and after it."""

    records: list[Record]
    before: dict[Sbdf, state.DeviceState]
    after: dict[Sbdf, state.DeviceState]
    named: set[Sbdf]
    machine: Machine


class _Performance:
    """One case on one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.stopped = False
        self.pending: list[Function] = []
        machine.hierarchy.interrupt = self._interrupt

    def _interrupt(self, function: Function) -> None:
        if not self.stopped:
            self.machine.dom0.aer.interrupt(function)
        elif function not in self.pending:
            self.pending.append(function)

    def step(self, step: Step) -> None:
        """Do it, and let the time pass that it takes."""
        match step:
            case HardwareError():
                self._hardware(step)
            case SoftwareError():
                self.machine.dom0.injector.inject(*step)
            case Unplug():
                self._unplug(step.name)
            case Stop():
                self.stopped = True
            case Continue():
                self._continue()
            case Sleep():
                self._pass(round(step.seconds * NS_PER_S))
            case Request():
                self._request(step)
            case _:
                pass
        if not self.stopped:
            self._pass(MONITOR_NS)

    def _pass(self, ns: int) -> None:
        world = self.machine.world
        world.run_until(lambda: False, world.now() + ns)

    def _named(self, name: str) -> Sbdf:
        sbdf = self.machine.names.get(name)
        if sbdf is None:
            raise UnsupportedError(f"machine {self.machine.name} has no device {name!r}")
        return sbdf

    def _hardware(self, error: HardwareError) -> None:
        sbdf = self._named(error.name)
        if sbdf not in self.machine.hierarchy.functions:
            return  # the monitor says that there is no such device
        cor, uncor = (error.status, 0) if error.correctable else (0, error.status)
        try:
            self.machine.hierarchy.inject(sbdf, cor, uncor, error.header, error.advisory, error.prefixes)
        except ValueError as problem:
            raise UnsupportedError(str(problem)) from None

    def _continue(self) -> None:
        """Interrupts that came meanwhile are served, the highest vector first (errata 2.5)."""
        self.stopped = False
        roots = self.machine.dom0.aer.roots
        served = [function for function in self.pending if function.sbdf in roots]
        for function in sorted(served, key=lambda each: roots[each.sbdf].irq, reverse=True):
            self.machine.dom0.aer.interrupt(function)
        self.pending.clear()

    def _unplug(self, name: str) -> None:
        dev = self.machine.core.devices.get(self._named(name))
        port = dev.bridge if dev is not None else None
        if port is None or port.slot is None:
            raise UnsupportedError(f"device_del {name}: it is in no slot")
        port.slot.eject()

    # -- writes to sysfs -----------------------------------------------------------------------
    def _request(self, request: Request) -> None:
        dev = self.machine.device(request.sbdf)
        task = self.machine.kernel.spawn(self._do(request, dev), f"sh/{request.action}")
        if not request.background:
            world = self.machine.world
            world.run_until(lambda: task.done, world.now() + PATIENCE_NS)

    async def _do(self, request: Request, dev: PciDev) -> None:
        core = self.machine.core
        rc = 0
        if request.action == "remove":
            async with core.rescan_remove_lock:
                await pci_stop_and_remove_bus_device(core, dev)
        elif request.action == "unbind":
            await core.unbind(dev)
        else:
            if request.method:
                dev.reset_methods = (request.method,)
            rc, _ = await reset_function(core, dev)
        if request.said:
            self.machine.kernel.printk(WARNING, f"{request.said} rc={int(rc < 0)}")  # of the shell's echo


def perform(machine: Machine, case: Case, choose: Choose | None = None) -> Seen:
    """Prepare ``machine`` and do what the case does. Raises UnsupportedError if that cannot be expressed.

    ``choose`` decides what may go either way on several processors.
    """
    preparation, injected = parse_preparation(case.preparation), parse_injected(case.injected)
    prepare(machine, case, preparation)
    if any(isinstance(step, SoftwareError) for step in injected):
        _adopt(machine, injected)
    if choose is not None:
        machine.kernel.choose = choose
    before = state.of_machine(machine)
    performance = _Performance(machine)
    for step in injected:
        performance.step(step)
    world = machine.world
    world.run_until(lambda: False, world.now() + PATIENCE_NS)
    named = {machine.names[step.name] for step in injected if isinstance(step, HardwareError)}
    return Seen(list(machine.journal.records), before, state.of_machine(machine), named, machine)


def _adopt(machine: Machine, steps: list[Step]) -> None:
    """The module of the software injector was loaded before: what the registers show is its simulation."""
    injector = machine.dom0.injector
    for step in steps:
        dev: Any = machine.core.devices.get(step.sbdf) if isinstance(step, SoftwareError) else None
        root = machine.dom0.aer.root_of(dev) if dev is not None else None
        for each in (dev, root):
            if root is not None and each is not None and each.aer:
                injector.adopt(each)
