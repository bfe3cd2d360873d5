"""KILL-1 to KILL-10: the stub acts on ``aerState`` = ``aerfail``. Source: xen-pci.md 5.4."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from hypervisor_stub import domain_nodes
from hypervisor_stub.domain_watcher import DomainWatcher
from hypervisor_stub.domains import Domain, Life, Shutdown
from hypervisor_stub.machine import Machine
from hypervisor_stub.teardown import Teardown
from kernel_stub.kernel import ERR, NOTICE
from protocol.ids import DOM0
from protocol.xenbus import BACKEND_ROOT, backend_dir

_BACKEND_NODE = re.compile(re.escape(BACKEND_ROOT) + r"/(\d{1,5})(?:/\d+)?(/aerState)?(?:/.*)?")
AERFAIL = "aerfail"
WATCH_TOKEN = "aerState"


class Kill:
    """Watches the back-end directories and starts one incident per domain incarnation (KILL-1, KILL-2)."""

    def __init__(self, machine: Machine, watcher: DomainWatcher, teardown: Teardown) -> None:
        self._machine = machine
        self._watcher = watcher
        self._teardown = teardown
        self._incidents: set[tuple[int, int]] = set()
        # KILL-7. A policy that kills says so to the domain watcher, which applies on_crash (KILL-9).
        self._policies: dict[str, Callable[[Domain], Awaitable[None]]] = {
            "destroy": self._destroy,
            "poweroff": self._poweroff,
            "ignore": self._ignore,
            "preserve": self._preserve,
        }
        machine.xs.watch(BACKEND_ROOT, WATCH_TOKEN, self._backend_changed)

    def _backend_changed(self, path: str) -> None:
        match = _BACKEND_NODE.fullmatch(path)
        if match is None:
            return
        domid = int(match[1])
        if match[2] and self._machine.xs.read(path) == AERFAIL:
            self._report(domid)
        elif self._machine.domains.get(domid) is None:
            self._sweep(domid)

    def _report(self, domid: int) -> None:
        domain = self._machine.domains.get(domid)
        if domid == DOM0:
            self._machine.kernel.trace("kill.refused", "Domain-0", "domain 0")
            self._machine.console.printk(ERR, "aerfail for domain 0: it is never killed")
        elif domain is None:
            self._sweep(domid)
        elif domain.key not in self._incidents:
            self._incidents.add(domain.key)
            self._machine.kernel.trace("kill.report", domain.name, domid)
            self._machine.kernel.spawn(self._incident(domain), f"kill {domain.name}")

    def _sweep(self, domid: int) -> None:
        """KILL-10: a back-end directory without a domain goes; linux leaves it where it is."""
        if self._machine.hardened and domid != DOM0 and self._machine.xs.read(backend_dir(domid)) is not None:
            self._machine.kernel.spawn(self._remove_zombie(domid), "zombie sweep")

    async def _remove_zombie(self, domid: int) -> None:
        # A task of its own, because events arrive in the middle of another connection's request.
        be = backend_dir(domid)
        if self._machine.domains.get(domid) is None and self._machine.xs.read(be) is not None:
            self._machine.kernel.trace("kill.zombie", "Domain-0", domid)
            self._machine.xs.transaction(lambda tx: self._machine.xs.cleanup(be, tx))

    async def _incident(self, domain: Domain) -> None:
        policy = domain.spec.policy
        self._machine.kernel.trace("kill.incident", domain.name, policy)
        self._machine.console.printk(NOTICE, f"Domain {domain.domid}: AER recovery failed, policy {policy}")
        if not _ended(domain):  # KILL-8: a guest that is on its way out already is a success
            await self._policies[policy](domain)

    async def _destroy(self, domain: Domain) -> None:
        await self._watcher.end(domain, "kill", Shutdown.CRASH)

    async def _poweroff(self, domain: Domain) -> None:
        """xend's way: ask, and destroy after a grace time."""
        domain_nodes.request_shutdown(self._machine.xs, domain, "poweroff")
        deadline = self._machine.deadline(self._machine.host.timing.poweroff_grace_ms)
        if not await self._machine.domains.changed.wait_until(lambda: _ended(domain), deadline):
            await self._watcher.end(domain, "kill", Shutdown.CRASH)

    async def _ignore(self, domain: Domain) -> None:
        """libxl today: nobody acts."""

    async def _preserve(self, domain: Domain) -> None:
        """Pause, take the devices away, keep the memory."""
        await self._teardown.run(domain, "preserve")


def _ended(domain: Domain) -> bool:
    return domain.teardown is not None or domain.life in (Life.SHUTDOWN, Life.DYING, Life.GONE)
