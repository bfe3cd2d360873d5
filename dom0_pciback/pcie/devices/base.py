"""What all device models share: dword registers, rings, one DMA engine that a reset cuts off.

A model is hardware: it knows neither the guest nor Linux. It trusts nothing that a driver writes into its
registers or rings; a value that makes no sense halts it (``Status.HALTED``) until it is reset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from kernel_stub.kernel import Kernel
from protocol.device_regs import ALL_ONES, BAR, BAR_SIZE, MAX_RING, Cause, Control, Reg, RingReg, Status

MASK64 = 0xFFFFFFFFFFFFFFFF


class BusMaster(Protocol):
    """A model's way into the system; the IOMMU and ``Command.MASTER`` are checked behind it."""

    async def read(self, address: int, length: int) -> bytes | None:
        """DMA read of guest memory; None: aborted (blocked, not assigned, no answer)."""

    def write(self, address: int, data: bytes) -> bool:
        """Posted DMA write; False: aborted."""

    def msi(self, vector: int) -> None:
        """Send the MSI message number ``vector`` (0: the first); lost if MSI is off."""


class DeviceModel(Protocol):
    """What the hardware needs of a model. Memory enable and reachability are decided before it is called."""

    def mmio_read(self, bar: int, offset: int, size: int) -> int:
        """Read ``size`` (1, 2, 4, 8) bytes; all ones where nothing is decoded."""

    def mmio_write(self, bar: int, offset: int, size: int, value: int) -> None:
        """Write; dropped where nothing is decoded."""

    def reset(self) -> None:
        """FLR, bus reset: as after power on. Running DMA is abandoned; a medium keeps its data."""


class DmaAbortError(Exception):
    """A DMA transaction of this device was refused or not answered."""


class AbandonedError(Exception):
    """The device was reset while this piece of work was waiting."""


class DeviceRing:
    """The device's end of a ring; its state is in the registers at ``at``, entries are ``entry`` bytes."""

    __slots__ = ("_registers", "at", "entry")

    def __init__(self, registers: dict[int, int], at: int, entry: int) -> None:
        self._registers = registers
        self.at = at
        self.entry = entry

    @property
    def head(self) -> int:
        """Index of the next entry to take."""
        return self._registers[self.at + RingReg.HEAD]

    @property
    def size(self) -> int:
        """Number of entries; 0 until a driver has programmed the ring."""
        return self._registers[self.at + RingReg.SIZE]

    @property
    def valid(self) -> bool:
        """Size within 2..MAX_RING, tail and head inside the ring."""
        size = self.size
        return 2 <= size <= MAX_RING and self._registers[self.at + RingReg.TAIL] < size and self.head < size

    def pending(self) -> int:
        """Valid entries from head on that lie side by side in memory (0: the ring is empty)."""
        head, tail = self.head, self._registers[self.at + RingReg.TAIL]
        return (tail if tail >= head else self.size) - head

    def address(self, index: int) -> int:
        """Guest address of the entry ``index``."""
        registers, at = self._registers, self.at
        base = registers[at] | registers[at + RingReg.BASE_HI] << 32
        return base + index * self.entry & MASK64

    def advance(self) -> None:
        """One entry is done."""
        self._registers[self.at + RingReg.HEAD] = (self.head + 1) % max(self.size, 1)


class QueueModel:
    """A device with registers and one queue that it works through when the tail is written.

    Subclasses give ``LAYOUT``, set ``queue`` and implement ``process``.
    """

    LAYOUT: ClassVar[dict[int, tuple[int, int]]]
    queue: DeviceRing

    def __init__(self, kernel: Kernel, bus: BusMaster, label: str) -> None:
        self.kernel = kernel
        self.bus = bus
        self.label = label
        self.registers = {offset: value for offset, (value, _) in self.LAYOUT.items()}
        self._epoch = 0  # counts resets: work of an earlier epoch must not touch anything
        self._busy = False
        self._effects: dict[int, Callable[[int], None]] = {Reg.CONTROL: self._control, Reg.CAUSE: self._acknowledge}

    def reset(self) -> None:
        """``DeviceModel.reset``."""
        self._epoch += 1
        self._busy = False
        self.registers.update((offset, value) for offset, (value, _) in self.LAYOUT.items())

    def mmio_read(self, bar: int, offset: int, size: int) -> int:
        """``DeviceModel.mmio_read``; inside the BAR, a hole reads zero."""
        if not decodes(bar, offset, size):
            return (1 << 8 * size) - 1
        if size == 8:
            return self.registers.get(offset, 0) | self.registers.get(offset + 4, 0) << 32
        return self.registers.get(offset & ~3, 0) >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def mmio_write(self, bar: int, offset: int, size: int, value: int) -> None:
        """``DeviceModel.mmio_write``; only dwords and pairs of dwords are taken."""
        if size >= 4 and decodes(bar, offset, size):
            self._write(offset, value & ALL_ONES)
            if size == 8:
                self._write(offset + 4, value >> 32 & ALL_ONES)

    def _write(self, offset: int, value: int) -> None:
        writable = self.LAYOUT.get(offset, (0, 0))[1]
        if writable:
            self.registers[offset] = self.registers[offset] & ~writable | value & writable
        effect = self._effects.get(offset)
        if effect is not None:
            effect(value)

    def _control(self, value: int) -> None:
        if value & Control.RESET:
            self.reset()
        else:
            self.kick()

    def _acknowledge(self, value: int) -> None:
        self.registers[Reg.CAUSE] &= ~value

    def on_tail(self, ring: DeviceRing, effect: Callable[[int], None]) -> None:
        """Let a write of the ring's tail call ``effect``."""
        self._effects[ring.at + RingReg.TAIL] = effect

    # -- work ----------------------------------------------------------------------------------
    def kick(self, _value: int = 0) -> None:
        """Start on the queue, unless disabled, halted, or busy already."""
        if self._busy or not self._enabled():
            return
        if self.queue.valid:
            if self.queue.pending():
                self._busy = True
                self.kernel.spawn(self._work(self._epoch), self.label)
        elif self.queue.size:
            self.halt(Cause.BAD_RING)

    def _enabled(self) -> bool:
        registers = self.registers
        return bool(registers[Reg.CONTROL] & Control.ENABLE) and not registers[Reg.STATUS] & Status.HALTED

    async def _work(self, epoch: int) -> None:
        try:
            while self._enabled() and self.queue.valid and (count := self.queue.pending()):
                await self.process(epoch, count)
        except AbandonedError:
            return
        except DmaAbortError:
            self.halt(Cause.DMA_ERROR)
        self._busy = False

    async def process(self, epoch: int, count: int) -> None:
        """Take ``count`` entries from the queue's head on. Raises DmaAbortError, AbandonedError."""
        raise NotImplementedError

    async def fetch(self, epoch: int, address: int, length: int) -> bytes:
        """DMA read. Raises DmaAbortError if refused, AbandonedError if a reset came meanwhile."""
        data = await self.bus.read(address & MASK64, length)
        if epoch != self._epoch:
            raise AbandonedError
        if data is None or len(data) != length:
            raise DmaAbortError
        return data

    def store(self, address: int, data: bytes) -> None:
        """DMA write. Raises DmaAbortError if refused."""
        if not self.bus.write(address & MASK64, data):
            raise DmaAbortError

    async def delay(self, epoch: int, ns: int) -> None:
        """Time that the wire or the medium takes. Raises AbandonedError if a reset came meanwhile."""
        if ns:
            await self.kernel.sleep(ns)
            if epoch != self._epoch:
                raise AbandonedError

    def count(self, register: int) -> None:
        """Increment a counter register."""
        self.registers[register] = self.registers[register] + 1 & ALL_ONES

    def interrupt(self, cause: int) -> None:
        """Record ``cause``; one MSI if it is unmasked. Not coalesced, so that no edge can be lost."""
        self.registers[Reg.CAUSE] |= cause
        if cause & self.registers[Reg.MASK]:
            self.bus.msi(0)

    def halt(self, cause: int) -> None:
        """Stop for good; only a reset helps."""
        self.registers[Reg.STATUS] |= Status.HALTED
        self.interrupt(cause)


def decodes(bar: int, offset: int, size: int) -> bool:
    """The access is aligned, of a possible size, and inside the one BAR that the models have."""
    return bar == BAR and size in (1, 2, 4, 8) and 0 <= offset <= BAR_SIZE - size and offset % size == 0
