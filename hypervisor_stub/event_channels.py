"""Event channel ports of all domains (``EVTCHNOP_*``). Source: xen-pci.md 8.1.

Delivery itself happens on the direct link of the two ends; this table decides who may be bound to whom,
and tells each end when the other appears or goes away.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from kernel_stub.rpc import RpcError

FIRST_PORT = 8  # ports below are taken by console, XenStore and virtual interrupts in a real guest
MAX_PORTS = 4096  # two-level layout on 64 bits


class PortState(IntEnum):
    """``EVTCHNSTAT_*``, the ones that this model uses."""

    CLOSED = 0
    UNBOUND = 1
    INTERDOMAIN = 2


class Port:
    """One allocated port: its state, whom it may be or is bound to, and the port at the other end."""

    __slots__ = ("remote", "remote_port", "state")

    def __init__(self, remote: int) -> None:
        self.state = PortState.UNBOUND
        self.remote = remote
        self.remote_port = 0


Post = Callable[..., None]  # (domid, event, argument, ...)


class EventChannels:
    """The port tables. ``post`` sends an event to a domain; it may drop it if the domain is not there."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._tables: dict[int, dict[int, Port]] = {}

    def alloc_unbound(self, domid: int, remote: int) -> int:
        """``EVTCHNOP_alloc_unbound``: a port of ``domid`` that ``remote`` may bind. Raises ENOSPC."""
        table = self._tables.setdefault(domid, {})
        if len(table) >= MAX_PORTS - FIRST_PORT:
            raise RpcError("ENOSPC")  # without looking for one: a guest may ask again and again
        port = next((n for n in range(FIRST_PORT, MAX_PORTS) if n not in table), 0)
        if not port:
            raise RpcError("ENOSPC")
        table[port] = Port(remote)
        return port

    def bind_interdomain(self, domid: int, remote: int, remote_port: int, address: str) -> int:
        """``EVTCHNOP_bind_interdomain``: returns the local port; the other end gets ``evtchn_open``.

        Raises EINVAL if the remote port is not unbound or is reserved for another domain.
        """
        other = self._tables.get(remote, {}).get(remote_port)
        if other is None or other.state is not PortState.UNBOUND or other.remote != domid:
            raise RpcError("EINVAL")
        port = self.alloc_unbound(domid, remote)
        mine = self._tables[domid][port]
        mine.state = other.state = PortState.INTERDOMAIN
        mine.remote_port, other.remote_port = remote_port, port
        self._post(remote, "evtchn_open", remote_port, address)
        return port

    def close(self, domid: int, port: int) -> None:
        """``EVTCHNOP_close``: the other end becomes unbound and gets ``evtchn_closed``. Raises EINVAL."""
        mine = self._tables.get(domid, {}).pop(port, None)
        if mine is None:
            raise RpcError("EINVAL")
        if mine.state is PortState.INTERDOMAIN:
            other = self._tables[mine.remote][mine.remote_port]
            other.state, other.remote_port = PortState.UNBOUND, 0
            self._post(mine.remote, "evtchn_closed", mine.remote_port)

    def status(self, domid: int, port: int) -> PortState:
        """``EVTCHNOP_status``: a port that was never allocated is closed."""
        mine = self._tables.get(domid, {}).get(port)
        return mine.state if mine else PortState.CLOSED

    def close_all(self, domid: int) -> None:
        """``evtchn_destroy``: the domain goes; every port of it is closed."""
        for port in list(self._tables.get(domid, ())):
            self.close(domid, port)
        self._tables.pop(domid, None)
