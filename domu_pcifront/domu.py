"""The guest: everything that runs in one PV (or HVM) domain, without a socket or a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from domu_pcifront.bus import GuestBus
from domu_pcifront.devbus import DevBus
from domu_pcifront.device import GuestPciDev, Machine
from domu_pcifront.driver import PciDriver
from domu_pcifront.event_channel import EventChannel
from domu_pcifront.memory import GuestMemory
from domu_pcifront.pcifront import Pcifront
from kernel_stub.kernel import INFO, Kernel
from kernel_stub.rpc import Rpc, RpcError
from kernel_stub.xenbus_client import Xenbus
from protocol.ports import Endpoints, Link
from protocol.topology import GUEST, TIMING, GuestSpec, defects_in_force
from protocol.xenbus import XenbusState, parse_state

SHUTDOWN_REASONS = {"poweroff": 0, "halt": 0, "reboot": 1}


class DomU:
    """One guest incarnation. ``link`` leads to the hypervisor stub, ``token`` proves who this is."""

    def __init__(self, kernel: Kernel, link: Link, endpoints: Endpoints, machine: Machine, token: str) -> None:
        self.kernel = kernel
        self.endpoints = endpoints
        self.machine = machine
        self.rpc = Rpc(kernel, link, "hypervisor")
        self.on_channel: Callable[[EventChannel], None] = lambda events: None
        self.memory = GuestMemory()
        self.devbus = DevBus(kernel, self.memory)
        self.bus = GuestBus(kernel, self._make_device)
        self.pcifront: Pcifront | None = None
        self.domid = -1
        self.guest = GuestSpec("")
        self.rpc.handlers["ctl"] = self.ctl
        self.rpc.events["devbus_open"] = self._devbus_open
        kernel.spawn(self._boot(token), "init")

    def _make_device(self, devfn: int) -> GuestPciDev:
        assert self.pcifront is not None
        assert self.pcifront.ops is not None
        ops = self.pcifront.ops
        return GuestPciDev(self.kernel, devfn, ops, self.devbus, self.memory, msi=ops, machine=self.machine)

    def _devbus_open(self, address: str) -> None:
        self.devbus.attach(self.endpoints.connect("devbus", address))

    async def _boot(self, token: str) -> None:
        hello: dict[str, Any] = await self.rpc.call("hello", "domu", token)
        self.domid, self.guest = hello["domid"], GUEST.validate_json(hello["guest"])
        self.kernel.trace("party.start", hello["name"], self.machine.pid)
        self.kernel.printk(INFO, f"Linux version (xenaer) domain {hello['name']}")
        self.xenbus = Xenbus(self.kernel, self.rpc)
        await self.xenbus.watch("control/shutdown", self._control_shutdown)
        if self.guest.type == "pv" and self.guest.front:
            self._prepare_pcifront(hello)
            await self.xenbus.watch("device/pci/0/state", lambda path: self._frontend_device())

    def _prepare_pcifront(self, hello: dict[str, Any]) -> None:
        front = Pcifront(self.kernel, self.rpc, self.xenbus, self.endpoints, self.bus, self.guest)
        front.timing = TIMING.validate_json(hello["timing"])
        front.defects = defects_in_force(hello["profile"], hello["defects"])
        front.plain_linux = hello["profile"] == "linux"
        front.on_channel = lambda events: self.on_channel(events)
        self.pcifront = front

    async def _frontend_device(self) -> None:
        """BUS-5: the frontend device appears when its state is Initialising, and goes with its node."""
        state = parse_state(await self.xenbus.read("device/pci/0/state"))
        front = self.pcifront
        assert front is not None
        if state == XenbusState.INITIALISING:
            if hasattr(front, "dev"):
                await self._forget_pcifront(front)
            assert self.pcifront is not None
            await self.pcifront.probe(self.domid)
        elif state == XenbusState.UNKNOWN and hasattr(front, "dev"):
            await self._forget_pcifront(front)

    async def _forget_pcifront(self, front: Pcifront) -> None:
        """The device is gone (its last PCI device was detached): a new one may come later."""
        await front.remove()
        fresh = Pcifront(self.kernel, self.rpc, self.xenbus, self.endpoints, self.bus, self.guest)
        fresh.timing, fresh.defects, fresh.on_channel = front.timing, front.defects, front.on_channel
        fresh.plain_linux, fresh.faults = front.plain_linux, front.faults
        self.pcifront = fresh

    async def _control_shutdown(self, path: str) -> None:
        """``shutdown_handler``: the toolstack asks the guest to power off or to reboot."""
        reason = await self.xenbus.read("control/shutdown")
        if not reason or reason not in SHUTDOWN_REASONS:
            return
        await self.xenbus.write("control/shutdown", "")
        self.kernel.printk(INFO, f"xen:manage: shutdown request: {reason}")
        if self.pcifront is not None and hasattr(self.pcifront, "dev"):
            self.pcifront.shutting_down = True
            await self.bus.remove_all()
        self.rpc.post("shutdown", SHUTDOWN_REASONS[reason])
        self.machine.halt()

    # -- control -------------------------------------------------------------------------------
    async def ctl(self, verb: str, args: tuple[Any, ...]) -> Any:
        """``workload [devfn or -1, count]``, ``status``, ``driver-fault`` (``driver_faults``); else RpcError."""
        if verb == "workload":
            if len(args) != 2 or not all(type(arg) is int for arg in args):
                raise RpcError("workload: arguments are devfn (-1: all) and count")
            return await self._workload(*args)
        if verb == "status":
            return {device.name: driver_name(device.driver) for device in self.bus.devices.values()}
        if verb == "driver-fault":
            if self.pcifront is None:
                raise RpcError(f"{self.guest.name} has no pcifront, so nobody calls its drivers")
            self.pcifront.faults.arm(args)
            return None
        raise RpcError(f"guest verb {verb!r}; allowed: workload, status, driver-fault")

    async def _workload(self, devfn: int, count: int) -> dict[str, int]:
        verified: dict[str, int] = {}
        for device in list(self.bus.devices.values()):
            if device.driver is not None and devfn in (-1, device.devfn):
                try:
                    verified[device.name] = await device.driver.workload(count)
                except Exception as error:  # the driver's own word for "my device does not work"
                    raise RpcError(f"{device.name}: {error}") from None
        return verified


def driver_name(driver: PciDriver | None) -> str:
    """Name of a driver, empty if there is none."""
    return driver.name if driver is not None else ""
