"""The supervisor of one guest: starts its process, stops it on order, reports its end (KILL-4.2).

The core knows processes only through ``GuestRunner``; the shell is ``hypervisor_stub/process.py``, the
simulation has its own. A guest restarts because the hypervisor stub says so, with a new domain id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kernel_stub.kernel import INFO, MS, Kernel
from kernel_stub.rpc import Rpc, RpcError
from protocol.ports import Link


class GuestRunner(Protocol):
    """How a guest's process is started and stopped. ``on_death(pid, status)`` is called once per process."""

    on_death: Callable[[int, int], None]

    async def start(self, domid: int, token: str, name: str) -> int:
        """Start the process of a guest and return its pid. Raises RpcError."""

    def kill(self, pid: int) -> None:
        """SIGKILL its process group."""

    def pause(self, pid: int, *, on: bool) -> None:
        """SIGSTOP or SIGCONT its process group."""


class Supervisor:
    """One guest's supervisor; at most one process at a time. ``on_stop`` is called at the orderly end."""

    def __init__(self, kernel: Kernel, link: Link, runner: GuestRunner, name: str) -> None:
        self.kernel = kernel
        self.runner = runner
        self.name = name
        self.on_stop: Callable[[], None] = lambda: None
        self.rpc = Rpc(kernel, link, "hypervisor")
        self._domid = -1
        self._pid = 0
        self._starting = False
        self._killed = False
        self.delay_ms = 0  # of the next start
        runner.on_death = self._died
        self.rpc.handlers.update(start=self._start, pause=self._pause, unpause=self._unpause)
        self.rpc.handlers["slow_start"] = self._slow_start
        self.rpc.events["kill"] = self._kill
        self.rpc.events["stop"] = lambda: self.on_stop()
        kernel.spawn(self._hello(), "init")

    async def _hello(self) -> None:
        await self.rpc.call("hello", "supervisor", self.name)

    async def _start(self, domid: int, token: str, name: str) -> int:
        if self._pid or self._starting:
            raise RpcError(f"{self.name} runs already, pid {self._pid}" if self._pid else f"{self.name} is starting")
        self._domid, self._starting, self._killed = domid, True, False
        try:
            delay_ms, self.delay_ms = self.delay_ms, 0
            if delay_ms:
                await self.kernel.sleep(delay_ms * MS)
            self._pid = await self.runner.start(domid, token, name)
        finally:
            self._starting = False
        self.kernel.printk(INFO, f"started {name} as domain {domid}")
        if self._killed:  # the order was faster than the process
            self.runner.kill(self._pid)
        return self._pid

    async def _slow_start(self, ms: int) -> None:
        """A fault: the next guest's process begins so much later."""
        self.delay_ms = ms

    def _kill(self, domid: int) -> None:
        """A guest of an earlier incarnation is none of ours any more (KILL-2)."""
        if domid != self._domid:
            return
        self._killed = True
        if self._pid:
            self.runner.kill(self._pid)

    async def _pause(self, domid: int) -> None:
        self._signal(domid, on=True)

    async def _unpause(self, domid: int) -> None:
        self._signal(domid, on=False)

    def _signal(self, domid: int, *, on: bool) -> None:
        if not self._pid or domid != self._domid:
            raise RpcError(f"domain {domid} does not run here")
        self.runner.pause(self._pid, on=on)

    def _died(self, pid: int, status: int) -> None:
        if pid != self._pid:
            return
        self._pid = 0
        self.kernel.printk(INFO, f"{self.name}, domain {self._domid}, ended with status {status}")
        self.rpc.post("died", self._domid, pid, status)

    def end(self) -> None:
        """Take the guest with us; of its end nobody is told any more."""
        pid, self._pid = self._pid, 0
        if pid:
            self.runner.kill(pid)
