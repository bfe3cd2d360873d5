"""The device bus of each guest: MMIO from the guest to the hardware, DMA and MSI back (``messages.DEVBUS``).

Addresses are the guest's: virtual devfn and BAR. Whether a request arrives is decided here, by the hardware:
the function must belong to the domain, decode memory, and for DMA and MSI be a bus master that the IOMMU lets
through. Everything else reads as all ones and is dropped.
"""

from __future__ import annotations

from collections.abc import Callable

from dom0_pciback.pcie.devices import DeviceModel, make_model
from dom0_pciback.pcie.function import Function
from dom0_pciback.pcie.hierarchy import Hierarchy
from dom0_pciback.pcie.iommu import Iommu, bus_master_ok
from kernel_stub.kernel import MS, Kernel
from kernel_stub.refusals import Refusals
from kernel_stub.rpc import Rpc, RpcError
from protocol.ids import Sbdf
from protocol.layout_msi import MSI_FLAGS_ENABLE
from protocol.ports import Link

COMPLETION_TIMEOUT = 2_000 * MS  # a DMA read that the guest's memory does not answer is aborted
BARS = range(6)
READS_MAX = 32  # tags of a function: DMA reads that it may have under way
SIZES = (1, 2, 4, 8)  # bytes of one access to a register
MSI_CONTROL = 2  # offset of Message Control in the capability

Resolve = Callable[[int, int], Sbdf | None]  # domain, its number for a function -> machine address
GuestDevfn = Callable[[Sbdf], int | None]


class DeviceBus:
    """All device models of a host and one link per domain.

    ``resolve`` and ``guest_devfn`` translate between a guest's addresses and the machine's; pciback sets them.
    ``keeps_mappings``: a guest's processors reach a BAR for as long as pciback says that it is theirs; the IOMMU
    stands in the way of DMA alone (profile ``linux``).
    """

    def __init__(self, kernel: Kernel, hierarchy: Hierarchy, iommu: Iommu, *, keeps_mappings: bool = False) -> None:
        self.kernel = kernel
        self.iommu = iommu
        self.keeps_mappings = keeps_mappings
        self._profile = hierarchy.profile
        self.refusals = Refusals(kernel)
        self.functions = hierarchy.functions
        self.resolve: Resolve = lambda domid, devfn: None
        self.guest_devfn: GuestDevfn = lambda sbdf: None
        self._links: dict[int, Rpc] = {}
        self.models: dict[Sbdf, DeviceModel] = {}
        for function in hierarchy.functions.values():
            if not function.is_port:
                master = FunctionBusMaster(self, function)
                self.models[function.sbdf] = make_model(
                    function.spec.model, kernel, master, label=f"dma {function.sbdf}"
                )
        hierarchy.on_reset = self._reset

    def _reset(self, function: Function) -> None:
        model = self.models.get(function.sbdf)
        if model is not None:
            model.reset()

    # -- links ---------------------------------------------------------------------------------
    def attach(self, domid: int, link: Link) -> None:
        """The bus of a domain; an earlier one is revoked."""
        self.detach(domid)
        rpc = self._links[domid] = Rpc(self.kernel, link, f"device bus of {domid}")

        async def mmio_read(devfn: int, bar: int, offset: int, size: int) -> int:
            return self._mmio_read(domid, devfn, bar, offset, size)

        rpc.handlers["mmio_read"] = mmio_read
        rpc.refuse = lambda what, text: self.refusals.refuse("role", f"domain {domid}", f"{what}: {text}")
        rpc.events["mmio_write"] = lambda *args: self._mmio_write(domid, *args)

    def detach(self, domid: int) -> None:
        """Revoke the bus of a domain."""
        rpc = self._links.pop(domid, None)
        if rpc is not None and rpc.closed is None:
            rpc.link.close()

    def has_link(self, domid: int) -> bool:
        """The domain has a bus already."""
        return domid in self._links

    def link_of(self, domid: int) -> Rpc | None:
        """The bus of a domain, None if there is none or it has closed."""
        rpc = self._links.get(domid)
        return rpc if rpc is not None and rpc.closed is None else None

    # -- guest to device -------------------------------------------------------------------------
    def _target(self, domid: int, devfn: int, bar: int) -> DeviceModel | None:
        """Who decodes this request of ``domid``."""
        sbdf = self.resolve(domid, devfn)
        function = self.functions.get(sbdf) if sbdf is not None else None
        if function is None or sbdf is None:
            return None
        if self.iommu.revoked(domid) or (self.iommu.owner(sbdf) != domid and not self.keeps_mappings):
            return None
        if bar not in BARS or not function.memory_enabled(bar):
            return None
        return self.models.get(sbdf)

    def _mmio_read(self, domid: int, devfn: int, bar: int, offset: int, size: int) -> int:
        if size not in SIZES:  # no processor can ask this; the answer would fit no message
            raise RpcError(f"mmio_read of {size} bytes")
        model = self._target(domid, devfn, bar)
        if model is None:
            return 0 if self._profile.unclaimed_reads_zero else (1 << 8 * size) - 1
        return model.mmio_read(bar, offset, size)

    def _mmio_write(self, domid: int, devfn: int, bar: int, offset: int, size: int, value: int) -> None:
        model = self._target(domid, devfn, bar)
        if model is not None:
            model.mmio_write(bar, offset, size, value)


class FunctionBusMaster:
    """``devices.BusMaster`` of one function: every access is checked when it is made."""

    __slots__ = ("_reading", "bus", "function")

    def __init__(self, bus: DeviceBus, function: Function) -> None:
        self.bus = bus
        self.function = function
        self._reading = 0  # reads that wait for the guest's memory

    def _way(self) -> tuple[Rpc, int] | None:
        """The link to the memory that this function may reach now, and its devfn there."""
        sbdf, bus = self.function.sbdf, self.bus
        domid = bus.iommu.owner(sbdf)
        rpc, devfn = bus.link_of(domid), bus.guest_devfn(sbdf)
        if rpc is None or devfn is None or not bus.iommu.allows(sbdf, domid) or not bus_master_ok(self.function):
            return None
        return rpc, devfn

    async def read(self, address: int, length: int) -> bytes | None:
        """DMA read; None if it is blocked or nobody answers."""
        way = self._way()
        if way is None or self._reading >= READS_MAX:
            return None
        self._reading += 1
        deadline = self.bus.kernel.now() + COMPLETION_TIMEOUT
        try:
            data = await way[0].call("dma_read", way[1], address, length, deadline=deadline)
        except RpcError:
            return None
        finally:
            self._reading -= 1
        return data if isinstance(data, bytes) and len(data) == length else None  # a guest may answer anything

    def write(self, address: int, data: bytes) -> bool:
        """Posted DMA write; False if it is blocked."""
        way = self._way()
        if way is not None:
            way[0].post("dma_write", way[1], address, data)
        return way is not None

    def msi(self, vector: int) -> None:
        """An MSI is a memory write too: it needs bus mastering, and the capability switched on."""
        way, function = self._way(), self.function
        if way is None or not function.msi:
            return
        if function.config.read(function.msi + MSI_CONTROL, 2) & MSI_FLAGS_ENABLE:
            way[0].post("msi", way[1], vector)
