"""The guest's side of the device bus: MMIO outwards, DMA and MSI inwards (``protocol.messages.DEVBUS``)."""

from __future__ import annotations

from collections.abc import Callable

from domu_pcifront.memory import GuestMemory
from kernel_stub.kernel import MS, Kernel
from kernel_stub.rpc import Rpc, RpcError
from protocol.ports import Link

COMPLETION_TIMEOUT = 2_000 * MS  # a read that nobody completes gives all ones, as a root port would


def all_ones(size: int) -> int:
    """What a read of ``size`` bytes gives when nobody answers."""
    return (1 << 8 * size) - 1


class DevBus:
    """One per guest. Without a link, or once it has closed, reads give all ones and writes are dropped.

    ``spurious`` counts interrupts that no driver has asked for.
    """

    def __init__(self, kernel: Kernel, memory: GuestMemory) -> None:
        self.kernel = kernel
        self.memory = memory
        self.spurious = 0
        self._rpc: Rpc | None = None
        self._handlers: dict[tuple[int, int], Callable[[], None]] = {}

    def attach(self, link: Link) -> None:
        """Use ``link`` from now on; an earlier one is given up."""
        self.detach()
        rpc = self._rpc = Rpc(self.kernel, link, "devbus")
        rpc.handlers["dma_read"] = self._dma_read
        rpc.events["dma_write"] = self._dma_write
        rpc.events["msi"] = self._msi

    def detach(self) -> None:
        """Close the link; whoever waits for a read gets all ones."""
        rpc, self._rpc = self._rpc, None
        if rpc is not None and rpc.closed is None:
            rpc.link.close()
            rpc.link.on_close("detached")

    async def mmio_read(self, devfn: int, bar: int, offset: int, size: int) -> int:
        """Read ``size`` (1, 2, 4, 8) bytes of a BAR; all ones if nobody answers within COMPLETION_TIMEOUT."""
        rpc = self._rpc
        if rpc is None:
            return all_ones(size)
        try:
            deadline = self.kernel.now() + COMPLETION_TIMEOUT
            return int(await rpc.call("mmio_read", devfn, bar, offset, size, deadline=deadline))
        except RpcError:
            return all_ones(size)

    def mmio_write(self, devfn: int, bar: int, offset: int, size: int, value: int) -> None:
        """Posted write; lost if nobody is there."""
        if self._rpc is not None:
            self._rpc.post("mmio_write", devfn, bar, offset, size, value)

    def on_msi(self, devfn: int, vector: int, handler: Callable[[], None] | None) -> None:
        """Call ``handler`` (outside every task) for message ``vector`` of a device; None: nobody."""
        if handler is None:
            self._handlers.pop((devfn, vector), None)
        else:
            self._handlers[devfn, vector] = handler

    async def _dma_read(self, devfn: int, address: int, length: int) -> bytes:
        data = self.memory.dma_read(address, length)
        if data is None:
            raise RpcError(f"no memory at {address:#x}+{length:#x}")
        return data

    def _dma_write(self, devfn: int, address: int, data: bytes) -> None:
        self.memory.dma_write(address, data)

    def _msi(self, devfn: int, vector: int) -> None:
        handler = self._handlers.get((devfn, vector))
        if handler is None:
            self.spurious += 1
        else:
            handler()
