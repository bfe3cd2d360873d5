"""Performs a recorded Xen case in virtual time and says what could be seen (``XenSeen``)."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypervisor_stub.domains import state_letters
from hypervisor_stub.xenstore_ls import xenstore_ls
from kernel_stub.kernel import MS, Choose
from kernel_stub.rpc import RpcError
from protocol.ids import Sbdf
from protocol.ports import Record
from protocol.topology import COLLECTORS
from protocol.xenbus import BACKEND_ROOT
from xenaer.conform import xen_registers
from xenaer.conform.prepare import set_named_register
from xenaer.conform.steps import UnsupportedError
from xenaer.conform.xen_case import XenCase
from xenaer.conform.xen_commands import Command, Inject, SetPci, XlCommand
from xenaer.conform.xen_machine import XenMachine
from xenaer.simulation import SimError


class XenSeen(NamedTuple):
    """Journal since the injection, and what was there at the end. ``state`` None: ``xl list`` has no such guest."""

    records: list[tuple[str, Record]]
    begin: int
    xenstore: list[str]
    registers: list[str]
    counters: list[str]
    state: str | None


def perform(case: XenCase, seed: int, choose: Choose | None = None) -> XenSeen:
    """Do what the case does. ``choose`` decides what may go either way in dom0. Raises UnsupportedError."""
    if case.inject is None:
        raise UnsupportedError("nothing is injected")
    performance = _Performance(case, XenMachine(case, seed))
    if choose is not None:
        performance.machine.dom0.kernel.choose = choose
    return performance.run(case.inject)


class _Performance:
    """One case on one machine."""

    def __init__(self, case: XenCase, machine: XenMachine) -> None:
        self.case = case
        self.machine = machine
        self.system = machine.system
        self.world = machine.system.world

    def run(self, inject: Inject) -> XenSeen:
        for command in self.case.pre:
            self._do(command, wait=True)
        begin, mark = self.world.now(), len(self.system.parts.records)
        self._inject(inject, self.case.port)
        for at_s, commands in sorted(self.case.actions, key=lambda action: action[0]):
            self._until(begin, at_s)
            for command in commands:
                self._do(command)
        self._until(begin, self.case.watched_s)
        return self._seen(begin, mark)

    def _until(self, begin: int, at_s: float) -> None:
        self.world.run_until(lambda: False, begin + round(at_s * 1000) * MS)

    # -- commands ------------------------------------------------------------------------------
    def _do(self, command: Command, *, wait: bool = False) -> None:
        match command:
            case Inject():
                self._inject(command)
            case SetPci():
                dev = self.machine.device(command.sbdf)
                set_named_register(self.machine.function(command.sbdf), dev, command.register, command.value)
            case XlCommand():
                self._xl(list(command.words), wait=wait)

    def _inject(self, inject: Inject, port: Sbdf | None = None) -> None:
        sbdf = self.machine.named(inject.name, port)
        hierarchy = self.machine.dom0.hierarchy
        assert hierarchy is not None
        try:
            hierarchy.inject(sbdf, inject.cor, inject.uncor, advisory=inject.advisory)
        except ValueError as problem:
            raise UnsupportedError(str(problem)) from None

    def _xl(self, words: list[str], *, wait: bool) -> None:
        """In the background, but for a preparation, which is over before anything else happens."""
        if wait:
            try:
                self.system.ctl("hypervisor", "xl", words)
            except SimError as error:
                raise UnsupportedError(str(error)) from None
        else:
            self.system.kernel.spawn(self._quietly(words), f"xl {' '.join(words)}")

    async def _quietly(self, words: list[str]) -> Any:
        try:
            return await self.system.hypervisor.control.ctl("hypervisor", "xl", words)
        except RpcError as error:
            return str(error)

    # -- what is there at the end ------------------------------------------------------------------
    def _seen(self, begin: int, mark: int) -> XenSeen:
        records = self.system.parts.records[mark:]
        domain = self.machine.domain
        state = None if domain is None else state_letters(domain.life, domain.reason)
        return XenSeen(records, begin, self._xenstore(), self._registers(), self._counters(), state)

    def _xenstore(self) -> list[str]:
        xs = self.system.hypervisor.machine.xs
        paths = [BACKEND_ROOT]
        if self.case.guest is not None:
            device = f"/local/domain/{self.case.domid}/device"
            paths.append(device if self.case.guest.hvm else f"{device}/pci")
        return [line for path in paths for line in xenstore_ls(xs, path).splitlines()]

    def _registers(self) -> list[str]:
        return [xen_registers.show(self.machine.function(sbdf), tuple(values)) for sbdf, values in self.case.registers]

    def _counters(self) -> list[str]:
        wanted = self.case.counters or {sbdf: {} for sbdf, _ in self.case.registers}
        return [line for sbdf, files in wanted.items() for line in self._counters_of(sbdf, tuple(files))]

    def _counters_of(self, sbdf: Sbdf, files: tuple[str, ...]) -> list[str]:
        dev = self.machine.device(sbdf)
        if dev.aer_info is None:
            return []
        files = files or xen_registers.counter_files(root=dev.kind in COLLECTORS)
        return [xen_registers.show_counters(dev.name, file, dev.aer_info.stats) for file in files]
