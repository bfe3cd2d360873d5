"""The verbs of the control connection: what ``xenaer`` asks of the stub. Results are plain data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypervisor_stub import pci_nodes
from hypervisor_stub.console import LibxlError, LibxlLog
from hypervisor_stub.domains import Domain, state_letters
from hypervisor_stub.machine import Machine
from hypervisor_stub.toolstack import Toolstack
from hypervisor_stub.xenstore_ls import xenstore_ls
from hypervisor_stub.xl import Xl
from kernel_stub.kernel import MS
from kernel_stub.rpc import Rpc, RpcError
from protocol.topology import GuestSpec

SELF = "hypervisor"
READY_POLL_MS = 2
SLOW_START_MAX_MS = 600_000


class Control:
    """Serves ``ctl(target, verb, args)``: own verbs for ``hypervisor``, everything else is passed on."""

    def __init__(self, toolstack: Toolstack, xl: Xl, on_stop: Callable[[], Awaitable[None]]) -> None:
        self._toolstack = toolstack
        self._machine: Machine = toolstack.machine
        self._xl = xl
        self._verbs: dict[str, tuple[int, Callable[..., Awaitable[Any]]]] = {  # verb -> (most arguments, function)
            "xl": (64, self._run_xl),
            "status": (0, self._status),
            "xenstore-ls": (1, self._xenstore_ls),
            "boot": (0, self._boot),
            "wait-ready": (0, self._wait_ready),
            "stop": (0, on_stop),
            "stop-guest": (1, self._stop_guest),
            "slow-start": (2, self._slow_start),
            "refusals": (0, self._refusals),
        }

    async def ctl(self, target: str, verb: str, args: Sequence[Any]) -> Any:
        """Run one verb. Raises RpcError, which names what is allowed."""
        if target != SELF:
            return await self._party(target).call("ctl", verb, list(args))
        if verb not in self._verbs:
            raise RpcError(f"unknown verb {verb!r}; allowed: {', '.join(self._verbs)}")
        most, run = self._verbs[verb]
        if len(args) > most:
            raise RpcError(f"{verb}: {len(args)} arguments, at most {most} are allowed")
        try:
            call = run(*args)
        except TypeError:
            raise RpcError(f"{verb}: {len(args)} arguments are too few") from None
        return await call

    def _party(self, target: str) -> Rpc:
        if target == "dom0":
            party = self._machine.dom0
        elif self._machine.host.guest(target) is not None:
            domain = self._machine.domains.by_name(target)
            party = domain.rpc if domain else None
        else:
            guests = [guest.name for guest in self._machine.host.guests]
            raise RpcError(f"unknown target {target!r}; allowed: {', '.join([SELF, 'dom0', *guests])}")
        if party is None:
            raise RpcError(f"{target} is not running")
        return party

    async def _run_xl(self, *argv: Any) -> list[Any]:
        return list(await self._xl.xl([str(word) for word in argv]))

    async def _xenstore_ls(self, path: Any = "/") -> str:
        return xenstore_ls(self._machine.xs, str(path))

    async def _stop_guest(self, name: Any) -> str:
        """SIGSTOP behind the toolstack's back: the guest is mute, and nobody has been told."""
        domain = self._machine.domains.by_name(str(name))
        if domain is None or domain.supervisor is None:
            raise RpcError(f"{name} is not running")
        await domain.supervisor.call("pause", domain.domid)
        return f"{name} is stopped"

    async def _slow_start(self, name: Any, ms: Any) -> str:
        """The next process of a guest begins ``ms`` milliseconds later than it would."""
        supervisor = self._machine.supervisors.get(str(name))
        if supervisor is None:
            known = ", ".join(sorted(self._machine.supervisors))
            raise RpcError(f"{name} has no supervisor; there are those of {known or 'nobody'}")
        if type(ms) is not int or not 0 < ms <= SLOW_START_MAX_MS:
            raise RpcError(f"slow-start: {ms!r} is not a whole number of milliseconds from 1 to {SLOW_START_MAX_MS}")
        await supervisor.call("slow_start", ms)
        return f"the next start of {name} takes {ms} ms longer"

    async def _refusals(self) -> dict[str, int]:
        """What has been refused, by kind."""
        return self._machine.refusals.statistics()

    # -- status --------------------------------------------------------------------------------
    async def _status(self) -> dict[str, Any]:
        machine = self._machine
        return {
            "ready": self.ready(),
            "profile": machine.host.profile,
            "dom0": machine.dom0 is not None,
            "supervisors": sorted(machine.supervisors),
            "domains": [self._domain_status(domain) for domain in machine.domains],
            "devices": [self._device_status(f.bdf) for f in machine.host.functions if f.kind == "endpoint"],
        }

    def ready(self) -> bool:
        """dom0 is there and every autostart guest is up."""
        return self._machine.dom0 is not None and all(self._is_up(spec) for spec in self._autostart())

    async def _wait_ready(self) -> bool:
        """Answer once ``ready`` holds; False if that takes longer than a guest may take to connect."""
        machine = self._machine
        deadline = machine.deadline(machine.host.timing.connect_grace_ms)
        while not self.ready():
            if machine.kernel.now() > deadline:
                return False
            await machine.kernel.sleep(READY_POLL_MS * MS)
        return True

    def _autostart(self) -> list[GuestSpec]:
        return [spec for spec in self._machine.host.guests if spec.autostart]

    def _is_up(self, spec: GuestSpec) -> bool:
        domain = self._machine.domains.by_name(spec.name)
        return domain is not None and self._toolstack.is_up(domain)

    def _domain_status(self, domain: Domain) -> dict[str, Any]:
        be, fe = self._toolstack.states(domain)
        return {
            "domid": domain.domid,
            "name": domain.name,
            "type": domain.spec.type,
            "state": state_letters(domain.life, domain.reason),
            "life": str(domain.life),
            "pid": domain.pid,
            "be": be,
            "fe": fe,
            "policy": domain.spec.policy,
            "devices": [entry._asdict() for entry in pci_nodes.entries(self._machine.xs, domain.domid)],
        }

    def _device_status(self, bdf: str) -> dict[str, Any]:
        owner = next((domain.name for domain in self._machine.domains if bdf in domain.functions), "")
        return {"bdf": bdf, "domain": owner, "fault": self._toolstack.hardware.fault(bdf)}

    # -- boot ----------------------------------------------------------------------------------
    async def _boot(self) -> list[list[str]]:
        """Create the autostart guests in order, wait for each: [[name, how it went], ...]."""
        await self._wait_parties()
        created = [(spec.name, await self._create(spec)) for spec in self._autostart()]
        return [
            [name, result if isinstance(result, str) else await self._toolstack.wait_up(result)]
            for name, result in created
        ]

    async def _wait_parties(self) -> None:
        machine = self._machine
        names = [spec.name for spec in self._autostart()]
        deadline = machine.deadline(machine.host.timing.connect_grace_ms)

        def missing() -> list[str]:
            parties = [] if machine.dom0 is not None else ["dom0"]
            return parties + [f"supervisor of {name}" for name in names if name not in machine.supervisors]

        if not await machine.parties.wait_until(lambda: not missing(), deadline):
            raise RpcError(f"not connected: {', '.join(missing())}")

    async def _create(self, spec: GuestSpec) -> Domain | str:
        running = self._machine.domains.by_name(spec.name)
        if running is not None:
            return running
        log = LibxlLog(self._machine.console)
        try:
            return await self._toolstack.create(spec, log)
        except LibxlError as error:
            return log.shown[0] if log.shown else str(error)
