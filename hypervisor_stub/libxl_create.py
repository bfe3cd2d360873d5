"""Building a domain. Source: xen-pci.md 2.7 (cold start), 2.8; the guest's process is started last ("unpause")."""

from __future__ import annotations

from hypervisor_stub import domain_nodes, pci_nodes
from hypervisor_stub.console import ERROR_FAIL, ERROR_INVAL, LibxlError, LibxlLog
from hypervisor_stub.domains import Domain, Life, Step
from hypervisor_stub.hardware import Hardware
from hypervisor_stub.libxl_pci import LibxlPci
from hypervisor_stub.machine import Machine
from hypervisor_stub.teardown import Teardown
from hypervisor_stub.xl_spec import PciSpec
from kernel_stub.kernel import INFO
from kernel_stub.rpc import RpcError
from protocol.ids import Sbdf
from protocol.topology import GuestSpec

STARTING = -1  # process id of a guest whose supervisor has not answered yet


class LibxlCreate:
    """``libxl_domain_create_new`` for a guest of the host file."""

    def __init__(self, machine: Machine, hardware: Hardware, pci: LibxlPci, teardown: Teardown) -> None:
        self._machine = machine
        self._hardware = hardware
        self._pci = pci
        self._teardown = teardown

    async def create(self, spec: GuestSpec, log: LibxlLog, *, clean_only: bool = False) -> Domain:
        """Build and start a domain. ``clean_only`` leaves faulty devices out (KILL-9). Raises LibxlError."""
        machine = self._machine
        supervisor = machine.supervisors.get(spec.name)
        if machine.domains.by_name(spec.name) is not None:
            log.say("name_exists", name=spec.name)
            raise LibxlError(ERROR_INVAL)
        if supervisor is None:
            log.say("no_supervisor", name=spec.name)
            raise LibxlError(ERROR_FAIL)
        domain = machine.domains.add(spec, machine.tokens())
        domain.supervisor = supervisor
        machine.give_key(domain)
        machine.grants.introduce(domain.domid)
        domain_nodes.write_domain(machine.xs, domain)
        machine.store.introduce_domain(domain.domid)
        machine.kernel.trace("domain.create", domain.name, domain.domid, spec.type)
        try:
            await self._add_devices(domain, log, clean_only)
            await self._start(domain, log)
        except LibxlError:
            await self._teardown.run(domain, "destroy")
            raise
        return domain

    async def _add_devices(self, domain: Domain, log: LibxlLog, clean_only: bool) -> None:
        for device in domain.spec.devices:
            if clean_only and self._hardware.fault(device.bdf):
                continue
            spec = PciSpec(bdf=Sbdf.parse(device.bdf), permissive=int(device.permissive))
            try:
                await self._pci.attach(domain, device.bdf, spec, log, starting=True)
            except LibxlError as error:
                short = pci_nodes.short_form(device.bdf)
                log.say("create_add_failed", domain.domid, short=short, rc=error.rc)
                raise

    async def _start(self, domain: Domain, log: LibxlLog) -> None:
        machine = self._machine
        assert domain.supervisor is not None
        if domain.teardown is not None:
            raise LibxlError(ERROR_FAIL)  # somebody destroyed it while it was being built
        deadline = machine.deadline(machine.host.timing.connect_grace_ms)
        domain.advance(Step.START)
        domain.pid = STARTING
        try:
            start = (domain.domid, domain.token, domain.name)
            domain.pid = await domain.supervisor.call("start", *start, deadline=deadline)
        except RpcError as error:
            log.say("start_failed", domain.domid, reason=error)
            raise LibxlError(ERROR_FAIL) from None
        if domain.life is Life.GONE:
            raise LibxlError(ERROR_FAIL)
        machine.kernel.trace("domain.start", domain.name, domain.pid)
        machine.console.printk(INFO, f"Waiting for domain {domain.name} (domid {domain.domid}) to die")
        machine.domains.changed.wake_all()
