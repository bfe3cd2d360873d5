"""Model of the network device (``protocol.nic``): two rings in guest memory and a loop-back peer."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from dom0_pciback.pcie.devices.base import BusMaster, DeviceRing, QueueModel
from kernel_stub.kernel import Kernel
from protocol.device_regs import Cause
from protocol.nic import (
    COMPLETION,
    COMPLETION_OFFSET,
    DESCRIPTOR,
    DONE,
    DONE_OFFSET,
    LAYOUT,
    MAX_FRAME,
    RX_RING,
    TX_RING,
    Flag,
    NicReg,
    echo,
)


class NicModel(QueueModel):
    """Transmits what the driver queues and receives the peer's answers. ``wire_ns``: time per frame."""

    LAYOUT: ClassVar[dict[int, tuple[int, int]]] = LAYOUT

    def __init__(self, kernel: Kernel, bus: BusMaster, label: str, wire_ns: int = 0) -> None:
        super().__init__(kernel, bus, label)
        self.wire_ns = wire_ns
        self.peer = echo
        self.queue = DeviceRing(self.registers, TX_RING, DESCRIPTOR.size)
        self.receive_ring = DeviceRing(self.registers, RX_RING, DESCRIPTOR.size)
        self._buffers: deque[tuple[int, int, int]] = deque()  # prefetched: index, address, length
        self.on_tail(self.queue, self.kick)

    def reset(self) -> None:
        """``DeviceModel.reset``."""
        super().reset()
        self._buffers.clear()

    async def process(self, epoch: int, count: int) -> None:
        """Send ``count`` frames; one interrupt for all of them and their answers."""
        ring = self.queue
        raw = await self.fetch(epoch, ring.address(ring.head), count * DESCRIPTOR.size)
        for address, length, _flags, _done in DESCRIPTOR.iter_unpack(raw):
            await self._transmit(epoch, address, length)
        self.interrupt(Cause.DONE)

    async def _transmit(self, epoch: int, address: int, length: int) -> None:
        ring, answer = self.queue, None
        if 0 < length <= MAX_FRAME:
            frame = await self.fetch(epoch, address, length)
            await self.delay(epoch, self.wire_ns)
            self.count(NicReg.TX_FRAMES)
            answer = self.peer(frame)
        self.store(ring.address(ring.head) + DONE_OFFSET, DONE)
        ring.advance()
        if answer is None:
            self.count(NicReg.DROPPED)
        else:
            await self._receive(epoch, answer)

    async def _receive(self, epoch: int, frame: bytes) -> None:
        if not self._buffers:
            await self._prefetch(epoch)
        if not self._buffers or self._buffers[0][2] < len(frame):
            self.count(NicReg.DROPPED)
            self.interrupt(Cause.OVERRUN)
            return
        index, address, _ = self._buffers.popleft()
        self.store(address, frame)
        self.store(self.receive_ring.address(index) + COMPLETION_OFFSET, COMPLETION.pack(len(frame), Flag.END, 1))
        self.receive_ring.advance()
        self.count(NicReg.RX_FRAMES)

    async def _prefetch(self, epoch: int) -> None:
        """Fetch all receive descriptors that lie side by side; none are held, so head is where to begin."""
        ring = self.receive_ring
        if not ring.valid or not (count := ring.pending()):
            return
        head = ring.head
        raw = await self.fetch(epoch, ring.address(head), count * DESCRIPTOR.size)
        for index, (address, length, _flags, _done) in enumerate(DESCRIPTOR.iter_unpack(raw), head):
            self._buffers.append((index, address, length))
