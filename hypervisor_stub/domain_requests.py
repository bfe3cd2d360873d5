"""Event channel and grant requests of one domain (protocol/messages.py), traced under the domain's name."""

from __future__ import annotations

from typing import Any

from hypervisor_stub.machine import Machine
from kernel_stub.rpc import Handler, RpcError
from protocol.ids import DOM0
from protocol.limits import GUEST_TABLES, Bucket


class DomainRequests:
    """What the kernel of domain ``domid``, called ``name`` in the journal, may ask of the hypervisor.

    A guest may do so at a limited rate, since every change of a table is kept in the journal.
    """

    def __init__(self, machine: Machine, domid: int, name: str) -> None:
        self._now = machine.kernel.now
        self._share = Bucket(*GUEST_TABLES)
        self._machine = machine
        self._trace = machine.kernel.trace
        self._domid = domid
        self._name = name

    def handlers(self) -> dict[str, Handler]:
        """Operation -> handler."""
        table: dict[str, Handler] = {
            "evtchn_alloc": self._evtchn_alloc,
            "evtchn_bind": self._evtchn_bind,
            "evtchn_close": self._evtchn_close,
            "grant": self._grant,
            "grant_end": self._grant_end,
            "grant_map": self._grant_map,
            "grant_unmap": self._grant_unmap,
        }
        return table if self._domid == DOM0 else {op: self._limited(op, handler) for op, handler in table.items()}

    def _limited(self, op: str, handler: Handler) -> Handler:
        async def serve(*args: Any) -> Any:
            if self._share.take(self._now()):
                self._machine.refusals.refuse("flood", self._name, op)
                raise RpcError("EAGAIN")
            return await handler(*args)

        return serve

    async def _evtchn_alloc(self, remote: int) -> int:
        port = self._machine.event_channels.alloc_unbound(self._domid, remote)
        self._trace("evtchn.alloc", self._name, remote, port)
        return port

    async def _evtchn_bind(self, remote: int, remote_port: int, address: str) -> int:
        port = self._machine.event_channels.bind_interdomain(self._domid, remote, remote_port, address)
        self._trace("evtchn.bind", self._name, remote, port)
        return port

    async def _evtchn_close(self, port: int) -> None:
        self._machine.event_channels.close(self._domid, port)
        self._trace("evtchn.close", self._name, port)

    async def _grant(self, remote: int, read_only: bool, page: bytes) -> int:
        ref = self._machine.grants.grant(self._domid, remote, read_only, page)
        self._trace("grant.access", self._name, remote, ref)
        return ref

    async def _grant_end(self, ref: int) -> None:
        self._machine.grants.end(self._domid, ref)
        self._trace("grant.end", self._name, ref)

    async def _grant_map(self, granter: int, ref: int) -> Any:
        page = self._machine.grants.map(self._domid, granter, ref)
        self._trace("grant.map", self._name, granter, ref)
        return page

    async def _grant_unmap(self, granter: int, ref: int) -> None:
        self._machine.grants.unmap(self._domid, granter, ref)
        self._trace("grant.unmap", self._name, granter, ref)
