"""XenStore as a kernel uses it: reads, writes, transactions, watches, and the ``xenwatch`` thread.

All watch callbacks of one kernel run in a single task, in order of arrival (BUS-4): one that waits holds up
every xenbus device of that domain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from kernel_stub.kernel import Kernel
from kernel_stub.rpc import Rpc, RpcError
from kernel_stub.sync import WaitQueue
from protocol.xenbus import XenbusState, parse_state

ONCE = "once "  # begins the token of an event that nobody but this kernel has made
Watcher = Callable[[str], Awaitable[None]]


class Xenbus:
    """One domain's connection to XenStore. Paths are absolute or relative to the domain's own directory."""

    def __init__(self, kernel: Kernel, rpc: Rpc) -> None:
        self.kernel = kernel
        self.rpc = rpc
        self._watchers: dict[str, Watcher] = {}
        self._events: deque[tuple[str, str]] = deque()
        self._work = WaitQueue(kernel, "xenwatch events")
        self._serial = 0
        rpc.events["xs_event"] = self._event
        kernel.spawn(self._xenwatch(), "xenwatch")

    async def read(self, path: str, tx: int = 0) -> str | None:
        """Value of a node, None if there is none. Raises RpcError for any other error."""
        try:
            value: bytes = await self.rpc.call("xs_read", tx, path)
        except RpcError as error:
            if str(error) == "ENOENT":
                return None
            raise
        return value.decode("latin-1")

    async def write(self, path: str, value: object, tx: int = 0) -> None:
        """Write a node as text, creating missing parents (XS-4)."""
        await self.rpc.call("xs_write", tx, path, str(value).encode("latin-1"))

    async def remove(self, path: str, tx: int = 0) -> None:
        """Remove a node with all below it."""
        await self.rpc.call("xs_rm", tx, path)

    async def directory(self, path: str) -> list[str]:
        """Names of the children in order of creation; empty if there is no such node."""
        try:
            return list(await self.rpc.call("xs_directory", 0, path))
        except RpcError as error:
            if str(error) == "ENOENT":
                return []
            raise

    async def transaction(self, body: Callable[[int], Awaitable[None]]) -> None:
        """Run ``body(tx)`` in a transaction, again for as long as it conflicts (EAGAIN)."""
        while True:
            tx: int = await self.rpc.call("xs_start")
            try:
                await body(tx)
            except Exception:  # whatever it was: the transaction must not stay open
                await self.rpc.call("xs_end", tx, False)
                raise
            try:
                await self.rpc.call("xs_end", tx, True)
            except RpcError as error:
                if str(error) != "EAGAIN":
                    raise
            else:
                return

    async def watch(self, path: str, watcher: Watcher) -> str:
        """Call ``watcher(path)`` in xenwatch for each change at or below ``path``, and once now (XS-8)."""
        self._serial += 1
        token = str(self._serial)
        self._watchers[token] = watcher
        try:
            await self.rpc.call("xs_watch", path, token)
        except RpcError:
            del self._watchers[token]
            raise
        return token

    async def unwatch(self, path: str, token: str) -> None:
        """End a watch; events still queued for it are dropped."""
        if self._watchers.pop(token, None) is not None:
            await self.rpc.call("xs_unwatch", path, token)

    def again(self, path: str, watcher: Watcher) -> None:
        """Call ``watcher(path)`` in xenwatch, behind all that waits there."""
        self._serial += 1
        token = f"{ONCE}{self._serial}"
        self._watchers[token] = watcher
        self._event(path, token)

    def _event(self, path: str, token: str) -> None:
        self._events.append((path, token))
        self._work.wake_all()

    async def _xenwatch(self) -> None:
        while True:
            while not self._events:
                await self._work.wait()
            path, token = self._events.popleft()
            watcher = self._watchers.pop(token, None) if token.startswith(ONCE) else self._watchers.get(token)
            if watcher is not None:
                await watcher(path)


class XenbusDevice:
    """One end of a split device: its directory, its state, its peer's directory."""

    def __init__(self, xenbus: Xenbus, nodename: str, otherend: str) -> None:
        self.xenbus = xenbus
        self.nodename = nodename
        self.otherend = otherend
        self.state = int(XenbusState.INITIALISING)  # cached; the node may differ (BUS-1)

    async def read_state(self) -> int:
        """State in the node, not the cached one."""
        return await self._state_in(self.nodename)

    async def otherend_state(self) -> int:
        """State of the peer; 0 if its directory is gone (BUS-6)."""
        return await self._state_in(self.otherend)

    async def _state_in(self, directory: str) -> int:
        """``xenbus_read_driver_state``: 0 whatever keeps the node from being read.

        In a directory that has gone the permissions of the one above hold, so that a guest gets EACCES.
        """
        try:
            return parse_state(await self.xenbus.read(f"{directory}/state"))
        except RpcError:
            return int(XenbusState.UNKNOWN)

    async def switch_state(self, state: XenbusState) -> None:
        """``xenbus_switch_state`` (BUS-1): nothing if cached, nothing if the node has gone."""
        if self.state == state:
            return
        path = f"{self.nodename}/state"

        async def body(tx: int) -> None:
            if await self.xenbus.read(path, tx) is not None:
                await self.xenbus.write(path, int(state), tx)

        await self.xenbus.transaction(body)
        self.state = int(state)

    async def fatal(self, errno: int, text: str) -> None:
        """``xenbus_dev_fatal``: error node, then state Closing."""
        await self.xenbus.write(f"error/{relative(self.nodename)}/error", f"{errno} {text}")
        await self.switch_state(XenbusState.CLOSING)


def relative(nodename: str) -> str:
    """``/local/domain/7/device/pci/0`` is ``device/pci/0`` for domain 7."""
    parts = nodename.split("/", 4)
    return parts[4] if nodename.startswith("/local/domain/") else nodename
