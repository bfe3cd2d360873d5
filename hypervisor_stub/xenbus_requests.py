"""The ``xs_*`` requests of one domain, served on its own XenStore connection (protocol/messages.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypervisor_stub.xenstore.errors import XenStoreError
from hypervisor_stub.xenstore.store import XenStore
from kernel_stub.rpc import Handler, RpcError
from protocol.ids import DOM0


class XenbusRequests:
    """What a domain's xenbus may ask. ``post`` delivers ``xs_event(path, token)`` to the domain."""

    def __init__(self, store: XenStore, domid: int, post: Callable[..., None]) -> None:
        self._conn = store.connect(domid, lambda path, token: post("xs_event", path, token), privileged=domid == DOM0)

    def handlers(self) -> dict[str, Handler]:
        """Operation -> handler. Each raises RpcError with the wire name of the XenStore error."""
        conn = self._conn
        table: dict[str, Callable[..., Any]] = {
            "xs_read": conn.read,
            "xs_write": conn.write,
            "xs_mkdir": conn.mkdir,
            "xs_rm": conn.rm,
            "xs_directory": conn.directory,
            "xs_get_perms": conn.get_perms,
            "xs_set_perms": self._set_perms,
            "xs_start": conn.transaction_start,
            "xs_end": conn.transaction_end,
            "xs_watch": conn.watch,
            "xs_unwatch": conn.unwatch,
        }
        return {op: _served(function) for op, function in table.items()}

    def close(self) -> None:
        """The domain's connection is gone: its watches and open transactions go with it."""
        self._conn.close()

    def _set_perms(self, tx: int, path: str, perms: Sequence[str]) -> None:
        self._conn.set_perms(tx, path, list(perms))


def _served(function: Callable[..., Any]) -> Handler:
    async def serve(*args: Any) -> Any:
        try:
            return function(*args)
        except XenStoreError as error:
            raise RpcError(error.name) from None

    return serve
