"""xen-pciback: which devices are seized, which guests are connected, and who tells the toolstack.

Everything that changes hands does so here: seize, assign (by ``backend``), put back, release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import ErrorHandlers, PciDriver
from dom0_pciback.pci.enable import pci_enable_bridge
from dom0_pciback.pci.reset import has_reset_method, reset_function_locked
from dom0_pciback.pci.state import save_state
from dom0_pciback.pciback.backend import XenPcibkDevice
from dom0_pciback.pciback.conf_quirks import Quirk, parse_quirk
from dom0_pciback.pciback.profile import Defect, Profile
from dom0_pciback.pciback.stub import PcistubDevice
from dom0_pciback.pciback.vpci import Passthrough, Vpci
from kernel_stub.kernel import DEBUG, INFO, MS, WARNING, Kernel
from kernel_stub.refusals import Refusals
from kernel_stub.rpc import Rpc, RpcError
from kernel_stub.sync import Mutex, NoLock, RwSem, WaitQueue
from kernel_stub.xenbus_client import Xenbus
from protocol.ids import Sbdf
from protocol.ports import Endpoints
from protocol.topology import HostSpec
from protocol.xenbus import BACKEND_ROOT, XenbusState, backend_dir, bookkeeping, parse_state, removed_node

DRIVER_NAME = "pciback"
IN_USE = (  # pcistub_remove() of a device that a guest has (xen-pci.md 4.1)
    "removing device {name} while still in-use by domain {domid}! ******",
    "driver domain may still access this device's i/o resources!",
    "shutdown driver domain before binding device",
    "to other drivers or domains",
)


class Pciback:
    """The backend driver of dom0. ``slots`` are the seized devices, ``guests`` the connections by domain."""

    def __init__(
        self, kernel: Kernel, core: PciCore, rpc: Rpc, endpoints: Endpoints, host: HostSpec, profile: Profile
    ) -> None:
        self.kernel = kernel
        self.core = core
        self.rpc = rpc
        self.endpoints = endpoints
        self.host = host
        self.profile = profile
        self.xenbus = Xenbus(kernel, rpc)
        self.slots: dict[Sbdf, PcistubDevice] = {}
        self.guests: dict[int, XenPcibkDevice] = {}
        self.progress = WaitQueue(kernel, "a guest to stop")
        # D1: one lock for all guests, held while one of them is asked and while a device is put back
        self.assignments: RwSem | NoLock = RwSem(kernel, "pcistub_sem") if profile.has(Defect.D1) else NoLock()
        self.reset_lock: Callable[[PciDev], Mutex] = lambda dev: dev.device_lock  # Resets has the real ones
        self.superseded: Callable[[PciDev], bool] = lambda dev: False  # another recovery will see to it
        self.quirks: list[Quirk] = []  # heads of the quirk list, in the order in which they were added
        self.names: dict[int, str] = {}
        self.refusals = Refusals(kernel)
        self.owns: Callable[[Sbdf, int], bool] = lambda sbdf, domid: True  # the IOMMU's word, as the stub ordered it
        self._number = 0
        self.driver = PciDriver(DRIVER_NAME, ErrorHandlers(), self._probe, self._remove)

    def use_handlers(self, handlers: ErrorHandlers) -> None:
        """Install the four error callbacks (``handlers``), which need this object to be there first."""
        self.driver = PciDriver(DRIVER_NAME, handlers, self._probe, self._remove)
        self.core.register_driver(self.driver)

    async def start(self) -> None:
        """Seize what the host file gives to pciback, all at once; then wait for backend devices."""
        self.kernel.printk(INFO, f"xen_pciback: backend is {'passthrough' if self.host.passthrough else 'vpci'}")
        wanted = [spec.bdf for spec in self.host.functions if spec.dom0_driver == DRIVER_NAME]
        tasks = [self.kernel.spawn(self.seize(Sbdf.parse(bdf)), f"seize {bdf}") for bdf in wanted]
        for task in tasks:
            await self.kernel.join(task)
        await self.xenbus.watch(BACKEND_ROOT, self._backend_appears)

    # -- seizing -------------------------------------------------------------------------------
    async def seize(self, sbdf: Sbdf) -> str:
        """Bind a device to pciback; returns the name of the driver it had. Raises RpcError."""
        dev = self._device(sbdf)
        before = dev.driver.name if dev.driver is not None else ""
        if before == DRIVER_NAME:
            return before
        if before:
            await self.core.unbind(dev)
        if await self.core.bind(dev, self.driver) < 0:
            raise RpcError(f"pciback does not take {sbdf}")
        return before

    async def release(self, sbdf: Sbdf, name: str) -> None:
        """Unbind a device that no guest has; bind the driver ``name`` ("": none). Raises RpcError."""
        dev = self._device(sbdf)
        driver = self.core.drivers.get(name)
        if name and driver is None:
            raise RpcError(f"no driver {name!r} in dom0; allowed: {', '.join(self.core.drivers)}")
        psdev = self.slots.get(sbdf)
        if psdev is None or psdev.pdev is not None:
            raise RpcError(f"{sbdf} is {'in use' if psdev else 'not bound to pciback'}")
        await self.core.unbind(dev)
        if driver is not None:
            await self.core.bind(dev, driver)

    def _device(self, sbdf: Sbdf) -> PciDev:
        dev = self.core.devices.get(sbdf)
        if dev is None:
            raise RpcError(f"no PCI device {sbdf}")
        return dev

    async def _probe(self, dev: PciDev) -> int:
        """``pcistub_seize`` and ``pcistub_init_device``: save, reset, restore (device lock held)."""
        self.core.printk(INFO, dev, "seizing device")
        psdev = PcistubDevice(self.core, dev, self._number, hardened=self.profile.hardened)
        self._number += 1
        self.slots[dev.sbdf] = psdev
        if self.profile.has(Defect.D5):
            self._forget_waiters()
        self._enable_bridges(dev)
        await reset_function_locked(self.core, dev)
        psdev.restore_seized()
        self.kernel.trace("pciback.seize", dev.name)
        return 0

    def _forget_waiters(self) -> None:
        """``init_waitqueue_head`` of the one queue of all guests, under those who sleep on it."""
        for pdev in self.guests.values():
            if pdev.worker is not None:
                pdev.worker.events.answered.reinitialise()

    def _enable_bridges(self, dev: PciDev) -> None:
        """What ``pci_enable_device`` does to the bridges above; ``hardened`` has a restore bring it back (H18)."""
        bridge = dev.bridge
        if bridge is None:
            return
        pci_enable_bridge(self.core, bridge)
        while self.profile.hardened and bridge is not None:
            save_state(self.core, bridge)
            bridge = bridge.bridge

    async def _remove(self, dev: PciDev) -> None:
        if self.profile.hardened:
            self.mark_detaching(dev.sbdf)
        psdev = self.slots.pop(dev.sbdf)
        if psdev.pdev is not None:
            for text in IN_USE:
                self.core.printk(WARNING, dev, f"****** {text.format(name=dev.name, domid=psdev.domid)}")
            await self._taken_from(psdev.pdev, dev)
        if psdev.leaked:  # D13: its last reference never goes, and so nothing of its release happens
            return
        psdev.restore_seized()
        self.kernel.trace("pciback.release", dev.name)

    async def _taken_from(self, pdev: XenPcibkDevice, dev: PciDev) -> None:
        """Its guest has lost a function: in ``hardened`` the toolstack detaches it, in ``linux`` nobody does."""
        if self.profile.hardened:
            await self.xenbus.write(removed_node(dev.name), pdev.domid)
        else:
            pdev.exported.pop(dev.sbdf, None)

    async def put_back(self, psdev: PcistubDevice, *, stub_resets: bool = False) -> None:
        """``pcistub_put_pci_dev`` (4.7): reset, restore, forget the guest.

        In ``hardened`` a device that the stub has just reset (``clean``) or is about to reset is not reset here
        too (errata 9.2 no. 13, 19): nobody touches it in between, and ``hw_reset`` does all of this. A faulty one
        waits for an operator's reset; one whose reset fails becomes faulty (D25).
        """
        failed = ""
        async with psdev.dev.device_lock, self.assignments:
            removed = self.slots.get(psdev.dev.sbdf) is not psdev
            if not (psdev.clean or psdev.faulty or stub_resets or removed):
                offered = has_reset_method(self.core, psdev.dev)
                rc, _ = await reset_function_locked(self.core, psdev.dev)
                failed = f"reset failed ({rc})" if rc and offered else ""
                psdev.restore_seized()
            if not self.profile.hardened:
                psdev.say_interrupt_off()
            psdev.disable_msi()
            self._drop_quirks(psdev)
            psdev.forget_guest(keep_permissive=self.profile.has(Defect.D24))
        if failed and not self.profile.has(Defect.D25):
            await self.mark_faulty(psdev, failed)
        self.progress.wake_all()  # who waits to have it may have it

    # -- quirks --------------------------------------------------------------------------------
    def add_quirk(self, text: str) -> None:
        """Write to the driver's sysfs file ``quirks`` (6.7). Raises ValueError."""
        quirk = parse_quirk(text)
        psdev = self.slots.get(quirk.sbdf)
        if psdev is None:
            raise ValueError(f"{quirk.sbdf} is not seized by pciback")
        psdev.conf.add_quirk(quirk)
        self.quirks.append(quirk)

    def _drop_quirks(self, psdev: PcistubDevice) -> None:
        """The head that goes with a put back; with D19 the first one whose ids fit, whoever's it is."""
        for quirk in self.quirks:
            if quirk.sbdf == psdev.dev.sbdf or (self.profile.has(Defect.D19) and self._same_ids(quirk, psdev)):
                self.quirks.remove(quirk)
                return

    def _same_ids(self, quirk: Quirk, psdev: PcistubDevice) -> bool:
        other = self.core.devices[quirk.sbdf]
        return (other.vendor, other.device) == (psdev.dev.vendor, psdev.dev.device)

    # -- guests --------------------------------------------------------------------------------
    async def _backend_appears(self, path: str) -> None:
        """BUS-5: a backend directory whose state is Initialising is a new device."""
        parts = path.removeprefix(BACKEND_ROOT).split("/")
        if len(parts) < 2 or not parts[1].isdigit() or int(parts[1]) in self.guests:
            return
        domid = int(parts[1])
        if parse_state(await self.xenbus.read(f"{backend_dir(domid)}/state")) != XenbusState.INITIALISING:
            return
        self.names[domid] = await self.xenbus.read(f"{backend_dir(domid)}/domain") or f"domain {domid}"
        pdev = self.guests[domid] = XenPcibkDevice(self, domid, self._topology())
        await pdev.probe()

    def _topology(self) -> Vpci | Passthrough:
        if self.host.passthrough:
            return Passthrough(self._parent_of)
        return Vpci(self.profile.hardened, self._log_vpci, refuse_bridges=not self.profile.has(Defect.D18))

    def _parent_of(self, sbdf: Sbdf) -> Sbdf | None:
        bridge = self.core.devices[sbdf].bridge
        return bridge.sbdf if bridge is not None else None

    def _log_vpci(self, sbdf: Sbdf, text: str) -> None:
        self.core.printk(DEBUG, self.core.devices[sbdf], f"xen_pciback: {text}")

    def resolve(self, domid: int, devfn: int) -> Sbdf | None:
        """Machine address of a guest's device, which is named by its ``Sbdf.number`` in the guest."""
        pdev = self.guests.get(domid)
        return pdev.vbus.lookup(devfn >> 16, devfn >> 8 & 0xFF, devfn & 0xFF) if pdev is not None else None

    def guest_devfn(self, sbdf: Sbdf) -> int | None:
        """The ``Sbdf.number`` under which its guest knows a device: the devfn on a virtual bus."""
        psdev = self.slots.get(sbdf)
        address = psdev.pdev.vbus.guest_address(sbdf) if psdev is not None and psdev.pdev is not None else None
        return address[0] << 16 | address[1] << 8 | address[2] if address is not None else None

    def owned_by(self, dev: PciDev, domid: int | None) -> bool:
        """``dev`` belongs to ``domid`` or to nobody, as ports do; what dom0 drives itself is dom0's."""
        psdev = self.slots.get(dev.sbdf)
        if psdev is None:
            return dev.is_bridge or dev.driver is None
        return psdev.domid in (None, domid)

    def forget(self, domid: int) -> None:
        """The backend device of a domain is gone."""
        self.guests.pop(domid, None)
        self.progress.wake_all()

    def guest_name(self, domid: int) -> str:
        """Name of a domain, as its backend directory says."""
        return self.names.get(domid, f"domain {domid}")

    def may_connect(self, domid: int) -> bool:
        """The domain is one that can ever have a shared page: PV, with a frontend (BUS-7)."""
        spec = self.host.guest(self.guest_name(domid))
        return spec is None or (spec.type == "pv" and spec.front)

    def mark_detaching(self, sbdf: Sbdf) -> None:
        """H11: the device is being taken from its guest; a pending question about it ends now."""
        psdev = self.slots.get(sbdf)
        if psdev is not None and psdev.pdev is not None:
            psdev.detaching = True
            self.progress.wake_all()
            if psdev.pdev.worker is not None:
                psdev.pdev.worker.events.answered.wake_all()

    def domain_stopped(self, domid: int, why: str) -> None:
        """The hypervisor says that a guest's processors run no more (KILL-4.2, 4.4)."""
        pdev = self.guests.get(domid)
        if pdev is None:
            return
        pdev.guest_stopped(why)

    def domain_paused(self, domid: int, on: bool) -> None:
        """The operator paused or unpaused a guest: that is no silence of its own (errata 9.2 no. 15)."""
        pdev = self.guests.get(domid)
        if pdev is not None:
            pdev.set_paused(on)

    def withdraw(self, domid: int) -> None:
        """The operator destroys the domain: its devices count as detached, not killed (errata 9.2 no. 18).

        It comes before the guest is stopped: the end of its channel alone does not say who ended it.
        """
        pdev = self.guests.get(domid)
        for sbdf in pdev.exported if pdev is not None else ():
            self.mark_detaching(sbdf)

    def departing(self, dev: PciDev) -> bool:
        """The device is being detached or its guest has been stopped: it gets nothing back."""
        psdev = self.slots.get(dev.sbdf)
        return psdev is not None and psdev.pdev is not None and (psdev.detaching or bool(psdev.pdev.stopped))

    def lives_on(self, domid: int) -> bool:
        """The policy of the domain lets it live after ``aerfail``, at least for a while (KILL-7)."""
        spec = self.host.guest(self.guest_name(domid))
        return spec is not None and spec.policy in ("ignore", "poweroff")

    # -- the kill request ------------------------------------------------------------------------
    async def kill_domain_by_device(self, psdev: PcistubDevice, incident: int) -> None:
        """``kill_domain_by_device`` (4.6): ask the toolstack by ``aerState``, once per incident (H23)."""
        pdev = psdev.pdev
        if pdev is None or (self.profile.hardened and pdev.killed_incident == incident):
            return
        pdev.killed_incident = incident
        self.progress.wake_all()
        pdev.condemned = self.profile.hardened and not self.lives_on(pdev.domid)
        path = f"{backend_dir(pdev.domid)}/aerState"

        async def body(tx: int) -> None:
            if self.profile.has(Defect.D15) or await self.xenbus.read(f"{backend_dir(pdev.domid)}/state", tx):
                await self.xenbus.write(path, "aerfail", tx)  # never recreates a directory that has gone (I22)

        self.kernel.trace("pciback.kill", psdev.dev.name)
        await self.xenbus.transaction(body)

    async def mark_faulty(self, psdev: PcistubDevice, why: str) -> None:
        """KILL-5, also for a device that no guest has: the toolstack finds it in the nodes that it looks at."""
        psdev.faulty = why
        node = bookkeeping(psdev.dev.name)
        await self.xenbus.write(f"{node}/fault", why)
        if await self.xenbus.read(f"{node}/domid") is None:
            await self.xenbus.write(f"{node}/domid", 0)

    async def wait_stopped(self, domid: int, timeout_ms: int) -> bool:
        """Wait until a condemned guest has been stopped (H22); False if nobody does it in time."""
        deadline = self.kernel.now() + timeout_ms * MS
        return await self.progress.wait_until(
            lambda: domid not in self.guests or bool(self.guests[domid].stopped), deadline
        )

    async def call_quietly(self, op: str, *args: Any) -> None:
        """A hypercall whose failure changes nothing for us; it is logged."""
        try:
            await self.rpc.call(op, *args)
        except RpcError as error:
            self.kernel.printk(DEBUG, f"xen-pciback: {op}: {error}")
