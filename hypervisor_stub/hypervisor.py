"""The core of the hypervisor stub: who is connected, in which role, and what each role may ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter

from hypervisor_stub.control import Control
from hypervisor_stub.domain_requests import DomainRequests
from hypervisor_stub.domains import Domain, Shutdown
from hypervisor_stub.identity import check_guest, check_party
from hypervisor_stub.libxl_pci import open_device_bus
from hypervisor_stub.machine import Machine
from hypervisor_stub.toolstack import Toolstack
from hypervisor_stub.xenbus_requests import XenbusRequests
from hypervisor_stub.xl import Xl
from kernel_stub.kernel import EMERG, Kernel
from kernel_stub.rpc import Handler, Rpc, RpcError
from protocol.ids import DOM0
from protocol.limits import GUEST_REQUESTS, Bucket
from protocol.messages import TO_HYPERVISOR
from protocol.ports import Link
from protocol.topology import GUEST, HOST, HostSpec, TimingSpec

TIMING: TypeAdapter[TimingSpec] = TypeAdapter(TimingSpec)
DIED_WITH_SUPERVISOR = -1  # status of a guest whose supervisor went away

_KERNEL_OPS = tuple(op for op in TO_HYPERVISOR if op.startswith(("xs_", "evtchn_", "grant")))
# role -> requests that it may make; everything else is refused (a guest never controls the host)
ROLE_OPS: dict[str, tuple[str, ...]] = {
    "dom0": _KERNEL_OPS,
    "domu": (*_KERNEL_OPS, "shutdown"),
    "supervisor": (),
    "control": ("ctl",),
}


# What a guest's refused request counts as: how the operation begins -> kind; anything else is "role".
REFUSAL_OF: dict[str, str] = {"xs_": "xenstore", "evtchn_": "event-channel", "grant": "grant"}
ORDINARY = ("ENOENT", "EAGAIN", "EEXIST", "EBUSY")  # answers that any kernel gets now and then


class HostLostError(Exception):
    """Dom0 is gone; without it there is no hardware and nothing that could be saved."""


def _fatal(reason: str) -> None:
    raise HostLostError(reason)


class Hypervisor:
    """The stub. ``tokens`` draws the secrets for guests; it is the only chance in here.

    The owner may set ``on_fatal`` (dom0 lost), ``epoch`` (told to dom0) and ``cpu_seconds`` (for ``xl list``),
    and looks at ``stopped``, which is True once ``ctl("hypervisor", "stop", [])`` has ended everything.
    """

    def __init__(self, kernel: Kernel, host: HostSpec, tokens: Callable[[], str]) -> None:
        self.kernel = kernel
        self.machine = Machine(kernel, host, tokens)
        self.toolstack = Toolstack(self.machine)
        self.xl = Xl(self.toolstack, self._cpu_time)
        self.control = Control(self.toolstack, self.xl, self._stop)
        self.on_fatal: Callable[[str], None] = _fatal
        self.cpu_seconds: Callable[[Domain | None], float] = lambda domain: 0.0
        self.epoch = 0
        self.stopped = False
        self._roles: dict[str, Callable[[Rpc, str], dict[str, Any]]] = {
            "dom0": self._hello_dom0,
            "domu": self._hello_domu,
            "supervisor": self._hello_supervisor,
            "control": self._hello_control,
        }

    def _cpu_time(self, domain: Domain | None) -> float:
        return self.cpu_seconds(domain)

    # -- connections ---------------------------------------------------------------------------
    def accept(self, link: Link, identity: str = "") -> None:
        """Serve a new connection: ``hello(role, token)`` first, then what the role may ask.

        ``identity`` is who the transport says the peer is ("": it does not know).
        """
        rpc = Rpc(self.kernel, link, "newcomer")
        rpc.share = Bucket(*GUEST_REQUESTS)  # until it has said who it is
        rpc.refuse = lambda what, text: self._refused(identity, what, text)
        for op in TO_HYPERVISOR:
            rpc.handlers[op] = _refusal(f"{op}: say hello first")

        async def hello(role: str, token: str) -> dict[str, Any]:
            if role not in self._roles:
                raise RpcError(f"unknown role {role!r}; allowed: {', '.join(self._roles)}")
            try:
                self._identify(identity, role, token)
            except RpcError as error:
                self.machine.refusals.refuse("identity", identity, str(error))
                raise
            return self._roles[role](rpc, token)

        rpc.handlers["hello"] = hello

    def _identify(self, identity: str, role: str, token: str) -> None:
        """The peer is who it says. Raises RpcError."""
        domains = self.machine.domains
        domain = domains.by_token(token) if role == "domu" and token else None
        if role != "domu":
            check_party(identity, role, token, domains)
        elif domain is not None:
            check_guest(identity, domain, domains)

    def _refused(self, who: str, what: str, text: str) -> None:
        """A peer did not get what it asked for."""
        kind = what if what in ("flood", "dying", "hello") else ""
        kind = kind or next((kind for begin, kind in REFUSAL_OF.items() if what.startswith(begin)), "role")
        if text not in ORDINARY:
            self.machine.refusals.refuse(kind, who, f"{what}: {text}")

    def _welcome(self, rpc: Rpc, role: str, name: str, handlers: dict[str, Handler]) -> None:
        rpc.name = name
        if role != "domu":
            rpc.share, rpc.refuse = None, lambda what, text: None  # a part of the host
        rpc.handlers = {op: _refusal(f"{op}: not available to {role}") for op in TO_HYPERVISOR}
        rpc.handlers.update((op, handlers[op]) for op in ROLE_OPS[role])
        if role != "control":
            self.kernel.trace("party.hello", name, role)
        self.machine.parties.wake_all()

    def _hello_dom0(self, rpc: Rpc, token: str) -> dict[str, Any]:
        if self.machine.dom0 is not None:
            raise RpcError("dom0 is already connected")
        self.machine.dom0 = rpc
        handlers, xenbus = self._kernel_handlers(rpc, DOM0, "dom0")
        rpc.on_close = lambda reason: self._dom0_lost(xenbus, reason)
        self._welcome(rpc, "dom0", "dom0", handlers)
        return {"host": HOST.dump_json(self.machine.host), "epoch": self.epoch}

    def _hello_domu(self, rpc: Rpc, token: str) -> dict[str, Any]:
        domain = self.machine.domains.by_token(token)
        if domain is None or not token:
            raise RpcError("no domain has this token")
        if domain.rpc is not None:
            raise RpcError(f"{domain.name} is already connected")
        if domain.revoked:
            raise RpcError(f"{domain.name} is being destroyed")
        domain.rpc = rpc
        rpc.refuse = lambda what, text: self._refused(domain.name, what, text)
        handlers, xenbus = self._kernel_handlers(rpc, domain.domid, domain.name)
        handlers["shutdown"] = lambda reason: self._shutdown(domain, reason)
        rpc.events["shutdown"] = lambda reason: self._stopped_itself(domain, reason)
        rpc.on_close = lambda reason: self._guest_lost(domain, xenbus)
        self._welcome(rpc, "domu", domain.name, handlers)
        self.kernel.spawn(self._open_device_bus(domain), f"devbus of {domain.name}")
        return self._guest_config(domain)

    def _guest_config(self, domain: Domain) -> dict[str, Any]:
        host = self.machine.host
        return {
            "domid": domain.domid,
            "name": domain.name,
            "guest": GUEST.dump_json(domain.spec),
            "timing": TIMING.dump_json(host.timing),
            "profile": host.profile,
            "defects": host.turned_over(),
        }

    def _hello_supervisor(self, rpc: Rpc, token: str) -> dict[str, Any]:
        spec = self.machine.host.guest(token)
        if spec is None:
            raise RpcError(f"no guest is called {token!r}")
        if token in self.machine.supervisors:
            raise RpcError(f"the supervisor of {token} is already connected")
        self.machine.supervisors[token] = rpc
        rpc.events["died"] = lambda domid, pid, status: self._died(token, domid, pid, status)
        rpc.on_close = lambda reason: self._supervisor_lost(token, reason)
        self._welcome(rpc, "supervisor", f"supervisor {token}", {})
        return {"name": token, "guest": GUEST.dump_json(spec)}

    def _hello_control(self, rpc: Rpc, token: str) -> dict[str, Any]:
        self._welcome(rpc, "control", "control", {"ctl": self.control.ctl})
        return {"domains": len(self.machine.domains)}

    def _kernel_handlers(self, rpc: Rpc, domid: int, name: str) -> tuple[dict[str, Handler], XenbusRequests]:
        xenbus = XenbusRequests(self.machine.store, domid, rpc.post)
        return {**xenbus.handlers(), **DomainRequests(self.machine, domid, name).handlers()}, xenbus

    async def _open_device_bus(self, domain: Domain) -> None:
        # A task of its own, so that the answer to hello is sent first.
        open_device_bus(domain)

    # -- what parties report -------------------------------------------------------------------
    async def _shutdown(self, domain: Domain, reason: int) -> None:
        if reason not in list(Shutdown):
            raise RpcError(f"shutdown: reason {reason} is not one of 0..5")
        self._stopped_itself(domain, reason)

    def _stopped_itself(self, domain: Domain, reason: int) -> None:
        """SCHEDOP_shutdown by a guest that runs no more and waits for no answer; there is none to a wrong reason."""
        if reason in list(Shutdown):
            self.toolstack.watcher.guest_shutdown(domain, Shutdown(reason))

    def _died(self, name: str, domid: int, pid: int, status: int) -> None:
        domain = self.machine.domains.get(domid)
        if domain is not None and domain.name == name:
            self.toolstack.watcher.guest_died(domain, pid, status)

    # -- losses --------------------------------------------------------------------------------
    def _dom0_lost(self, xenbus: XenbusRequests, reason: str) -> None:
        self.machine.dom0 = None
        xenbus.close()
        if not self.toolstack.watcher.stopping:
            self.kernel.trace("party.lost", "dom0", reason)
            self.machine.console.printk(EMERG, f"dom0 is lost: {reason}")
            self.on_fatal(f"dom0 is lost: {reason}")

    def _guest_lost(self, domain: Domain, xenbus: XenbusRequests) -> None:
        # The supervisor says whether the guest is dead. Nothing is traced: whether the connection or the
        # process is seen to end first is the environment's choice.
        domain.rpc = None
        xenbus.close()

    def _supervisor_lost(self, name: str, reason: str) -> None:
        self.machine.supervisors.pop(name, None)
        if not self.toolstack.watcher.stopping:
            self.kernel.trace("party.lost", f"supervisor {name}", reason)
        domain = self.machine.domains.by_name(name)
        if domain is not None:
            self.toolstack.watcher.guest_died(domain, domain.pid, DIED_WITH_SUPERVISOR)

    # -- the end -------------------------------------------------------------------------------
    @property
    def deserted(self) -> bool:
        """dom0 and all supervisors have gone."""
        return self.machine.dom0 is None and not self.machine.supervisors

    async def _stop(self) -> None:
        """Destroy all guests, then tell every party that this is the end."""
        self.toolstack.watcher.stopping = True
        for domain in self.machine.domains:
            await self.toolstack.destroy(domain)
        for rpc in (self.machine.dom0, *self.machine.supervisors.values()):
            if rpc is not None:
                rpc.post("stop")
        self.stopped = True


def _refusal(text: str) -> Handler:
    async def refuse(*args: Any) -> Any:
        raise RpcError(text)

    return refuse
