"""Block driver for ``protocol.block``: writes sectors, reads them back, and finds them again after a reset."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from domu_pcifront.device import GuestPciDev
from domu_pcifront.driver import WorkloadError
from domu_pcifront.drivers.queued import QueueDriver
from domu_pcifront.drivers.ring import DriverRing
from protocol.block import (
    COMMAND,
    COMPLETION,
    COMPLETION_OFFSET,
    IDENTITY,
    QUEUE,
    SECTOR_SIZE,
    SECTORS,
    Op,
    Result,
)

ENTRIES = 16
BATCH = 16  # sectors of one round: written, flushed, read back


class Batch(NamedTuple):
    """Sectors with known content: the pattern of ``seed`` from ``lba`` on."""

    lba: int
    sectors: int
    seed: int


class XBlk(QueueDriver):
    """A unit of its workload is a sector that was written and read back. Outstanding commands are re-issued."""

    name: ClassVar[str] = "xblk"
    IDENTITY: ClassVar[int] = IDENTITY

    def __init__(self, dev: GuestPciDev, options: dict[str, Any]) -> None:
        super().__init__(dev, options)
        self._tag = 0
        self._next_lba = 0
        self._outstanding: dict[int, bytes] = {}  # tag -> command, in order of issue
        self._slots: dict[int, int] = {}  # entry of the queue -> tag
        self._results: dict[int, int] = {}
        self._last: Batch | None = None

    def allocate(self) -> None:
        """The queue and one buffer."""
        self._queue = DriverRing(self.dev, QUEUE, COMMAND.size, ENTRIES)
        self._buffer = self.dev.memory.alloc(BATCH * SECTOR_SIZE, SECTOR_SIZE)

    def release(self) -> None:
        """Give queue and buffer back."""
        self._queue.free()
        self.dev.memory.free(self._buffer)

    def rings(self) -> tuple[DriverRing, ...]:
        """The one queue."""
        return (self._queue,)

    def restarted(self) -> None:
        """Issue again what a reset has lost."""
        self._slots.clear()
        if self._outstanding:
            self.dev.trace("driver.reissue", len(self._outstanding))
            self._issue(list(self._outstanding))

    async def transfer(self, count: int) -> int:
        """Write ``count`` sectors and read them back; before that, look for those of the last round."""
        async with self.lock:
            if self._last is not None:
                await self._check(self._last, "after a pause")
            for done in range(0, count, BATCH):
                await self._round(min(BATCH, count - done))
        return count

    async def _round(self, count: int) -> None:
        lba = self._next_lba if self._next_lba + count <= SECTORS else 0
        self._next_lba = lba + count
        batch = Batch(lba, count, self._tag)
        self._last = None  # the sectors are in between until this round is over
        self.dev.memory.write(self._buffer, b"".join([pattern(batch, i) for i in range(count)]))
        await self._do([(Op.WRITE, lba, count), (Op.FLUSH, 0, 0)])
        await self._check(batch, "after writing")
        self._last = batch

    async def _check(self, batch: Batch, when: str) -> None:
        """Read a batch. Raises WorkloadError for the first sector that differs."""
        self.dev.memory.write(self._buffer, bytes(batch.sectors * SECTOR_SIZE))
        await self._do([(Op.READ, batch.lba, batch.sectors)])
        data = self.dev.memory.read(self._buffer, batch.sectors * SECTOR_SIZE)
        for i in range(batch.sectors):
            if data[i * SECTOR_SIZE : (i + 1) * SECTOR_SIZE] != pattern(batch, i):
                raise WorkloadError(f"sector {batch.lba + i} differs {when}")

    async def _do(self, commands: list[tuple[Op, int, int]]) -> None:
        """Issue commands on the buffer and wait for all. Raises WorkloadError if one is refused."""
        await self.until_running()
        tags: dict[int, Op] = {}
        for op, lba, count in commands:
            self._tag = self._tag + 1 & 0xFFFFFFFF
            tags[self._tag] = op
            command = COMMAND.pack(op, 0, count, lba, self._buffer, Result.PENDING, self._tag)
            self._outstanding[self._tag] = command
        self._issue(list(tags))
        try:
            await self.until(self._all_done)
        finally:
            self._outstanding.clear()
            self._slots.clear()
            results, self._results = self._results, {}
        for tag, op in tags.items():
            result = results[tag]
            if result != Result.OK:
                raise WorkloadError(f"{op.name} failed with status {result}")

    def _issue(self, tags: list[int]) -> None:
        for tag in tags:
            self._slots[self._queue.push(self._outstanding[tag])] = tag
        self._queue.doorbell()

    def _all_done(self) -> bool:
        """Collect completions; an entry whose tag differs was not written by this device, or not yet."""
        for slot, tag in list(self._slots.items()):
            at = self._queue.address(slot) + COMPLETION_OFFSET
            status, found = COMPLETION.unpack(self.dev.memory.read(at, COMPLETION.size))
            if status != Result.PENDING and found == tag:
                self._results[tag] = status
                del self._slots[slot], self._outstanding[tag]
        return not self._outstanding


def pattern(batch: Batch, index: int) -> bytes:
    """What a batch writes into its sector ``index``: differs from sector to sector and from round to round."""
    word = ((batch.seed << 16 ^ (batch.lba + index) * 2654435761) & 0xFFFFFFFF).to_bytes(4, "little")
    return word * (SECTOR_SIZE // 4)
