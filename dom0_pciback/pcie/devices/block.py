"""Model of the block device (``protocol.block``): a queue of commands and a medium that survives resets."""

from __future__ import annotations

from typing import ClassVar

from dom0_pciback.pcie.devices.base import BusMaster, DeviceRing, QueueModel
from kernel_stub.kernel import Kernel
from protocol.block import (
    COMMAND,
    COMPLETION,
    COMPLETION_OFFSET,
    LAYOUT,
    MAX_SECTORS,
    QUEUE,
    SECTOR_SIZE,
    SECTORS,
    BlockReg,
    Op,
    Result,
)
from protocol.device_regs import DMA_BURST, Cause

_BLANK = bytes(SECTOR_SIZE)
_BURST = DMA_BURST // SECTOR_SIZE
_COUNTERS = {Op.READ: BlockReg.READS, Op.WRITE: BlockReg.WRITES, Op.FLUSH: BlockReg.FLUSHES}


class BlockModel(QueueModel):
    """Executes commands in order. ``access_ns``: time per command. A sector is never half written."""

    LAYOUT: ClassVar[dict[int, tuple[int, int]]] = LAYOUT

    def __init__(self, kernel: Kernel, bus: BusMaster, label: str, access_ns: int = 0) -> None:
        super().__init__(kernel, bus, label)
        self.access_ns = access_ns
        self.medium: dict[int, bytes] = {}  # sectors ever written
        self.queue = DeviceRing(self.registers, QUEUE, COMMAND.size)
        self.on_tail(self.queue, self.kick)

    async def process(self, epoch: int, count: int) -> None:
        """Execute ``count`` commands; one interrupt for all."""
        ring = self.queue
        raw = await self.fetch(epoch, ring.address(ring.head), count * COMMAND.size)
        for op, _, sectors, lba, address, _status, tag in COMMAND.iter_unpack(raw):
            await self.delay(epoch, self.access_ns)
            result = await self._execute(epoch, op, lba, sectors, address)
            self.store(ring.address(ring.head) + COMPLETION_OFFSET, COMPLETION.pack(result, tag))
            ring.advance()
        self.interrupt(Cause.DONE)

    async def _execute(self, epoch: int, op: int, lba: int, sectors: int, address: int) -> Result:
        if op not in _COUNTERS:
            return Result.BAD_COMMAND
        if op != Op.FLUSH and (not 1 <= sectors <= MAX_SECTORS or lba + sectors > SECTORS):
            return Result.BAD_RANGE
        if op == Op.READ:
            self._read(lba, sectors, address)
        elif op == Op.WRITE:
            await self._write_medium(epoch, lba, sectors, address)
        self.count(_COUNTERS[Op(op)])
        return Result.OK

    def _read(self, lba: int, sectors: int, address: int) -> None:
        for done in range(0, sectors, _BURST):
            burst = range(lba + done, lba + min(done + _BURST, sectors))
            self.store(address + done * SECTOR_SIZE, b"".join([self.medium.get(s, _BLANK) for s in burst]))

    async def _write_medium(self, epoch: int, lba: int, sectors: int, address: int) -> None:
        for done in range(0, sectors, _BURST):
            count = min(_BURST, sectors - done)
            data = await self.fetch(epoch, address + done * SECTOR_SIZE, count * SECTOR_SIZE)
            for i in range(count):
                self.medium[lba + done + i] = data[i * SECTOR_SIZE : (i + 1) * SECTOR_SIZE]
