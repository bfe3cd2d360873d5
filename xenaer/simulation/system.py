"""A complete system in virtual time, with the same face as one of processes (``xenaer.campaign.system.System``)."""

from __future__ import annotations

from typing import Any

from dom0_pciback.dom0 import Dom0
from hypervisor_stub.hypervisor import Hypervisor
from hypervisor_stub.supervisor import Supervisor
from kernel_stub.kernel import MS, Kernel
from kernel_stub.rpc import RpcError
from protocol.ports import Record
from protocol.topology import HostSpec
from xenaer.control import ControlError
from xenaer.journal import entry
from xenaer.simulation.links import SimEndpoints
from xenaer.simulation.parties import SimParts, SimRunner

CTL_LIMIT_MS = 3_600_000  # virtual time that one control request may take


class SimError(ControlError):
    """A control request was refused, or never answered."""


class SimSystem:
    """The system of ``host``, booted; ``seed`` (default: the host's) decides every order."""

    def __init__(self, host: HostSpec, seed: int | None = None, *, boot: bool = True) -> None:
        self.host = host
        self.parts = parts = SimParts(host.seed if seed is None else seed)
        self.world = parts.world
        self._tokens = 0
        self._alive = 1 + len(host.guests)  # dom0 and the supervisors; the stub ends last
        self.kernel = parts.make_kernel("hypervisor")
        self.hypervisor = Hypervisor(self.kernel, host, self._token)
        parts.accept = self.hypervisor.accept
        self.dom0 = self._make_dom0()
        self.supervisors = [self._make_supervisor(guest.name) for guest in host.guests]
        if boot:
            self._ask("boot", "hypervisor", "boot", [])

    def _token(self) -> str:
        self._tokens += 1
        return f"token-{self._tokens}"

    def _make_dom0(self) -> Dom0:
        kernel = self.parts.make_kernel("dom0")
        dom0 = Dom0(kernel, self.world, self.parts.connect_hypervisor("dom0"), SimEndpoints(self.parts.board, "dom0"))
        dom0.on_stop = lambda: self.world.at(self.world.now(), lambda: self._end(kernel))  # not in the task's name
        return dom0

    def _make_supervisor(self, name: str) -> Supervisor:
        kernel = self.parts.make_kernel(f"supervisor-{name}")
        link = self.parts.connect_hypervisor(f"supervisor-{name}")
        supervisor = Supervisor(kernel, link, SimRunner(self.parts, kernel), name)
        supervisor.on_stop = lambda: self._end(kernel)
        return supervisor

    def _end(self, kernel: Kernel) -> None:
        """A party ends in order, with the same last record as a process."""
        kernel.trace("party.end", kernel.name, 0)
        self.world.drop(kernel)
        self._alive -= 1

    # -- xenaer.campaign.system.System -------------------------------------------------------------------
    def ctl(self, target: str, verb: str, args: list[Any]) -> Any:
        """Ask a party to do something; time passes until it has answered. Raises SimError."""
        return self._ask("ctl of control", target, verb, args)

    def _ask(self, task_name: str, target: str, verb: str, args: list[Any]) -> Any:
        """``task_name`` is that of the task which does the same in the stub's process."""
        task = self.kernel.spawn(_answer(self.hypervisor, target, verb, args), task_name)
        if not self.world.run_until(lambda: task.done, self.world.now() + CTL_LIMIT_MS * MS):
            raise SimError(f"{target} does not answer {verb}")
        ok, value = task.result
        if not ok:
            raise SimError(value)
        return value

    def records(self, cursor: int | None = None) -> tuple[list[dict[str, Any]], int]:
        """Journal records from ``cursor`` on as dictionaries, and the next cursor."""
        cursor = cursor or 0
        found = self.parts.records[cursor:]
        return [entry(party, record) for party, record in found], cursor + len(found)

    def raw_records(self) -> list[tuple[str, Record]]:
        """(party, record) of everything so far."""
        return self.parts.records

    def advance(self, ms: float) -> None:
        """Let virtual time pass."""
        self.world.run_until(lambda: False, self.world.now() + int(ms * MS))

    @property
    def now_s(self) -> float:
        """Virtual seconds since the start."""
        return self.world.now() / 1e9

    def close(self) -> None:
        """Orderly end: every guest is destroyed, every party told to stop; a second time it does nothing."""
        if self.hypervisor.stopped:
            return
        self.ctl("hypervisor", "stop", [])
        self.world.run_until(lambda: not self._alive, self.world.now() + CTL_LIMIT_MS * MS)
        self._end(self.kernel)


async def _answer(hypervisor: Hypervisor, target: str, verb: str, args: list[Any]) -> tuple[bool, Any]:
    try:
        return True, await hypervisor.control.ctl(target, verb, args)
    except RpcError as error:
        return False, str(error)
