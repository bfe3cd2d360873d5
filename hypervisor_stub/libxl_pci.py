"""Attaching and detaching devices as libxl does. Source: xen-pci.md 2.7, 5.3; xen-pci-errata.md 9.2 row 13."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hypervisor_stub import pci_nodes
from hypervisor_stub.console import ERROR_FAIL, LibxlError, LibxlLog
from hypervisor_stub.domains import Domain
from hypervisor_stub.hardware import Hardware
from hypervisor_stub.libxl_assignable import LibxlAssignable
from hypervisor_stub.machine import Machine
from hypervisor_stub.xl_spec import PciSpec
from kernel_stub.rpc import RpcError
from protocol.ids import Sbdf
from protocol.xenbus import XenbusState, backend_dir, bookkeeping, frontend_dir, parse_state


class Detach:
    """One detach under way: ``cooperative`` turns False when the guest did not take part in time."""

    __slots__ = ("bdf", "cooperative", "domain", "force", "log", "number")

    def __init__(self, domain: Domain, bdf: str, number: int, force: bool, log: LibxlLog) -> None:
        self.domain = domain
        self.bdf = bdf
        self.number = number
        self.force = force
        self.log = log
        self.cooperative = True


# linux tears the hardware down before the guest hears of it (BUS-30); hardened asks the guest first. What its slot has
# lost is not there to be reset.
DETACH: dict[str, tuple[str, ...]] = {
    "linux": ("reset", "deassign", "unplug", "remove_entry"),
    "hardened": ("unplug", "block_dma", "reset", "restore", "check", "deassign", "remove_entry"),
    "removed": ("unplug", "deassign", "remove_entry"),
}


class LibxlPci:
    """PCI devices of domains."""

    def __init__(self, machine: Machine, hardware: Hardware, assignable: LibxlAssignable) -> None:
        self._machine = machine
        self._xs = machine.xs
        self._hardware = hardware
        self._assignable = assignable
        self._steps: dict[str, Callable[[Detach], Awaitable[str]]] = {
            "unplug": self._unplug,
            "block_dma": lambda job: hardware.block_dma(job.bdf),
            "reset": self._reset,
            "restore": lambda job: hardware.restore(job.bdf),
            "check": lambda job: hardware.check(job.bdf),
            "deassign": self._deassign,
            "remove_entry": self._remove_entry,
        }

    # -- attach --------------------------------------------------------------------------------
    async def resolve(self, spec: PciSpec) -> list[str]:
        """The addresses that a specification means: one, or each function of a slot for ``.*``; [] if none."""
        if spec.name:
            bdf = self._assignable.by_name(spec.name)
            return [bdf] if bdf else []
        assert spec.bdf is not None
        if not spec.function_mask:
            return [str(spec.bdf)]
        slot = spec.bdf[:3]
        return [bdf for bdf in await self._assignable.slots() if Sbdf.parse(bdf)[:3] == slot]

    async def attach(self, domain: Domain, bdf: str, spec: PciSpec, log: LibxlLog, *, starting: bool = False) -> None:
        """``libxl__device_pci_add``; while the domain is being built the guest is not waited for. Raises LibxlError."""
        if spec.seize:
            await self._assignable.add(bdf, log, spec.name)
        if bdf not in dict(await self._assignable.listing()):
            log.say("not_assignable", domain.domid, short=pci_nodes.short_form(bdf))
            raise LibxlError(ERROR_FAIL)
        self._xs.write(f"{bookkeeping(bdf)}/domid", domain.domid)
        try:
            await self._assign(domain, bdf, spec, log)
            await self._publish(domain, bdf, spec, log, starting)
        except LibxlError:
            await self._undo_attach(domain, bdf, log)
            raise
        self._machine.kernel.trace("pci.attach", bdf, domain.name)

    async def _assign(self, domain: Domain, bdf: str, spec: PciSpec, log: LibxlLog) -> None:
        await self._hardware.reset_by_sysfs(bdf, [*domain.functions, bdf], log)
        try:
            if spec.permissive:
                await self._machine.ask_dom0("pci_permissive", bdf)
            address = await self._hardware.assign(bdf, domain.domid)
        except RpcError as error:
            log.say("assign_failed", domain.domid, reason=error)
            raise LibxlError(ERROR_FAIL) from None
        domain.functions[bdf] = address
        open_device_bus(domain)

    async def _publish(self, domain: Domain, bdf: str, spec: PciSpec, log: LibxlLog, starting: bool) -> None:
        hot = not starting and domain.spec.type == "pv"
        if hot and pci_nodes.count(self._xs, domain.domid) is not None:
            await self._wait_connected(domain, log)
        if self._machine.domains.get(domain.domid) is not domain or bdf not in domain.functions:
            raise LibxlError(ERROR_FAIL)  # the domain died while we waited
        pci_nodes.add(self._xs, domain, bdf, spec, reconfigure=hot)

    async def _undo_attach(self, domain: Domain, bdf: str, log: LibxlLog) -> None:
        # Who takes the function out of the table deassigns it: a kill in between has done it already.
        if domain.functions.pop(bdf, None) is not None:
            await self._hardware.deassign(bdf, log)
        elif self._hardware.owner_mark(bdf) == str(domain.domid):
            self._hardware.forget_owner(bdf)
        log.say("add_failed", domain.domid)

    async def _wait_connected(self, domain: Domain, log: LibxlLog) -> None:
        """``libxl__wait_for_backend(..., "4")``: at most ``backend_wait_ms``. Raises LibxlError."""
        be = backend_dir(domain.domid)
        deadline = self._machine.deadline(self._machine.host.timing.backend_wait_ms)
        states: list[str | None] = []

        def settled() -> bool:
            states[:] = [self._xs.read(f"{be}/state")]
            return states[0] is None or parse_state(states[0]) == XenbusState.CONNECTED

        await self._xs.changed.wait_until(settled, deadline)
        if states[0] is None or parse_state(states[0]) != XenbusState.CONNECTED:
            log.say("backend_missing" if states[0] is None else "backend_not_ready", path=be)
            raise LibxlError(ERROR_FAIL)

    # -- detach --------------------------------------------------------------------------------
    async def detach(self, domain: Domain, bdf: str, log: LibxlLog, *, force: bool = False) -> None:
        """``libxl__device_pci_remove``: the steps of ``DETACH`` for the profile. Raises LibxlError."""
        await self._detach(domain, bdf, log, force, self._machine.host.profile)

    async def detach_removed(self, domain: Domain, bdf: str, log: LibxlLog) -> None:
        """The same for a function that dom0 has lost; nothing if the domain has been rid of it already."""
        if pci_nodes.find(self._xs, domain.domid, bdf) is not None and bdf in domain.functions:
            await self._detach(domain, bdf, log, True, "removed")

    async def _detach(self, domain: Domain, bdf: str, log: LibxlLog, force: bool, order: str) -> None:
        entry = pci_nodes.find(self._xs, domain.domid, bdf)
        if entry is None or bdf not in domain.functions:
            log.say("not_attached", domain.domid)
            raise LibxlError(ERROR_FAIL)
        job = Detach(domain, bdf, entry.number, force, log)
        for step in DETACH[order]:
            if domain.functions.get(bdf) is None and step in ("reset", "restore", "check", "block_dma", "deassign"):
                continue  # a kill took the device over
            result = await self._steps[step](job)
            self._machine.kernel.trace("pci.step", bdf, step, result)
        self._machine.kernel.trace("pci.detach", bdf, domain.name)

    async def _unplug(self, job: Detach) -> str:
        """The handshake over XenStore; linux ignores its failure (BUS-31), hardened gives up unless forced."""
        try:
            await self._handshake(job)
        except LibxlError:
            job.cooperative = False
            if self._machine.hardened and not job.force:
                job.log.say("remove_failed", job.domain.domid)
                raise
        return "ok" if job.cooperative else "timeout"

    async def _handshake(self, job: Detach) -> None:
        domain = job.domain
        front = self._has_frontend(domain)
        if front:
            await self._wait_connected(domain, job.log)
        number = self._number(job)
        # B5 and B7 look at state-N; without a frontend there is nobody to answer a state 7.
        pci_nodes.mark_closing(self._xs, domain.domid, number, reconfigure=front or not self._machine.hardened)
        if front:
            await self._wait_released(job)

    def _has_frontend(self, domain: Domain) -> bool:
        if domain.spec.type != "pv":
            return False
        if not self._machine.hardened:
            return True
        return parse_state(self._xs.read(f"{frontend_dir(domain.domid)}/state")) > XenbusState.INITIALISING

    async def _wait_released(self, job: Detach) -> None:
        try:
            await self._wait_connected(job.domain, job.log)
        except LibxlError:
            if not self._machine.hardened:
                raise
            # The guest was told and did nothing: from here on the device is taken away without it.
            job.cooperative = False

    def _number(self, job: Detach) -> int:
        entry = pci_nodes.find(self._xs, job.domain.domid, job.bdf)
        if entry is None:
            job.log.say("not_in_xenstore")
            raise LibxlError(ERROR_FAIL)
        return entry.number

    async def _reset(self, job: Detach) -> str:
        siblings = list(job.domain.functions)
        if self._machine.hardened:
            return await self._hardware.reset(job.bdf, siblings)
        await self._hardware.reset_by_sysfs(job.bdf, siblings, job.log)
        return "done"

    async def _deassign(self, job: Detach) -> str:
        job.domain.functions.pop(job.bdf, None)
        # The mark that hides the device goes with the entry, after num_devs (xen-pci-errata.md 8).
        return await self._hardware.release(job.bdf, job.log)

    async def _remove_entry(self, job: Detach) -> str:
        if job.cooperative or self._machine.hardened:
            pci_nodes.remove(self._xs, job.domain.domid, job.bdf)
        self._hardware.forget_owner(job.bdf)
        return "ok"


def open_device_bus(domain: Domain) -> None:
    """Tell a guest that is there about each device bus address that it does not know yet."""
    if domain.rpc is None:
        return
    for address in domain.functions.values():
        if address not in domain.opened:
            domain.opened.add(address)
            domain.rpc.post("devbus_open", address)
