"""xen-pcifront: the xenbus state machine of the frontend (xen-pci.md 2.5, rows F1 to F14)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from domu_pcifront.aer_service import AerService
from domu_pcifront.bus import GuestBus, Root
from domu_pcifront.driver_faults import DriverFaults
from domu_pcifront.event_channel import EventChannel
from domu_pcifront.pci_op import PREFIX, PciOps
from kernel_stub.kernel import ERR, INFO, MS, Kernel
from kernel_stub.rpc import Rpc, RpcError
from kernel_stub.sync import Future
from kernel_stub.xenbus_client import Xenbus, XenbusDevice
from protocol.channel import Channel
from protocol.ids import DOM0
from protocol.ports import Endpoints, Link
from protocol.sharedinfo import PCIB_AERHANDLER, SharedPage
from protocol.topology import GuestSpec, TimingSpec
from protocol.xenbus import MAGIC, XenbusState, backend_dir, frontend_dir, parse_vdev

S = XenbusState
EINVAL = 22
CONNECT_TIMEOUT_MS = 10_000
EINVAL = 22
_ROOT = re.compile("([0-9a-fA-F]{1,4}):([0-9a-fA-F]{1,2})")
DEFERRED_MS = 10  # until the backend has unmapped the page


class Pcifront:
    """The one frontend device of a guest: it carries all PCI devices of the guest (BUS-5)."""

    def __init__(
        self, kernel: Kernel, rpc: Rpc, xenbus: Xenbus, endpoints: Endpoints, bus: GuestBus, guest: GuestSpec
    ) -> None:
        self.kernel = kernel
        self.rpc = rpc
        self.xenbus = xenbus
        self.endpoints = endpoints
        self.bus = bus
        self.guest = guest
        self.timing = TimingSpec()
        self.defects: frozenset[str] = frozenset()
        self.faults = DriverFaults()
        self.plain_linux = False  # log lines and leftovers of the real pcifront
        self.shutting_down = False
        self.ops: PciOps | None = None
        self.events: EventChannel | None = None
        self.service: AerService | None = None
        self.on_channel: Callable[[EventChannel], None] = lambda events: None
        self._opened: dict[int, Future] = {}
        self._refs: tuple[int, int] = (0, 0)
        rpc.events["evtchn_open"] = self._evtchn_open
        rpc.events["evtchn_closed"] = lambda port: None

    async def probe(self, domid: int) -> None:
        """F1: allocate and grant the page, allocate the event channel, publish both."""
        self.dev = XenbusDevice(self.xenbus, frontend_dir(domid), backend_dir(domid))
        self.kernel.printk(INFO, f"{PREFIX} Installing PCI frontend")
        await self._publish()
        path = f"{self.dev.otherend}/state"
        self._watch = path, await self.xenbus.watch(path, lambda path: self._backend_changed())

    async def _publish(self) -> None:
        page = SharedPage()
        page.set_bit(PCIB_AERHANDLER)  # WIRE-4, WIRE-5: before the page is published, and always
        self.page = page
        gref: int = await self.rpc.call("grant", DOM0, False, bytes(page.data))
        port: int = await self.rpc.call("evtchn_alloc", DOM0)
        self._refs = (gref, port)
        page.pending.clear()  # the image went with the grant
        page.raised.clear()
        self._opened.setdefault(port, Future(self.kernel, f"event channel {port}"))

        async def body(tx: int) -> None:
            for name, value in (("pci-op-ref", gref), ("event-channel", port), ("magic", MAGIC)):
                await self.xenbus.write(f"{self.dev.nodename}/{name}", value, tx)

        await self.xenbus.transaction(body)
        await self.dev.switch_state(S.INITIALISED)

    def _evtchn_open(self, port: int, address: str) -> None:
        self._opened.setdefault(port, Future(self.kernel, f"event channel {port}")).set(address)

    # -- the backend's state changed -----------------------------------------------------------
    async def _backend_changed(self) -> None:
        """``pcifront_backend_changed``: by the backend's state and our own; no row: nothing (F2, F4, F7)."""
        state = await self.dev.otherend_state()
        if self.shutting_down:  # BUS-8: nothing that may fail now, but who waits for us must not wait for ever
            if state in (S.CLOSING, S.CLOSED):
                await self.dev.switch_state(S.CLOSED)
            return
        rows: dict[int, Callable[[], Awaitable[None]]] = {
            S.CONNECTED: self._try_connect,
            S.RECONFIGURING: self._detach_devices,
            S.RECONFIGURED: self._attach_devices,
            S.CLOSING: self._going_away,
            S.CLOSED: self._going_away,
        }
        row = rows.get(state)
        if row is not None:
            await row()

    async def _try_connect(self) -> None:
        """F3: the channel is up; find the devices."""
        if await self.dev.read_state() == S.INITIALISED:
            await self._connect()

    async def _connect(self) -> None:
        if self.ops is None:
            future = self._opened[self._refs[1]]
            if not await future.wait(self.kernel.now() + CONNECT_TIMEOUT_MS * MS):
                await self.dev.fatal(19, "backend connected without binding the event channel")
                return
            self._start_channel(self.endpoints.connect("channel", future.value))
        if await self._scan():
            await self.dev.switch_state(S.CONNECTED)

    def _start_channel(self, link: Link) -> None:
        channel = Channel(link, self.page, crossing="D6" in self.defects)
        self.events = EventChannel(self.kernel, channel, lambda: None)
        self.service = AerService(
            self.kernel,
            channel,
            self.bus.driver_of,
            call_missing="D14" in self.defects,
            answer_late="D10" in self.defects,
            faults=self.faults,
        )
        self.events.handler = self.service.schedule
        self.ops = PciOps(
            self.kernel,
            channel,
            self.events,
            self.timing,
            self.service.schedule,
            recheck_on_timeout="D7" not in self.defects,
        )
        self.ops.log_polls = self.plain_linux
        channel.on_close = self._channel_lost
        self.on_channel(self.events)

    def _channel_lost(self, reason: str) -> None:
        """No line in the log: a guest is not told that an event channel was closed, its operations just fail."""
        if self.events is not None:
            self.events.wake()

    async def _scan(self) -> bool:
        """All root buses; False after a fatal error."""
        roots = await self._roots()
        assert self.ops is not None
        if roots is None:
            return False
        await self._read_wanted()
        for root in roots:
            await self.bus.scan(self.ops, root)
        return True

    async def _roots(self) -> list[Root] | None:
        """What the backend publishes (BUS-21); None after a fatal error."""
        count = await self.xenbus.read(f"{self.dev.otherend}/root_num")
        if count is None:
            self.kernel.printk(ERR, f"{PREFIX} No PCI Roots found, trying 0000:00")
            return [(0, 0)]
        if not (count.isascii() and count.isdigit()):
            await self.dev.fatal(EINVAL, "Error reading number of PCI roots")
            return None
        roots: list[Root] = []
        for number in range(int(count)):
            root = parse_root(await self.xenbus.read(f"{self.dev.otherend}/root-{number}"))
            if root is None:
                await self.dev.fatal(EINVAL, f"Error reading PCI root {number}")
                return None
            roots.append(root)
        return roots

    async def _read_wanted(self) -> None:
        """Which driver the guest's configuration names for which virtual device."""
        by_bdf = {assignment.bdf: assignment.driver for assignment in self.guest.devices}
        for devfn, bdf in (await self._published()).items():
            if bdf in by_bdf:
                self.bus.wanted[devfn] = by_bdf[bdf]
            else:
                self.bus.wanted.pop(devfn, None)

    async def _published(self) -> dict[int, str]:
        """Address in the guest (``Sbdf.number``) to machine address, as the backend's directory says."""
        otherend, found = self.dev.otherend, {}
        for number in range(int(await self.xenbus.read(f"{otherend}/num_devs") or "0")):
            vdev = await self.xenbus.read(f"{otherend}/vdev-{number}")
            machine = await self.xenbus.read(f"{otherend}/dev-{number}")
            if vdev is not None and machine is not None:
                found[parse_vdev(vdev).number] = machine
        return found

    async def _detach_devices(self) -> None:
        """F5, F6: remove what the toolstack wants back, then say so."""
        state = await self.dev.read_state()
        if state == S.INITIALISED and "D16" not in self.defects:
            self.kernel.printk(INFO, f"{PREFIX} Skipping connect")  # F6, BUS-25
        elif state != S.CONNECTED:
            return  # F7
        else:
            await self._remove_departing()
        await self.dev.switch_state(S.RECONFIGURING)

    async def _remove_departing(self) -> None:
        otherend = self.dev.otherend
        for number in range(int(await self.xenbus.read(f"{otherend}/num_devs") or "0")):
            if await self.xenbus.read(f"{otherend}/state-{number}") != str(int(S.CLOSING)):
                continue
            vdev = await self.xenbus.read(f"{otherend}/vdev-{number}")
            if vdev is not None:
                await self.bus.remove(parse_vdev(vdev).number)

    async def _attach_devices(self) -> None:
        """F8: scan again, for the first time if the connect was skipped (BUS-25)."""
        if await self.dev.read_state() == S.RECONFIGURING:
            await self._connect()

    async def _going_away(self) -> None:
        """F9 to F12: the backend closes; give everything up, once."""
        state = self.dev.state
        if (state >= S.CLOSING and "D26" in self.defects) or state in (S.CLOSING, S.CLOSED):
            return
        self.kernel.printk(INFO, f"{PREFIX} backend going away!")
        self.kernel.printk(INFO, f"{PREFIX} Disconnecting PCI Frontend Buses")
        await self.bus.remove_all()
        await self.dev.switch_state(S.CLOSED)

    async def remove(self) -> None:
        """F13: the device goes away; the page may still be mapped (8.3)."""
        await self.xenbus.unwatch(*self._watch)
        if self.plain_linux:
            self._say_removed()
        if self.ops is not None:
            await self.bus.remove_all()
            self.ops.channel.close()
        gref, port = self._refs
        self.kernel.spawn(self._end_access(gref), f"deferred grant {gref}")
        try:
            await self.rpc.call("evtchn_close", port)
        except RpcError as error:
            self.kernel.printk(INFO, f"{PREFIX} evtchn_close: {error}")

    def _say_removed(self) -> None:
        """Lines of the real one; its event channel is closed twice, and the second time fails with EINVAL."""
        for text in ("xenbus: device forcefully removed from xenstore", "freeing pdev @ 0x0", "cleaning up root buses"):
            self.kernel.printk(INFO, f"{PREFIX} {text}")
        self.kernel.printk(ERR, f"{PREFIX} {EINVAL} freeing event channel {self._refs[1]}")

    async def _end_access(self, gref: int) -> None:
        """``gnttab_end_foreign_access``: while the backend has the page mapped it stays, and is tried again."""
        while True:
            try:
                await self.rpc.call("grant_end", gref)
            except RpcError as error:
                if str(error) != "EBUSY":
                    return
                await self.kernel.sleep(DEFERRED_MS * MS)
            else:
                return


def parse_root(text: str | None) -> Root | None:
    """(segment, bus) of a node ``root-N``, ``%04x:%02x``; None if it is nothing of the kind."""
    match = _ROOT.fullmatch(text or "")
    return (int(match[1], 16), int(match[2], 16)) if match is not None else None
