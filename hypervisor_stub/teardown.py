"""Ending domains: the steps of KILL-4 and of libxl's destroy, and the orders in which they run.

Source: xen-pci.md 2.7 (destroy), 5.3, 5.4 (KILL-4 to KILL-8); xen-pci-errata.md 9.2 rows 13, 18, 19, and 9.5.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hypervisor_stub import domain_nodes, pci_nodes
from hypervisor_stub.console import LibxlError, LibxlLog
from hypervisor_stub.domains import Domain, Life, Shutdown, Step
from hypervisor_stub.hardware import Hardware
from hypervisor_stub.libxl_pci import LibxlPci
from hypervisor_stub.machine import Machine
from kernel_stub.kernel import ERR
from kernel_stub.rpc import RpcError

# Devices are taken from a domain that does not run any more. Waking dom0's wait comes before the reset,
# which could otherwise never start (xen-pci-errata.md 9.5); linux lets the wait run to its end.
_RECLAIM = ("block_dma", "wake", "reset", "restore", "check", "deassign", "remove_nodes")
_RECLAIM_LINUX = ("block_dma", "reset", "restore", "deassign", "remove_nodes")

# procedure -> steps. kill: aerfail, policy destroy. kill_keep: the same with on_crash = preserve.
# preserve: policy preserve. dead: the guest ended by itself (KILL-8). crash: it panicked, its process is still there.
# hold: shut down, kept as it is.
ORDERS: dict[str, dict[str, tuple[str, ...]]] = {
    "hardened": {
        "kill": ("mark", "dying", "stop", *_RECLAIM, "destroy"),
        "kill_keep": ("mark", "stop", *_RECLAIM),
        "preserve": ("pause", *_RECLAIM),
        "dead": ("dying", *_RECLAIM, "destroy"),
        "dead_keep": _RECLAIM,
        "crash": ("dying", "stop", *_RECLAIM, "destroy"),
        "destroy": ("dying", "withdraw", "stop", *_RECLAIM, "destroy"),
        "hold": ("pause", "wake"),
    },
    "linux": {
        "kill": ("mark", "dying", "stop", *_RECLAIM_LINUX, "destroy"),
        "kill_keep": ("mark", "stop", *_RECLAIM_LINUX),
        "preserve": ("pause", *_RECLAIM_LINUX),
        "dead": ("detach_devices", "dying", "remove_nodes", "destroy"),
        "dead_keep": ("detach_devices",),
        "crash": ("detach_devices", "dying", "stop", "remove_nodes", "destroy"),
        "destroy": ("detach_devices", "dying", "stop", "remove_nodes", "destroy"),
        "hold": ("pause",),
    },
}


class Teardown:
    """Runs the orders. One teardown per domain at a time."""

    def __init__(self, machine: Machine, hardware: Hardware, pci: LibxlPci) -> None:
        self._machine = machine
        self._hardware = hardware
        self._pci = pci
        self._domain_steps: dict[str, Callable[[Domain], Awaitable[str]]] = {
            "mark": self._mark,
            "withdraw": self._withdraw,
            "dying": self._dying,
            "stop": self._stop,
            "pause": self._pause,
            "wake": self._wake,
            "detach_devices": self._detach_devices,
            "remove_nodes": self._remove_nodes,
            "destroy": self._destroy,
        }
        self._device_steps: dict[str, Callable[[Domain, str], Awaitable[str]]] = {
            "block_dma": lambda domain, bdf: hardware.block_dma(bdf),
            "reset": lambda domain, bdf: hardware.reset(bdf, list(domain.functions)),
            "restore": lambda domain, bdf: hardware.restore(bdf),
            "check": lambda domain, bdf: hardware.check(bdf),
            "deassign": self._deassign,
        }

    async def run(self, domain: Domain, procedure: str) -> None:
        """Run a procedure of ``ORDERS`` to its end, after one that is under way; nothing if the domain is gone."""
        kernel = self._machine.kernel
        while domain.teardown is not None:
            await kernel.join(domain.teardown)
        if domain.life is not Life.GONE:
            domain.teardown = kernel.spawn(self._run(domain, procedure), f"teardown {domain.name}")
            await kernel.join(domain.teardown)

    async def _run(self, domain: Domain, procedure: str) -> None:
        domain.procedure = procedure
        for step in ORDERS[self._machine.host.profile][procedure]:
            if step in self._domain_steps:
                self._trace(domain, step, "", await self._domain_steps[step](domain))
                continue
            for bdf in list(domain.functions):
                self._trace(domain, step, bdf, await self._device_steps[step](domain, bdf))
        domain.teardown = None
        self._machine.domains.changed.wake_all()

    def _trace(self, domain: Domain, step: str, bdf: str, result: str) -> None:
        self._machine.kernel.trace("kill.step", domain.name, step, bdf, result)

    async def _mark(self, domain: Domain) -> str:
        """KILL-4.1: shutdown reason 3, so that ``xl list`` shows ``c``."""
        domain.advance(Step.SHUTDOWN)
        domain.reason = Shutdown.CRASH
        self._machine.revoke(domain)
        return "crash"

    async def _dying(self, domain: Domain) -> str:
        """The domain is on its way out: it is cut off before anything is done to it."""
        domain.advance(Step.DESTROY)
        self._machine.revoke(domain)
        return "ok"

    async def _withdraw(self, domain: Domain) -> str:
        """Dom0 learns that this is the operator's doing before it sees the guest end (errata 9.2 no. 18)."""
        try:
            await self._machine.ask_dom0("domain_withdrawn", domain.domid)
        except RpcError as error:
            return str(error)
        return "ok"

    async def _stop(self, domain: Domain) -> str:
        """KILL-4.2: SIGKILL, and wait until the supervisor has seen the process end."""
        if domain.supervisor is None or not domain.pid or domain.died.done:
            return "dead"
        domain.supervisor.post("kill", domain.domid)
        deadline = self._machine.deadline(self._machine.host.timing.kill_deadline_ms)
        if await domain.died.wait(deadline):
            return "ok"
        self._machine.console.printk(ERR, f"the process of {domain.name} was not seen to end")
        return "timeout"

    async def _pause(self, domain: Domain) -> str:
        """Stop the process without ending it."""
        domain.advance(Step.PAUSE)
        if domain.supervisor is None or domain.died.done:
            return "dead"
        try:
            await domain.supervisor.call("pause", domain.domid)
        except RpcError as error:
            return str(error)
        return "ok"

    async def _wake(self, domain: Domain) -> str:
        """KILL-4.4: dom0 fails what waits for an answer of this guest."""
        if self._machine.dom0 is not None:
            self._machine.dom0.post("domain_stopped", domain.domid, domain.procedure)
        return "ok"

    async def _deassign(self, domain: Domain, bdf: str) -> str:
        domain.functions.pop(bdf, None)
        return await self._hardware.deassign(bdf)

    async def _detach_devices(self, domain: Domain) -> str:
        """libxl's order: hot detach with force, while the guest may still run (BUS-30, BUS-31)."""
        log = LibxlLog(self._machine.console)
        failed = False
        for bdf in list(domain.functions):
            try:
                await self._pci.detach(domain, bdf, log, force=True)
            except LibxlError:
                failed = True
        if failed:
            log.say("pci_shutdown_failed", domain.domid)
        return "failed" if failed else "ok"

    async def _remove_nodes(self, domain: Domain) -> str:
        pci_nodes.remove_directories(self._machine.xs, domain.domid)
        return "ok"

    async def _destroy(self, domain: Domain) -> str:
        """KILL-4.9: ports, grants, nodes, ``@releaseDomain``, and the table entry."""
        machine = self._machine
        machine.event_channels.close_all(domain.domid)
        machine.grants.release(domain.domid)
        domain_nodes.remove_domain(machine.xs, domain)
        if domain.rpc is not None:
            domain.rpc.link.close()
            domain.rpc = None
        machine.store.release_domain(domain.domid)
        domain.advance(Step.RELEASE)
        machine.kernel.trace("domain.destroy", domain.name, domain.domid)
        machine.domains.remove(domain)
        return "ok"
