"""One guest's connection to pciback: ``struct xen_pcibk_device`` and its xenbus states (xen-pci.md 2.4, 2.6).

Rows B1 to B14 of the specification are named in the methods that carry them out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from dom0_pciback.pciback.exports import EINVAL, Exports, FatalError, is_u32
from dom0_pciback.pciback.ops import OpWorker
from dom0_pciback.pciback.profile import Defect
from dom0_pciback.pciback.share import GuestShare
from dom0_pciback.pciback.stub import PcistubDevice
from dom0_pciback.pciback.vpci import EFAULT, Topology
from kernel_stub.kernel import DEBUG, INFO
from kernel_stub.rpc import RpcError
from kernel_stub.sync import Mutex, NoLock
from kernel_stub.xenbus_client import XenbusDevice
from protocol.channel import Channel
from protocol.ids import guest_identity
from protocol.ports import EndpointError
from protocol.sharedinfo import PCIB_AERHANDLER, SharedPage
from protocol.xenbus import MAGIC, XenbusState, backend_dir, frontend_dir, parse_state

if TYPE_CHECKING:
    from dom0_pciback.pciback.pciback import Pciback

S = XenbusState
ENFILE = 23


class XenPcibkDevice:
    """The backend device of one guest. ``channel`` is None while there is no shared page (``sh_info``)."""

    def __init__(self, pciback: Pciback, domid: int, vbus: Topology) -> None:
        self.pciback = pciback
        self.kernel = pciback.kernel
        self.domid = domid
        self.vbus = vbus
        self.dev = XenbusDevice(pciback.xenbus, backend_dir(domid), frontend_dir(domid))
        self.dev_lock = Mutex(self.kernel, f"dev_lock of guest {domid}")
        self.aer_slot = Mutex(self.kernel, f"aer_op slot of guest {domid}")  # one request per page (ORD-7)
        self.channel: Channel | None = None
        self.worker: OpWorker | None = None
        self.aer_handler = False  # latched at connect (X23)
        self.introduced = False  # the guest has been told to look for the devices that it has not taken up yet
        self.stopped = ""  # why the guest runs no more ("" while it does)
        self.lost = False  # its end of the channel is gone; whether it lives on is not known yet
        self.leaving = False  # a disconnect is under way
        self.killed_incident = 0  # last incident that was reported by aerState (H23)
        self.condemned = False  # reported, and about to be stopped: it is not asked again (H16)
        self.mute = False  # let a question time out: not asked again on this connection (H10)
        self.paused_at: int | None = None  # when the operator paused the guest (ns), None while it runs
        self._paused_before = 0  # ns in earlier pauses
        self._tokens: list[tuple[str, str]] = []
        self._grant: tuple[int, int] | None = None
        self._port = 0  # dom0's end of the event channel, 0 while there is none
        self.exported = Exports(self)
        name, hardened = pciback.guest_name(domid), pciback.profile.hardened
        self.share = GuestShare(self.kernel, pciback.refusals, name, limited=hardened)

    @property
    def name(self) -> str:
        """Log prefix of the xenbus device."""
        return f"xen-pciback pci-{self.domid}-0:"

    @property
    def going(self) -> bool:
        """The connection is ending: the guest's end is gone, or a disconnect is under way."""
        return self.lost or self.leaving

    def serves_aer(self) -> bool:
        """The guest has AER code: as it said at connection, or says now, which a real pciback believes (I26)."""
        if self.pciback.profile.hardened or self.channel is None:
            return self.aer_handler
        return self.channel.page.test_bit(PCIB_AERHANDLER)

    def printk(self, level: int, text: str) -> None:
        """A line of this xenbus device."""
        self.kernel.printk(level, f"{self.name} {text}")

    # -- life ----------------------------------------------------------------------------------
    async def probe(self) -> None:
        """B1, B2: state InitWait, then watch both directories."""
        self.printk(DEBUG, f"allocated pdev @ {self.domid:#x}")
        await self.dev.switch_state(S.INIT_WAIT)
        await self._watch(self.dev.nodename, self._be_watch)
        await self._be_watch(self.dev.nodename)  # by hand: the toolstack may have been quicker
        await self._watch(f"{self.dev.otherend}/state", self._frontend_changed)

    async def _watch(self, path: str, watcher: Callable[[str], Awaitable[None]]) -> None:
        self._tokens.append((path, await self.pciback.xenbus.watch(path, watcher)))

    async def unregister(self) -> None:
        """B12, B13: no watches, no connection, all devices put back."""
        for path, token in self._tokens:
            await self.pciback.xenbus.unwatch(path, token)
        await self.disconnect("frontend is gone")
        async with self.dev_lock:
            for sbdf in list(self.exported):
                await self.exported.take_back(sbdf)
        self.pciback.forget(self.domid)
        await self.dev.switch_state(S.CLOSED)  # BUS-9: what the core does once a driver's remove has run

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run one transition; a fatal error goes to the error node and state Closing (B14)."""
        try:
            await step()
        except FatalError as fatal:
            self.printk(INFO, fatal.text)
            self.share.refuse("frontend", fatal.text)
            await self.dev.fatal(fatal.errno, fatal.text)

    # -- the backend's own directory -------------------------------------------------------------
    async def _be_watch(self, path: str) -> None:
        """``xen_pcibk_be_watch``: by our own state node."""
        state = await self.dev.read_state()
        if state == S.INIT_WAIT:
            self.printk(DEBUG, "getting be setup")
            await self._guarded(self._setup)
        elif state == S.INITIALISED and not self.pciback.profile.has(Defect.D17):
            self.printk(DEBUG, "Reconfiguring device ...")
            await self._guarded(lambda: self._reconfigure(None))  # B5
        elif state == S.RECONFIGURING and not self.pciback.profile.has(Defect.D22):
            await self.exported.mark_departing()

    async def _setup(self) -> None:
        """B3: export everything listed, publish the roots; then B4."""
        async with self.dev_lock:
            for number in range(await self._num_devs()):
                await self.exported.add(number)
            await self.exported.publish_roots()
        await self.dev.switch_state(S.INITIALISED)
        await self._attach()

    async def _num_devs(self) -> int:
        text = await self.node("num_devs")
        if text is None or not is_u32(text):
            raise FatalError(EINVAL, "Error reading number of devices")
        return int(text)

    async def node(self, name: str) -> str | None:
        """A node of the backend's own directory; None if it is not there."""
        return await self.pciback.xenbus.read(f"{self.dev.nodename}/{name}")

    async def write(self, name: str, value: object) -> None:
        """Write a node of the backend's own directory."""
        await self.pciback.xenbus.write(f"{self.dev.nodename}/{name}", value)

    # -- the frontend's state --------------------------------------------------------------------
    async def _frontend_changed(self, path: str) -> None:
        """``xen_pcibk_frontend_changed``, at a limited rate in ``hardened``: xenwatch serves all guests (X30)."""
        wait = self.share.state_changes()
        if wait:
            self.kernel.spawn(self._catch_up(path, wait), f"state of guest {self.domid}")
        elif wait is not None:
            await self._follow(path)

    async def _catch_up(self, path: str, wait: int) -> None:
        """What a frontend's state has become while it was not followed."""
        await self.kernel.sleep(wait)
        self.share.catching_up = False
        if self.pciback.guests.get(self.domid) is self:
            self.pciback.xenbus.again(path, self._frontend_changed)

    async def _follow(self, path: str) -> None:
        """Rows B4 and B7 to B13; an undefined state is ignored (X29)."""
        text = await self.pciback.xenbus.read(path)
        state = parse_state(text)
        self.printk(DEBUG, f"fe state changed {state}")
        rows: dict[int, Callable[[], Awaitable[None]]] = {
            S.INITIALISED: self._attach,
            S.RECONFIGURING: self._frontend_reconfigures,
            S.CONNECTED: self._frontend_connected,
            S.CLOSING: lambda: self._closing(S.CLOSING),
            S.CLOSED: self._frontend_closed,
            S.UNKNOWN: self._frontend_gone,
        }
        nonsense = state == S.UNKNOWN and text is not None and text.strip() not in ("", "0")
        if nonsense and self.pciback.profile.hardened:
            return
        row = rows.get(state)
        if row is not None:
            await self._guarded(row)

    async def _frontend_connected(self) -> None:
        """B9; a frontend that says so without a page is not believed (X32), in ``linux`` it is."""
        if self.channel is None and not self.pciback.profile.hardened:
            await self.dev.switch_state(S.CONNECTED)
        if self.channel is not None:
            for psdev in self.exported.values():
                psdev.young_since = None
            self.pciback.progress.wake_all()
            await self.dev.switch_state(S.CONNECTED)

    async def _closing(self, state: XenbusState) -> None:
        """B10, B11."""
        await self.disconnect("frontend closes")
        await self.dev.switch_state(state)

    async def _frontend_closed(self) -> None:
        """B11, B12."""
        await self._closing(S.CLOSED)
        if (await self.node("online") or "0") == "0":
            await self._frontend_gone()

    async def _frontend_gone(self) -> None:
        """B13."""
        self.printk(DEBUG, "frontend is gone! unregister device")
        await self.unregister()

    # -- connect and disconnect --------------------------------------------------------------------
    async def _attach(self) -> None:
        """B4: both ends Initialised: map the page, bind the event channel."""
        if await self.dev.read_state() != S.INITIALISED or await self.dev.otherend_state() != S.INITIALISED:
            return
        if self.channel is not None:
            return  # connected, but not told so yet: a device is being reset (H13, _introduce)
        if not self.share.may_connect():
            raise FatalError(EINVAL, "Too many connections of the frontend")
        self.printk(DEBUG, "Reading frontend config")
        gref, port = await self._frontend_config()
        async with self.dev_lock:
            await self._map_and_bind(gref, port)
        self.printk(DEBUG, "Connecting...")
        await self._introduce(S.CONNECTED)
        self.printk(DEBUG, "Connected? 0")
        self.kernel.trace("pciback.connect", self.pciback.guest_name(self.domid), gref, port)

    async def _frontend_config(self) -> tuple[int, int]:
        read = self.pciback.xenbus.read
        gref = await read(f"{self.dev.otherend}/pci-op-ref")
        port = await read(f"{self.dev.otherend}/event-channel")
        magic = await read(f"{self.dev.otherend}/magic")
        if not is_u32(gref) or not is_u32(port) or magic is None:
            raise FatalError(EINVAL, "Error reading configuration from frontend")
        if magic != MAGIC:
            text = f"version mismatch ({magic[:32]}/{MAGIC}) with pcifront - halting xen-pciback"
            raise FatalError(EFAULT, text)
        return int(gref or 0), int(port or 0)

    async def _map_and_bind(self, gref: int, port: int) -> None:
        rpc = self.pciback.rpc
        self.printk(DEBUG, f"Attaching to frontend resources - gnt_ref={gref} evtchn={port}")
        try:
            image: bytes = await rpc.call("grant_map", self.domid, gref)
        except RpcError:
            raise FatalError(EINVAL, "Error mapping other domain page in ours.") from None
        try:
            address, link = self.pciback.endpoints.listen("channel", guest_identity(self.domid))
        except EndpointError as error:
            await rpc.call("grant_unmap", self.domid, gref)
            raise FatalError(ENFILE, str(error)) from None
        try:
            self._port = await rpc.call("evtchn_bind", self.domid, port, address)
        except RpcError:
            link.close()
            await rpc.call("grant_unmap", self.domid, gref)
            raise FatalError(EINVAL, "Error binding event channel to IRQ") from None
        self._grant = (self.domid, gref)
        profile = self.pciback.profile
        self.channel = Channel(link, SharedPage(image), crossing=profile.has(Defect.D10))
        self.aer_handler = self.share.handler_flag = self.channel.page.test_bit(PCIB_AERHANDLER)
        self.worker = OpWorker(
            self.kernel, self.channel, self._lookup, self.name, serve_abandoned=profile.has(Defect.D6)
        )
        self.worker.events.on_spurious = lambda: self.share.spurious(self.channel)
        self.channel.on_close = self._channel_lost
        self.printk(DEBUG, "Attached!")

    def _lookup(self, domain: int, bus: int, devfn: int) -> PcistubDevice | None:
        sbdf = self.vbus.lookup(domain, bus, devfn)
        if sbdf is None or not self.pciback.owns(sbdf, self.domid):
            return None  # taken away already: a guest that keeps asking must not reach it (KILL-4)
        return self.pciback.slots.get(sbdf)

    def _channel_lost(self, reason: str) -> None:
        """The guest's end is gone or broke the protocol (X48)."""
        if reason != "connection lost":
            self.share.refuse("bad-message", reason)
        self.lost = True
        self._wake_askers()

    def paused_ns(self) -> int:
        """How long the guest has been paused until now, in all."""
        since = self.paused_at
        return self._paused_before + (0 if since is None else self.kernel.now() - since)

    def set_paused(self, on: bool) -> None:
        """The operator pauses or unpauses the guest."""
        self._paused_before = self.paused_ns()
        self.paused_at = self.kernel.now() if on else None
        if self.worker is not None:
            self.worker.events.answered.wake_all()

    def guest_stopped(self, reason: str) -> None:
        """The guest will never answer again: a pending AER wait fails now (H2, KILL-4.4)."""
        self.stopped = self.stopped or reason
        self._wake_askers()

    def _wake_askers(self) -> None:
        if self.worker is not None:
            self.worker.events.answered.wake_all()
        self.pciback.progress.wake_all()

    async def disconnect(self, reason: str) -> None:
        """``xen_pcibk_disconnect`` (2.6), with H2: first no more waits on the page, then no page."""
        if self.channel is None:
            return
        channel, worker = self.channel, self.worker
        self.leaving = True
        if not self.pciback.profile.has(Defect.D2):
            self._wake_askers()
        async with NoLock() if self.pciback.profile.has(Defect.D2) else self.aer_slot:  # who was woken leaves
            self.channel = self.worker = None
            self.leaving = self.lost = False
        channel.close()
        del worker
        self.kernel.trace("pciback.disconnect", self.pciback.guest_name(self.domid), reason)
        if self._grant is not None:
            await self.pciback.call_quietly("evtchn_close", self._port)
            await self.pciback.call_quietly("grant_unmap", *self._grant)
            self._grant = None
        self.mute = False

    async def _introduce(self, state: XenbusState) -> None:
        """Let the guest look for new devices, but not while one of them is being reset: it would not find it (H13).

        xenwatch does not wait for that (BUS-4), a task of its own does.
        """
        young = [psdev for psdev in self.exported.values() if psdev.young_since is not None]
        locks = [self.pciback.reset_lock(psdev.dev) for psdev in young]
        if self.pciback.profile.hardened and any(lock.owner is not None for lock in locks):
            self.kernel.spawn(self._introduce_later(state, locks), f"introduce devices to guest {self.domid}")
            return
        self.introduced = True
        await self.dev.switch_state(state)

    async def _introduce_later(self, state: XenbusState, locks: list[Mutex]) -> None:
        for lock in locks:
            async with lock:
                self.introduced = True  # a reset that begins from here on waits until the guest has taken them up
        if self.pciback.guests.get(self.domid) is self:
            await self.dev.switch_state(state)

    # -- reconfiguration ------------------------------------------------------------------------
    async def _frontend_reconfigures(self) -> None:
        """B7, B8."""
        if await self.dev.read_state() == S.RECONFIGURING:
            self.printk(DEBUG, "Reconfiguring device ...")
            self.dev.state = int(S.RECONFIGURING)  # the toolstack wrote it behind our back (BUS-1)
            await self._reconfigure(S.RECONFIGURED)

    async def _reconfigure(self, state: XenbusState | None) -> None:
        """``xen_pcibk_reconfigure``: sub-state 1 is exported, 5 is removed, others stay (BUS-11)."""
        async with self.dev_lock:
            for number in range(await self._num_devs()):
                sub = parse_state(await self.node(f"state-{number}"))
                if sub == S.INITIALISING:
                    self.printk(DEBUG, f"Attaching dev-{number} ...")
                    await self.exported.add(number)
                    await self.exported.publish_roots()
                elif sub == S.CLOSING:
                    self.printk(DEBUG, f"Detaching dev-{number} ...")
                    if not await self.exported.remove(number) and not self.pciback.profile.hardened:
                        return  # BUS-13: state 7 stays; hardened skips the entry
            if state is not None:
                await self._introduce(state)
