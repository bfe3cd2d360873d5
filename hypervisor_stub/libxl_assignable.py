"""Making devices assignable: libxl's ``pci-assignable-*``. Source: xen-pci.md 9.2, 9.4, 2.2 (bookkeeping)."""

from __future__ import annotations

from hypervisor_stub.console import ERROR_FAIL, LibxlError, LibxlLog
from hypervisor_stub.hardware import SYSFS, Hardware
from hypervisor_stub.machine import Machine
from kernel_stub.rpc import RpcError
from protocol.xenbus import bookkeeping

PCIBACK = "pciback"
DRIVERS = "/sys/bus/pci/drivers"


class LibxlAssignable:
    """The devices that are bound to pciback, and which of them a guest may get."""

    def __init__(self, machine: Machine, hardware: Hardware) -> None:
        self._machine = machine
        self._xs = machine.xs
        self._hardware = hardware

    async def slots(self) -> dict[str, str]:
        """Every function that dom0 sees with its driver ("" for none), in bus order."""
        try:
            return dict(await self._machine.ask_dom0("pci_slots"))
        except RpcError:
            return {}

    async def listing(self) -> list[tuple[str, str]]:
        """``xl pci-assignable-list``: (address, name) of what may be given away, in directory order."""
        return [
            (bdf, self._xs.read(f"{bookkeeping(bdf)}/name") or "")
            for bdf, driver in (await self.slots()).items()
            if driver == PCIBACK and self._xs.read(f"{bookkeeping(bdf)}/domid") is None
        ]

    def by_name(self, name: str) -> str | None:
        """The address of the device that was given this name."""
        for directory in self._xs.directory("/libxl/pci"):
            if self._xs.read(f"/libxl/pci/{directory}/name") == name:
                segment, bus, device, function = directory.split("-")
                return f"{segment}:{bus}:{device}.{function}"
        return None

    async def add(self, bdf: str, log: LibxlLog, name: str = "") -> None:
        """Bind to pciback and quarantine. A faulty device is reset first (KILL-5). Raises LibxlError."""
        driver = (await self.slots()).get(bdf)
        if driver is None:
            log.say("no_device", path=f"{SYSFS}/{bdf}: No such file or directory")
            raise LibxlError(ERROR_FAIL)
        if driver == PCIBACK:
            log.say("already_assigned", bdf=bdf)
        else:
            await self._seize(bdf, log)
            await self._quarantine(bdf, log)
        if self._hardware.fault(bdf) and not await self._hardware.clear_fault(bdf):
            log.say("reset_failed", path=f"{SYSFS}/{bdf}/reset", reason=self._hardware.fault(bdf))
            raise LibxlError(ERROR_FAIL)
        if name:
            self._xs.write(f"{bookkeeping(bdf)}/name", name)

    async def _seize(self, bdf: str, log: LibxlLog) -> None:
        try:
            answer = await self._machine.ask_dom0("pci_seize", bdf)
        except RpcError:
            log.say("bind_failed")
            raise LibxlError(ERROR_FAIL) from None
        had = str(answer) if isinstance(answer, str) else str(answer[0])
        path = f"{bookkeeping(bdf)}/driver_path"
        if had:
            self._xs.write(path, f"{DRIVERS}/{had}")
        elif known := self._xs.read(path):
            log.say("will_be_rebound", bdf=bdf, driver=known)
        else:
            log.say("not_rebound", bdf=bdf)

    async def _quarantine(self, bdf: str, log: LibxlLog) -> None:
        if await self._hardware.release(bdf) != "ok":
            log.say("quarantine_failed", bdf=bdf)
            raise LibxlError(ERROR_FAIL)

    async def remove(self, bdf: str, log: LibxlLog, *, rebind: bool) -> None:
        """Take from pciback; ``rebind`` gives it back to the driver it had. Raises LibxlError."""
        books = bookkeeping(bdf)
        if self._xs.read(f"{books}/domid") is not None:
            log.say("dequarantine_failed", bdf=bdf)
            raise LibxlError(ERROR_FAIL)
        driver = self._xs.read(f"{books}/driver_path") if rebind else None
        bound = (await self.slots()).get(bdf) == PCIBACK
        if not bound:
            log.say("not_bound")
        if driver:
            log.say("rebinding", driver=driver)
        elif rebind:
            log.say("no_driver_path")
        if bound or driver:
            await self._release(bdf, (driver or "").rpartition("/")[2])
        if driver:
            self._xs.remove(f"{books}/driver_path")
        self._xs.remove(f"{books}/name")

    async def _release(self, bdf: str, driver: str) -> None:
        try:
            await self._machine.ask_dom0("pci_release", bdf, driver)
        except RpcError:
            raise LibxlError(ERROR_FAIL) from None
