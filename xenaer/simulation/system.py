"""A complete system in virtual time, with the same face as one of processes (``campaign.steps.system.System``)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from dom0_pciback.dom0 import Dom0
from hypervisor_stub.hypervisor import Hypervisor
from hypervisor_stub.supervisor import Supervisor
from kernel_stub.kernel import MS, Kernel, Task
from kernel_stub.rpc import RpcError
from protocol.ports import Record
from protocol.topology import HostSpec
from xenaer.campaign.steps.system import Watch
from xenaer.control import ControlError
from xenaer.journal import entry
from xenaer.simulation.arming import Arming
from xenaer.simulation.links import SimEndpoints, SimLink
from xenaer.simulation.parties import SIGKILL, SimParts, SimRunner
from xenaer.simulation.signals import Signalled, SimProcess

CTL_LIMIT_MS = 3_600_000  # virtual time that one control request may take
STUB = "hypervisor"


class SimError(ControlError):
    """A control request was refused, or never answered."""


class SimCall:
    """``xenaer.campaign.steps.system.Call``: a control request that is under way."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @property
    def done(self) -> bool:
        """There is an answer."""
        return self._task.done

    def result(self) -> Any:
        """The answer. Raises SimError with what was refused, or if there is no answer."""
        if self._task.result is None:
            raise SimError(f"no answer to {self._task.name}")
        ok, value = self._task.result
        if not ok:
            raise SimError(value)
        return value


class SimSystem:
    """The system of ``host``, booted; ``seed`` (default: the host's) decides every order."""

    def __init__(self, host: HostSpec, seed: int | None = None, *, boot: bool = True) -> None:
        self.host = host
        self.parts = parts = SimParts(host.seed if seed is None else seed)
        self.world = parts.world
        self.arming = Arming(parts)
        self._tokens = 0
        self._alive = 1 + len(host.guests)  # dom0 and the supervisors; the stub ends last
        self._accepted: list[SimLink] = []
        self.kernel = parts.make_kernel(STUB)
        self.hypervisor = Hypervisor(self.kernel, host, self._token)
        self.processes = {STUB: SimProcess(self.world, self.kernel, lambda: self._accepted)}
        self.hypervisor.on_fatal = lambda reason: self.processes[STUB].leave()
        parts.accept = self._accept
        self.dom0 = self._make_dom0()
        self.supervisors = [self._make_supervisor(guest.name) for guest in host.guests]
        if boot:
            self._boot()

    def _boot(self) -> None:
        try:
            self._ask("boot", STUB, "boot", [])
        except BaseException:
            self.give_up()
            raise

    def _token(self) -> str:
        self._tokens += 1
        return f"token-{self._tokens}"

    def _accept(self, link: SimLink) -> None:
        self._accepted = [each for each in self._accepted if not each.closed] + [link]
        self.hypervisor.accept(link)

    def _make_dom0(self) -> Dom0:
        kernel, endpoints = self.parts.make_kernel("dom0"), SimEndpoints(self.parts.board, "dom0")
        link = self.parts.connect_hypervisor("dom0")
        dom0 = Dom0(kernel, self.world, link, endpoints)
        dom0.on_stop = lambda: self.world.at(self.world.now(), lambda: self._end(kernel))  # not in the task's name
        process = self.processes["dom0"] = SimProcess(self.world, kernel, lambda: [link, *endpoints.links])
        dom0.rpc.on_close = lambda reason: process.lost(STUB, reason)
        return dom0

    def _make_supervisor(self, name: str) -> Supervisor:
        kernel = self.parts.make_kernel(f"supervisor-{name}")
        link = self.parts.connect_hypervisor(f"supervisor-{name}")
        runner = SimRunner(self.parts, kernel)
        supervisor = Supervisor(kernel, link, runner, name)
        supervisor.on_stop = lambda: self._end(kernel)
        process = self.processes[kernel.name] = SimProcess(self.world, kernel, lambda: [link])
        supervisor.rpc.on_close = lambda reason: process.lost(STUB, reason)
        process.on_end = supervisor.end
        return supervisor

    def _end(self, kernel: Kernel) -> None:
        """A party ends in order, with the same last record as a process."""
        kernel.trace("party.end", kernel.name, 0)
        self.world.drop(kernel)
        self._alive -= 1

    # -- xenaer.campaign.steps.system.System -------------------------------------------------------------------
    @property
    def lost(self) -> bool:
        """The hypervisor stub has ended before its time: the host is gone."""
        return self.processes[STUB].ended

    def ctl(self, target: str, verb: str, args: list[Any]) -> Any:
        """Ask a party to do something; time passes until it has answered. Raises SimError."""
        return self._ask("ctl of control", target, verb, args)

    def _ask(self, task_name: str, target: str, verb: str, args: list[Any]) -> Any:
        """``task_name`` is that of the task which does the same in the stub's process."""
        self._check_lives()
        task = self.kernel.spawn(_answer(self.hypervisor.control.ctl(target, verb, args)), task_name)
        if not self.world.run_until(lambda: task.done or self.lost, self.world.now() + CTL_LIMIT_MS * MS):
            raise SimError(f"{target} does not answer {verb}")
        self._check_lives()
        return SimCall(task).result()

    def _check_lives(self) -> None:
        if self.lost:
            raise SimError("the hypervisor stub is gone")

    def start(self, target: str, verb: str, args: list[Any], *, at_once: bool = False) -> SimCall:
        """Ask, and do not wait; ``at_once``: the party itself, as the next thing that it does. Raises SimError."""
        self._check_lives()
        if at_once and target != STUB:
            kernel, serve = self._server(target)
            return SimCall(kernel.spawn(_answer(serve(verb, tuple(args))), "ctl of hypervisor", first=True))
        answer = _answer(self.hypervisor.control.ctl(target, verb, args))
        return SimCall(self.kernel.spawn(answer, "ctl of control", first=at_once))

    def _server(self, target: str) -> tuple[Kernel, Callable[..., Coroutine[Any, Any, Any]]]:
        """Who serves control requests in dom0 or a guest. Raises SimError."""
        guest = self.parts.guests.get(target)
        if target == "dom0" and "ctl" in self.dom0.rpc.handlers and not self.processes["dom0"].ended:
            return self.dom0.kernel, self.dom0.rpc.handlers["ctl"]  # type: ignore[return-value]
        if guest is not None and not guest.ended:
            return guest.kernel, guest.domu.ctl
        raise SimError(f"{target} is not running")

    def signal(self, target: str, does: str, for_ms: float | None = None) -> None:
        """``kill`` or ``stop`` the process of a guest, of dom0 or of the stub; one that was stopped goes on after
        ``for_ms``, if given. Raises SimError if it does not run."""
        guest = self.parts.guests.get(target)
        process: Signalled | None = self.processes.get(target) if guest is None else guest
        if process is None or process.ended:
            raise SimError(f"{target} is not running")
        if does == "kill":
            process.end(SIGKILL)
            return
        process.freeze(on=True)
        if for_ms is not None:
            self.world.at(self.world.now() + int(for_ms * MS), lambda: process.freeze(on=False))

    def arm(self, watch: Watch, fire: Callable[[], None]) -> None:
        """Call ``fire`` at a program point, before anything else happens there."""
        if watch.of == "record":
            self.arming.at_record(watch, fire)
        elif watch.of == "lock":
            self.arming.at_lock(watch, fire)
        else:
            self.world.at(self.world.now() + round(watch.ms * MS), fire)

    def disarm(self) -> None:
        """Points of records and locks that were not reached are forgotten."""
        self.arming.disarm()

    def recorded(self) -> int:
        """How many records there are."""
        return len(self.parts.records)

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

    @property
    def now_ns(self) -> int:
        """Virtual nanoseconds since the start."""
        return self.world.now()

    def close(self) -> None:
        """Orderly end: every guest is destroyed, every party told to stop; a second time it does nothing."""
        try:
            if not (self.hypervisor.stopped or self.lost):
                self.ctl("hypervisor", "stop", [])
                self.world.run_until(lambda: not self._alive, self.world.now() + CTL_LIMIT_MS * MS)
                self._end(self.kernel)
        finally:
            self.give_up()

    def give_up(self) -> None:
        """It stays where it is; the tasks of its kernels end, and what guests have started outside."""
        for kernel in self.parts.kernels:
            kernel.close()


async def _answer(answer: Coroutine[Any, Any, Any]) -> tuple[bool, Any]:
    try:
        return True, await answer
    except RpcError as error:
        return False, str(error)
