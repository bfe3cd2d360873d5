"""What the hypervisor stub asks of dom0 and its hardware (``messages.TO_DOM0``): assignment, resets, slots."""

from __future__ import annotations

from collections.abc import Sequence

from dom0_pciback.aer.root_reset import bridge_of
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.reset import pci_bridge_secondary_bus_reset, reset_function, reset_function_locked
from dom0_pciback.pciback.pciback import Pciback
from dom0_pciback.pciback.resets import Resets
from dom0_pciback.pciback.restore import check, restore
from dom0_pciback.pciback.stub import PcistubDevice
from dom0_pciback.pcie.device_bus import DeviceBus
from dom0_pciback.pcie.iommu import Iommu
from kernel_stub.kernel import MS
from kernel_stub.rpc import Rpc, RpcError
from kernel_stub.sync import NoLock
from protocol.ids import DOM0, DOMID_IO, Sbdf, guest_identity
from protocol.ports import EndpointError, Endpoints

NO_GUEST = (DOM0, DOMID_IO)  # owners of a function that no guest has


class Hypercalls:
    """Handlers of the stub's requests."""

    def __init__(
        self, core: PciCore, pciback: Pciback, resets: Resets, iommu: Iommu, bus: DeviceBus, endpoints: Endpoints
    ) -> None:
        self.core = core
        self.pciback = pciback
        self.resets = resets
        self.iommu = iommu
        self.bus = bus
        self.endpoints = endpoints
        self._addresses: dict[int, str] = {}

    def install(self, rpc: Rpc) -> None:
        """Serve the requests that come over ``rpc``."""
        rpc.handlers.update(
            hw_assign=self.hw_assign,
            hw_deassign=self.hw_deassign,
            hw_block_dma=self.hw_block_dma,
            hw_reset=self.hw_reset,
            hw_restore=self.hw_restore,
            hw_check=self.hw_check,
            pci_slots=self.pci_slots,
            pci_seize=self.pci_seize,
            pci_release=self.pci_release,
            pci_permissive=self.pci_permissive,
            domain_withdrawn=self.domain_withdrawn,
        )

    def _psdev(self, bdf: str) -> PcistubDevice:
        psdev = self.pciback.slots.get(_sbdf(bdf))
        if psdev is None:
            raise RpcError(f"{bdf} is not seized by pciback")
        return psdev

    def _known(self, bdf: str) -> Sbdf:
        sbdf = _sbdf(bdf)
        if sbdf not in self.core.devices:
            raise RpcError(f"no PCI device {bdf}")
        return sbdf

    # -- assignment ----------------------------------------------------------------------------
    async def hw_assign(self, bdf: str, domid: int) -> str:
        """Let the function reach the memory of ``domid``; returns the address of the domain's device bus."""
        psdev = self._psdev(bdf)
        await self._wait_free(psdev)
        self.iommu.assign(psdev.dev.sbdf, domid)
        self.core.kernel.trace("hw.assign", bdf, domid)
        if not self.bus.has_link(domid):
            try:
                address, link = self.endpoints.listen("devbus", guest_identity(domid))
            except EndpointError as error:
                raise RpcError(str(error)) from None
            self.bus.attach(domid, link)
            self._addresses[domid] = address
        return self._addresses[domid]

    async def _wait_free(self, psdev: PcistubDevice) -> None:
        """The guest that had the function may still be on its way out: its put back comes first (B13)."""
        kernel = self.core.kernel
        deadline = kernel.now() + self.core.timing.backend_wait_ms * MS
        if not await self.pciback.progress.wait_until(lambda: psdev.pdev is None, deadline):
            raise RpcError(f"{psdev.dev.name} still belongs to domain {psdev.domid}")

    async def hw_deassign(self, bdf: str) -> None:
        """To quarantine; the domain's bus goes with its last function."""
        sbdf = _sbdf(bdf)
        dev, domid = self.core.devices.get(sbdf), self.iommu.owner(sbdf)
        if dev is None and domid in NO_GUEST:
            raise RpcError(f"no PCI device {bdf}")
        async with self.resets.lock(dev) if dev is not None else NoLock():  # pulled out: there is nothing to reset
            self.iommu.deassign(sbdf)
        self.core.kernel.trace("hw.deassign", bdf)
        if self.bus.keeps_mappings:
            return  # what the guest has mapped stays mapped until pciback has taken the function back
        if domid != DOMID_IO and all(self.iommu.owner(other) != domid for other in self.pciback.slots):
            self.bus.detach(domid)
            self._addresses.pop(domid, None)

    async def hw_block_dma(self, bdf: str) -> None:
        """KILL-4.3."""
        self.iommu.block(self._known(bdf))
        self.core.kernel.trace("hw.block", bdf)

    # -- resets --------------------------------------------------------------------------------
    async def hw_reset(self, bdf: str, siblings: Sequence[str]) -> tuple[bool, str, str]:
        """KILL-4.5: (done, method, text). Waits for a recovery that owes the bus a reset (H22).

        In ``linux`` it is a write to sysfs, as libxl does it: it brings back what it found, so that a function that
        a recovery has reset stays dead (golden/xen finding 5), and waits for the device lock (finding 18).
        """
        psdev = self._psdev(bdf)
        dev = psdev.dev
        if not self.pciback.profile.hardened:
            return _reset_result(*await reset_function(self.core, dev))
        if psdev.faulty and psdev.pdev is not None:
            return False, "", psdev.faulty  # a recovery gave it up: only an operator's reset may bring it back
        async with self.resets.lock(dev):
            async with dev.device_lock:
                rc, method = await reset_function_locked(self.core, dev)
            if not method and self._whole_bus(dev, siblings):
                rc, method = await pci_bridge_secondary_bus_reset(self.core, bridge_of(dev)), "bus"
                self.core.kernel.trace("pci.reset", dev.name, "bus", rc)
            restore(self.core, dev, psdev.seized)
            if method == "bus":
                await self._restore_others(dev)
        return _reset_result(rc, method)

    async def _restore_others(self, dev: PciDev) -> None:
        """A bus reset hits what nobody has, too; whatever does not come back is faulty (KILL-5)."""
        for each in bridge_of(dev).below:
            psdev = self.pciback.slots.get(each.sbdf)
            if each is dev or psdev is None:
                continue
            restore(self.core, each, psdev.seized)
            if psdev.pdev is None and (text := check(self.core, each, psdev.seized)):
                await self.pciback.mark_faulty(psdev, text)

    def _whole_bus(self, dev: PciDev, siblings: Sequence[str]) -> bool:
        """Every function behind the bridge belongs to the same domain or to none (9.5).

        A function that was assigned to another domain counts as its own before pciback has exported it.
        """
        mine = {_sbdf(bdf) for bdf in siblings}
        return dev.bridge is not None and all(
            other.sbdf in mine or (self.pciback.owned_by(other, None) and self.iommu.owner(other.sbdf) in NO_GUEST)
            for other in dev.bridge.below
        )

    async def hw_restore(self, bdf: str) -> None:
        """KILL-4.6; the put back that follows finds nothing left to do (errata 9.2 no. 19)."""
        psdev = self._psdev(bdf)
        async with self.resets.lock(psdev.dev):
            restore(self.core, psdev.dev, psdev.seized)
            psdev.clean = True

    async def hw_check(self, bdf: str) -> tuple[bool, str]:
        """H19: (clean, what is wrong). A device that a recovery found faulty stays so until a reset succeeds."""
        psdev = self._psdev(bdf)
        async with self.resets.lock(psdev.dev):
            text = psdev.faulty = check(self.core, psdev.dev, psdev.seized)
        return not text, text

    async def domain_withdrawn(self, domid: int) -> None:
        """H11 for all devices of a domain that the operator destroys."""
        self.pciback.withdraw(domid)

    # -- pciback's sysfs files -------------------------------------------------------------------
    async def pci_slots(self) -> list[tuple[str, str]]:
        """All functions with their drivers, in bus order."""
        return [(dev.name, dev.driver.name if dev.driver else "") for dev in self.core.devices.values()]

    async def pci_seize(self, bdf: str) -> list[str]:
        """Bind to pciback; the driver it had."""
        return [await self.pciback.seize(_sbdf(bdf))]

    async def pci_release(self, bdf: str, driver: str) -> None:
        """Unbind from pciback; bind to ``driver``, if it is not empty."""
        await self.pciback.release(_sbdf(bdf), driver)

    async def pci_permissive(self, bdf: str) -> None:
        """``permissive`` in sysfs: the guest may write every register (4.2)."""
        self._psdev(bdf).conf.permissive = True


def _reset_result(rc: int, method: str) -> tuple[bool, str, str]:
    if rc == 0:
        return True, method, ""
    return False, method, f"{method} reset failed ({rc})" if method else "no FLR, PM reset or bus reset available"


def _sbdf(bdf: str) -> Sbdf:
    """An address in a request; RpcError for what is none, so that a typing error does not end dom0."""
    try:
        return Sbdf.parse(bdf)
    except ValueError as error:
        raise RpcError(str(error)) from None
