"""What every part of the hypervisor stub works on: the host, its domains, ports, grants, and the parties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypervisor_stub.console import Console
from hypervisor_stub.domains import Domain, Domains
from hypervisor_stub.event_channels import EventChannels
from hypervisor_stub.grants import GrantTables
from hypervisor_stub.toolstack_store import ToolstackStore
from hypervisor_stub.xenstore.store import XenStore
from kernel_stub.kernel import MS, Kernel
from kernel_stub.refusals import Refusals
from kernel_stub.rpc import Rpc, RpcError
from kernel_stub.sync import WaitQueue
from protocol.ids import DOM0, guest_identity
from protocol.topology import HostSpec


class Machine:
    """Shared state of the stub; each table has its own class, this one only holds them together.

    ``parties`` wakes when a party says hello. ``tokens`` draws the secret with which a guest's process
    proves which domain it is. Where keys are used the token is the secret half of a pair; ``public`` gives the other
    half ("" without keys), and ``admit`` tells the gate of this process whose it is.
    """

    def __init__(self, kernel: Kernel, host: HostSpec, tokens: Callable[[], str]) -> None:
        self.kernel = kernel
        self.host = host
        self.tokens = tokens
        self.console = Console(kernel)
        self.store = XenStore()
        self.xs = ToolstackStore(kernel, self.store)
        self.domains = Domains(kernel)
        self.event_channels = EventChannels(self.post)
        self.grants = GrantTables()
        self.grants.introduce(DOM0)
        self.public: Callable[[str], str] = lambda token: ""
        self.admit: Callable[[str, str], None] = lambda name, key: None
        self.refusals = Refusals(kernel)
        self.dom0: Rpc | None = None
        self.supervisors: dict[str, Rpc] = {}
        self.parties = WaitQueue(kernel, "a party to connect")

    @property
    def hardened(self) -> bool:
        """Profile ``hardened`` (xen-pci-errata.md 9) rather than ``linux``."""
        return self.host.profile == "hardened"

    def has_defect(self, name: str) -> bool:
        """A defect of the real code is on (xen-pci.md 7.3)."""
        return name in self.host.defects_in_force()

    def deadline(self, ms: int) -> int:
        """The time ``ms`` milliseconds from now, in ns."""
        return self.kernel.now() + ms * MS

    def give_key(self, domain: Domain) -> None:
        """Both gates learn the key of a new domain before anybody else can have heard of it."""
        key = self.public(domain.token)
        if key and self.dom0 is not None:
            self.admit(guest_identity(domain.domid), key)
            self.dom0.post("domain_key", domain.domid, key)

    def revoke(self, domain: Domain) -> None:
        """First of all steps of a kill: nothing that the guest has sent or will send takes effect any more."""
        if domain.revoked:
            return
        domain.revoked = True
        self.admit(guest_identity(domain.domid), "")
        if domain.rpc is not None:
            domain.rpc.revoked = True
        if self.dom0 is not None:
            self.dom0.post("domain_revoked", domain.domid)

    def post(self, domid: int, event: str, *args: Any) -> None:
        """Send an event to a domain's kernel; nothing happens if it is not connected."""
        rpc = self.dom0 if domid == DOM0 else None
        if domid != DOM0:
            domain = self.domains.get(domid)
            rpc = domain.rpc if domain else None
        if rpc is not None:
            rpc.post(event, *args)

    async def ask_dom0(self, op: str, *args: Any) -> Any:
        """Call dom0. Raises RpcError if it refuses or is not there."""
        if self.dom0 is None:
            raise RpcError("dom0 is not connected")
        return await self.dom0.call(op, *args)
