"""What ``xl create`` leaves running: it sees a domain end and applies ``on_poweroff``, ``on_reboot``, ``on_crash``.

Source: xen-pci.md 9.1 (events), 9.5 (messages); 5.4 KILL-8, KILL-9.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor_stub.console import LibxlError, LibxlLog
from hypervisor_stub.domains import Domain, Shutdown, Step
from hypervisor_stub.libxl_create import LibxlCreate
from hypervisor_stub.machine import Machine
from hypervisor_stub.teardown import Teardown
from kernel_stub.kernel import ERR, INFO, MS
from protocol.topology import GuestSpec

ACTIONS: dict[Shutdown, Callable[[GuestSpec], str]] = {
    Shutdown.POWEROFF: lambda spec: spec.on_poweroff,
    Shutdown.REBOOT: lambda spec: spec.on_reboot,
    Shutdown.SUSPEND: lambda spec: "preserve",
    Shutdown.CRASH: lambda spec: spec.on_crash,
    Shutdown.WATCHDOG: lambda spec: "destroy",
    Shutdown.SOFT_RESET: lambda spec: "destroy",
}

# (how the domain ended, action) -> procedure of teardown.ORDERS
PROCEDURES: dict[tuple[str, str], str] = {
    ("kill", "destroy"): "kill",
    ("kill", "restart"): "kill",
    ("kill", "preserve"): "kill_keep",
    ("dead", "destroy"): "dead",
    ("dead", "restart"): "dead",
    ("dead", "preserve"): "dead_keep",
    ("crash", "destroy"): "crash",
    ("crash", "restart"): "crash",
    ("crash", "preserve"): "hold",
    ("shutdown", "destroy"): "destroy",
    ("shutdown", "restart"): "destroy",
    ("shutdown", "preserve"): "hold",
}


class DomainWatcher:
    """Ends domains with the action that their configuration names for the reason."""

    def __init__(self, machine: Machine, create: LibxlCreate, teardown: Teardown) -> None:
        self._machine = machine
        self._create = create
        self._teardown = teardown
        self.stopping = False  # nothing is restarted while the host goes down

    def guest_shutdown(self, domain: Domain, reason: Shutdown) -> None:
        """``SCHEDOP_shutdown``: the guest ends by its own will (or its kernel panicked)."""
        if not domain.advance(Step.SHUTDOWN):
            return
        domain.reason = reason
        self._machine.kernel.trace("domain.shutdown", domain.name, int(reason))
        self._machine.store.domain_stopped(domain.domid)
        self._machine.domains.changed.wake_all()
        how = "crash" if reason is Shutdown.CRASH else "shutdown"
        self._machine.kernel.spawn(self.end(domain, how, reason), f"watcher of {domain.name}")

    def guest_died(self, domain: Domain, pid: int, status: int) -> None:
        """The supervisor saw the process end, or is gone itself; twice is fine."""
        if domain.died.done:
            return
        domain.died.set(status)
        self._machine.kernel.trace("domain.died", domain.name, pid, status)
        if domain.teardown is None and domain.advance(Step.SHUTDOWN):
            domain.reason = Shutdown.CRASH
            self._machine.store.domain_stopped(domain.domid)
            self._machine.kernel.spawn(self.end(domain, "dead", Shutdown.CRASH), f"watcher of {domain.name}")
        self._machine.domains.changed.wake_all()

    async def end(self, domain: Domain, how: str, reason: Shutdown) -> None:
        """Run the procedure for (how, action), then restart if that is the action."""
        action = "destroy" if self.stopping else ACTIONS[reason](domain.spec)
        self._say(f"Domain {domain.domid} has shut down, reason code {int(reason)} 0x{int(reason):x}")
        self._say(f"Action for shutdown reason code {int(reason)} is {action}")
        if action != "preserve":
            self._say(f"Domain {domain.domid} needs to be cleaned up: destroying the domain")
        await self._teardown.run(domain, PROCEDURES[how, action])
        if action == "restart" and not self.stopping:
            self._say("Done. Rebooting now")
            await self._restart(domain)
        elif action != "preserve":
            self._say("Done. Exiting now")

    async def _restart(self, domain: Domain) -> None:
        await self._machine.kernel.sleep(self._machine.host.timing.restart_pause_ms * MS)
        if self.stopping or self._machine.domains.by_name(domain.name) is not None:
            return
        self._machine.kernel.trace("domain.restart", domain.name)
        try:
            await self._create.create(domain.spec, LibxlLog(self._machine.console), clean_only=True)
        except LibxlError as error:
            self._machine.console.printk(ERR, f"cannot restart {domain.name}: {error}")

    def _say(self, text: str) -> None:
        self._machine.console.printk(INFO, text)
