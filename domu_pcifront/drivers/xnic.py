"""Network driver for ``protocol.nic``: sends frames and verifies the peer's answers bit by bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from domu_pcifront.device import GuestPciDev
from domu_pcifront.driver import WorkloadError
from domu_pcifront.drivers.queued import QueueDriver
from domu_pcifront.drivers.ring import DriverRing
from domu_pcifront.options import Option, whole
from protocol.nic import (
    BUFFER_SIZE,
    COMPLETION,
    COMPLETION_OFFSET,
    DESCRIPTOR,
    IDENTITY,
    MAC,
    MAX_PAYLOAD,
    PEER_MAC,
    RX_RING,
    TX_RING,
    Flag,
    Frame,
    decode,
)

ENTRIES = 16
BATCH = ENTRIES - 1


class XNic(QueueDriver):
    """A unit of its workload is a frame that came back right. Frames that a reset lost are sent again."""

    name: ClassVar[str] = "xnic"
    IDENTITY: ClassVar[int] = IDENTITY
    OPTIONS: ClassVar[Mapping[str, Option]] = {
        **QueueDriver.OPTIONS,
        "payload": Option(whole(4, MAX_PAYLOAD), 64, "bytes of payload in a frame"),
    }

    def __init__(self, dev: GuestPciDev, options: dict[str, Any]) -> None:
        super().__init__(dev, options)
        self._sequence = 0
        self._next = 0  # receive entry that the device fills next
        self._sent_in = 0  # generation of the frames under way

    def allocate(self) -> None:
        """Two rings, one buffer for each of their entries."""
        self._tx = DriverRing(self.dev, TX_RING, DESCRIPTOR.size, ENTRIES)
        self._rx = DriverRing(self.dev, RX_RING, DESCRIPTOR.size, ENTRIES)
        self._buffers = self.dev.memory.alloc(2 * ENTRIES * BUFFER_SIZE, BUFFER_SIZE)

    def release(self) -> None:
        """Give rings and buffers back."""
        for ring in self.rings():
            ring.free()
        self.dev.memory.free(self._buffers)

    def rings(self) -> tuple[DriverRing, ...]:
        """Transmit and receive ring."""
        return self._tx, self._rx

    def restarted(self) -> None:
        """Hand the device all receive buffers that fit into the ring."""
        self._next = 0
        for _ in range(BATCH):
            self._post_buffer()
        self._rx.doorbell()

    def _post_buffer(self) -> None:
        address = self._buffers + (ENTRIES + self._rx.tail) * BUFFER_SIZE
        self._rx.push(DESCRIPTOR.pack(address, BUFFER_SIZE, 0, 0))

    async def transfer(self, count: int) -> int:
        """Exchange ``count`` frames with the peer."""
        async with self.lock:
            for done in range(0, count, BATCH):
                await self._exchange(min(BATCH, count - done))
        return count

    async def _exchange(self, count: int) -> None:
        """Send ``count`` frames and wait for all answers."""
        await self.until_running()
        waiting: dict[int, bytes] = {}  # sequence number that the answer must have -> payload
        for _ in range(count):
            self._sequence = self._sequence + 1 & 0xFFFFFFFF
            waiting[self._sequence + 1 & 0xFFFFFFFF] = payload_of(self._sequence, self.options["payload"])
        self._send(waiting)
        while waiting:
            await self.until(self._news)
            if self._lost():
                self.dev.trace("driver.reissue", len(waiting))
                self._send(waiting)
            while waiting and self._received():
                self._verify(self._take(), waiting)
        self._rx.doorbell()

    def _lost(self) -> bool:
        """The device was set up anew since the last frames were sent."""
        return self._sent_in != self.generation

    def _news(self) -> bool:
        return self.running and (self._lost() or self._received())

    def _send(self, waiting: dict[int, bytes]) -> None:
        self._sent_in = self.generation
        for answer, payload in waiting.items():
            frame = Frame(PEER_MAC, MAC, answer - 1, payload).encode()
            address = self._buffers + self._tx.tail * BUFFER_SIZE
            self.dev.memory.write(address, frame)
            self._tx.push(DESCRIPTOR.pack(address, len(frame), Flag.END, 0))
        self._tx.doorbell()

    def _received(self) -> bool:
        at = self._rx.address(self._next) + COMPLETION_OFFSET
        return bool(COMPLETION.unpack(self.dev.memory.read(at, COMPLETION.size))[2])

    def _take(self) -> bytes:
        """The next received frame; its buffer goes back to the ring with the next doorbell."""
        at = self._rx.address(self._next) + COMPLETION_OFFSET
        length = COMPLETION.unpack(self.dev.memory.read(at, COMPLETION.size))[0]
        if length > BUFFER_SIZE:
            raise WorkloadError(f"the device claims to have received {length} bytes in a buffer of {BUFFER_SIZE}")
        data = self.dev.memory.read(self._buffers + (ENTRIES + self._next) * BUFFER_SIZE, length)
        self._next = (self._next + 1) % ENTRIES
        self._post_buffer()
        return data

    def _verify(self, data: bytes, waiting: dict[int, bytes]) -> None:
        frame = decode(data)
        if frame is None:
            raise WorkloadError(f"received {len(data)} bytes with a wrong CRC or form")
        if (frame.destination, frame.source) != (MAC, PEER_MAC):
            raise WorkloadError(f"frame {frame.sequence}: from {frame.source.hex(':')} to {frame.destination.hex(':')}")
        payload = waiting.pop(frame.sequence, None)
        if payload is None:
            raise WorkloadError(f"frame {frame.sequence} was not expected; expected {sorted(waiting)}")
        if payload != frame.payload:
            raise WorkloadError(f"frame {frame.sequence}: payload differs at byte {first_difference(payload, frame)}")


def payload_of(sequence: int, size: int) -> bytes:
    """Data that differs from frame to frame: multiples of a large odd number."""
    word = (sequence * 2654435761 & 0xFFFFFFFF).to_bytes(4, "little")
    return (word * (size // 4 + 1))[:size]


def first_difference(payload: bytes, frame: Frame) -> int:
    """Index of the first byte that differs; the shorter length if none does."""
    pairs = zip(payload, frame.payload, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(payload), len(frame.payload)))
