"""The toolstack: what the operator can ask for, put together from libxl's parts.

Source: xen-pci.md 2.7, 5.4, 9. Everything raises LibxlError with a negative return code; the reason is in the log.
"""

from __future__ import annotations

from hypervisor_stub import domain_nodes
from hypervisor_stub.console import ERROR_FAIL, LibxlError, LibxlLog
from hypervisor_stub.domain_watcher import DomainWatcher
from hypervisor_stub.domains import Domain, Step
from hypervisor_stub.hardware import Hardware
from hypervisor_stub.kill import Kill
from hypervisor_stub.libxl_assignable import LibxlAssignable
from hypervisor_stub.libxl_create import LibxlCreate
from hypervisor_stub.libxl_pci import LibxlPci
from hypervisor_stub.machine import Machine
from hypervisor_stub.removals import Removals
from hypervisor_stub.teardown import Teardown
from kernel_stub.kernel import ERR
from kernel_stub.rpc import RpcError
from protocol.topology import GuestSpec
from protocol.xenbus import XenbusState, backend_dir, frontend_dir, parse_state


class Toolstack:
    """libxl and the daemons around it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        domain_nodes.write_dom0(machine.xs)
        self.hardware = Hardware(machine)
        self.assignable = LibxlAssignable(machine, self.hardware)
        self.pci = LibxlPci(machine, self.hardware, self.assignable)
        self.teardown = Teardown(machine, self.hardware, self.pci)
        self.creation = LibxlCreate(machine, self.hardware, self.pci, self.teardown)
        self.watcher = DomainWatcher(machine, self.creation, self.teardown)
        self.kill = Kill(machine, self.watcher, self.teardown)
        self.removals = Removals(machine, self.pci)

    def log(self, level: str, text: str) -> None:
        """A libxl line on the console; ``level`` is one of ``console.LEVELS``, ``text`` what follows it."""
        LibxlLog(self.machine.console).write(level, text)

    async def create(self, spec: GuestSpec, log: LibxlLog) -> Domain:
        """Build and start a guest of the host file."""
        return await self.creation.create(spec, log)

    async def destroy(self, domain: Domain) -> None:
        """``libxl_domain_destroy`` in the order of the profile."""
        await self.teardown.run(domain, "destroy")

    def request_shutdown(self, domain: Domain, word: str) -> None:
        """Ask the guest to end: ``poweroff`` or ``reboot``."""
        domain_nodes.request_shutdown(self.machine.xs, domain, word)

    async def pause(self, domain: Domain) -> None:
        """``libxl_domain_pause``: SIGSTOP."""
        await self._signal(domain, "pause", Step.PAUSE)

    async def unpause(self, domain: Domain) -> None:
        """``libxl_domain_unpause``: SIGCONT."""
        await self._signal(domain, "unpause", Step.UNPAUSE)

    async def _signal(self, domain: Domain, op: str, step: Step) -> None:
        if not domain.advance(step) or domain.supervisor is None:
            return
        try:
            await domain.supervisor.call(op, domain.domid)
        except RpcError as error:
            self.machine.console.printk(ERR, f"{op} {domain.name}: {error}")
            raise LibxlError(ERROR_FAIL) from None
        if self.machine.dom0 is not None:
            self.machine.dom0.post("domain_paused", domain.domid, op == "pause")
        self.machine.kernel.trace(f"domain.{op}", domain.name)

    def states(self, domain: Domain) -> tuple[int, int]:
        """(backend state, frontend state) of the domain's PCI connection; 0 where there is none."""
        xs = self.machine.xs
        return (
            parse_state(xs.read(f"{backend_dir(domain.domid)}/state")),
            parse_state(xs.read(f"{frontend_dir(domain.domid)}/state")),
        )

    def is_up(self, domain: Domain) -> bool:
        """Started and, if it has a frontend and devices, connected on both sides."""
        spec = domain.spec
        if spec.type == "hvm" or not spec.front or not domain.functions:
            return domain.pid > 0
        return self.states(domain) == (XenbusState.CONNECTED, XenbusState.CONNECTED)

    async def wait_up(self, domain: Domain) -> str:
        """Wait until ``is_up``: ``connected``, ``started``, or why not."""
        token = f"up {domain.domid}"
        path = f"{frontend_dir(domain.domid)}/state"
        deadline = self.machine.deadline(self.machine.host.timing.connect_grace_ms)
        self.machine.xs.watch(path, token, lambda _: None)
        living = self.machine.domains.get
        try:
            await self.machine.xs.changed.wait_until(
                lambda: self.is_up(domain) or living(domain.domid) is not domain, deadline
            )
        finally:
            self.machine.xs.unwatch(path, token)
        return self._verdict(domain)

    def _verdict(self, domain: Domain) -> str:
        if self.machine.domains.get(domain.domid) is not domain:
            return "ended while it started"
        be, fe = self.states(domain)
        if not self.is_up(domain):
            return f"not connected: backend state {be}, frontend state {fe}"
        return "connected" if be == XenbusState.CONNECTED else "started"
