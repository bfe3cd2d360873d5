"""A guest without manners: speaks to XenStore and to the shared page whatever a scenario says.

It connects as pcifront would, unless its offer is spoiled, and then does nothing by itself: no bus is scanned,
no request is answered.
"""

from __future__ import annotations

from typing import Any, ClassVar

from domu_pcifront.device import Machine
from domu_pcifront.domu import DomU
from kernel_stub.kernel import Kernel
from kernel_stub.rpc import Rpc, RpcError
from kernel_stub.sync import Future
from kernel_stub.xenbus_client import Xenbus
from protocol.channel import Channel
from protocol.ids import DOM0
from protocol.ports import Endpoints, Link
from protocol.sharedinfo import PCIB_ACTIVE, PCIB_AERHANDLER, SharedPage
from protocol.xenbus import MAGIC, XenbusState, frontend_dir, parse_state

Offer = dict[str, str]


class HostileDomU(DomU):
    """One incarnation. ``offer`` replaces nodes of the frontend's directory; the value ``-`` leaves one out."""

    offer: ClassVar[Offer] = {}

    def __init__(self, kernel: Kernel, link: Link, endpoints: Endpoints, machine: Machine, token: str) -> None:
        self.kernel = kernel
        self.endpoints = endpoints
        self.machine = machine
        self.rpc = Rpc(kernel, link, "hypervisor")
        self.pcifront = None
        self.domid = -1
        self.page = SharedPage()
        self.channel: Channel | None = None
        self.votes: list[int] = []  # answers to the next AER requests
        self._opened: dict[int, Future] = {}
        self.rpc.events["evtchn_open"] = lambda port, address: self._future(port).set(address)
        for event in ("evtchn_closed", "devbus_open"):
            self.rpc.events[event] = lambda *args: None
        kernel.spawn(self._come_up(token), "init")

    def _future(self, port: int) -> Future:
        return self._opened.setdefault(port, Future(self.kernel, f"event channel {port}"))

    async def _come_up(self, token: str) -> None:
        hello: dict[str, Any] = await self.rpc.call("hello", "domu", token)
        self.domid = hello["domid"]
        self.kernel.trace("party.start", hello["name"], 0)
        self.xenbus = Xenbus(self.kernel, self.rpc)
        await self.xenbus.watch("device/pci/0/state", lambda path: self._device_appears())

    async def _device_appears(self) -> None:
        if parse_state(await self.xenbus.read("device/pci/0/state")) == XenbusState.INITIALISING and not self._opened:
            if "quiet" in self.offer:
                return
            self.kernel.spawn(self.connect(), "connect")

    async def connect(self) -> None:
        """F1 to F3 with whatever ``offer`` says; without a bound port there is no channel."""
        self.page = SharedPage()
        if self.offer.get("aer") != "-":
            self.page.set_bit(PCIB_AERHANDLER)
        readonly, remote = self.offer.get("readonly") == "yes", int(self.offer.get("remote", DOM0))
        gref = await self.rpc.call("grant", remote, readonly, bytes(self.page.data))
        port = await self.rpc.call("evtchn_alloc", remote)
        self.page.pending.clear()
        self.page.raised.clear()
        future = self._future(port)
        for name, value in (("pci-op-ref", gref), ("event-channel", port), ("magic", MAGIC)):
            text = self.offer.get(name, str(value))
            if text != "-":
                await self.node(name, text)
        await self.node("state", "3")
        await future.wait()
        self.channel = Channel(self.endpoints.connect("channel", future.value), self.page)
        self.channel.on_event = self._event
        await self.node("state", "4")

    def _event(self) -> None:
        channel = self.channel
        if channel is not None and self.votes and channel.page.test_bit(PCIB_ACTIVE):
            channel.page.write_aer_err(self.votes.pop(0))
            channel.page.clear_bit(PCIB_ACTIVE)
            channel.notify()

    async def node(self, name: str, value: str) -> None:
        """Write a node of the frontend's directory, or what XenStore says against it into the log."""
        try:
            await self.xenbus.write(f"{frontend_dir(self.domid)}/{name}", value)
        except RpcError as error:
            self.kernel.printk(3, f"xenstore: {name}: {error}")
