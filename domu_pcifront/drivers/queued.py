"""What a good driver of a queue device does about errors; ``xnic`` and ``xblk`` add their data paths.

Life of the queues: ``running`` between probe or resume and error_detected. ``generation`` counts how often
the device was set up from nothing: what was outstanding in an earlier generation is lost and sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from domu_pcifront.device import GuestPciDev
from domu_pcifront.driver import PciDriver, ProbeError, WorkloadError
from domu_pcifront.drivers.ring import DriverRing
from domu_pcifront.options import Option, number
from kernel_stub.kernel import ERR, MS
from kernel_stub.sync import Mutex, WaitQueue
from protocol.device_regs import ALL_ONES, BAR, Cause, Control, Reg, Status
from protocol.ers import ChannelState, ErsResult

INTERRUPTS = Cause.DONE | Cause.DMA_ERROR | Cause.BAD_RING | Cause.OVERRUN


class QueueDriver(PciDriver):
    """Base of drivers whose device has rings. Subclasses give ``IDENTITY`` and the methods marked so."""

    IDENTITY: ClassVar[int]
    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "timeout_ms": Option(number(1, 3_600_000), 5_000, "a workload fails if the device is mute for so long"),
        "stopped_ms": Option(number(1, 3_600_000), 600_000, "a workload fails if a recovery takes longer"),
        "poll_ms": Option(number(0.1, 1_000), 10, "look at the ring so often if no interrupt comes"),
    }

    def __init__(self, dev: GuestPciDev, options: dict[str, Any]) -> None:
        super().__init__(dev, options)
        self.running = False
        self.gone = False
        self.generation = 0
        self.lock = Mutex(dev.kernel, f"workload of {dev.name}")
        self._changed = WaitQueue(dev.kernel, f"queues of {dev.name}")

    # -- for subclasses ------------------------------------------------------------------------
    def allocate(self) -> None:
        """Subclass: make rings and buffers."""
        raise NotImplementedError

    def release(self) -> None:
        """Subclass: give them back."""
        raise NotImplementedError

    def rings(self) -> tuple[DriverRing, ...]:
        """Subclass: all rings."""
        raise NotImplementedError

    def restarted(self) -> None:
        """Subclass: the device starts from nothing and may do DMA again; hand it what it needs."""
        raise NotImplementedError

    # -- life ----------------------------------------------------------------------------------
    async def probe(self) -> None:
        """Start the device. Raises ProbeError if it does not answer or is something else."""
        dev = self.dev
        if await dev.enable_device() < 0:
            raise ProbeError("cannot enable the device")
        await dev.set_master()
        identity = await dev.mmio_read(BAR, Reg.ID)
        if identity != self.IDENTITY:
            await dev.disable_device()
            raise ProbeError(f"identity {identity:08x}, expected {self.IDENTITY:08x}")
        self.allocate()
        dev.on_msi(0, self._interrupt)
        await dev.enable_msi()
        await dev.save_state()  # with MSI on, so that restore_state never switches it off
        self._set_up()
        self._start()
        dev.trace("driver.probe", self.name)

    async def remove(self) -> None:
        """Stop the device and give everything back."""
        dev = self.dev
        self._stop()
        self.gone = True
        self._changed.wake_all()
        dev.mmio_write(BAR, Reg.CONTROL, Control.RESET)
        await dev.disable_msi()
        await dev.disable_device()
        self.release()
        dev.trace("driver.remove", self.name)

    def _set_up(self) -> None:
        """Reset the device and program it, with empty rings: no DMA happens before ``restarted``."""
        write = self.dev.mmio_write
        write(BAR, Reg.CONTROL, Control.RESET)
        for ring in self.rings():
            ring.program()
        write(BAR, Reg.MASK, INTERRUPTS)
        write(BAR, Reg.CONTROL, Control.ENABLE)
        self.generation += 1
        self._fresh = True

    def _start(self) -> None:
        if self._fresh:
            self._fresh = False
            self.restarted()
        self.running = True
        self._changed.wake_all()

    def _stop(self) -> None:
        self.running = False

    def _interrupt(self) -> None:
        self.dev.mmio_write(BAR, Reg.CAUSE, INTERRUPTS)

    # -- error handlers ------------------------------------------------------------------------
    async def error_detected(self, state: ChannelState) -> ErsResult:
        """Stop the queues. A frozen device is given up until its reset, a failed one for good."""
        self._stop()
        if state == ChannelState.PERM_FAILURE:
            self.gone = True
            self._changed.wake_all()
            return ErsResult.DISCONNECT
        if state == ChannelState.FROZEN:
            await self.dev.disable_device()
            return ErsResult.NEED_RESET
        return ErsResult.CAN_RECOVER

    async def mmio_enabled(self) -> ErsResult:
        """Recovered if the device is the right one, has not halted, and still knows its rings."""
        return ErsResult.RECOVERED if await self._healthy() else ErsResult.NEED_RESET

    async def slot_reset(self) -> ErsResult:
        """Bring the device back to where probe had it, except that the queues wait for resume."""
        dev = self.dev
        if dev.enabled:  # asked for a reset by somebody else: this driver had not given the device up
            await dev.disable_device()
        if await dev.enable_device() < 0:
            dev.printk(ERR, "Cannot re-enable PCI device after reset.")
            return ErsResult.DISCONNECT
        await dev.restore_state()
        await dev.set_master()
        if dev.irq and not await dev.msi_active():
            await dev.disable_msi()
            await dev.enable_msi()
        self._set_up()
        if await self._healthy():
            return ErsResult.RECOVERED
        dev.printk(ERR, "device does not answer after reset")
        return ErsResult.DISCONNECT

    async def resume(self) -> None:
        """Start the queues; a device that was reset without ``slot_reset`` (T2) is set up first."""
        if self.gone:
            return
        if not self._fresh and not await self._healthy():
            self._set_up()  # if even this is in vain, the workload will say so
        self._start()

    async def _healthy(self) -> bool:
        """The right device answers, runs, and knows its rings; the reads also push posted writes out."""
        dev = self.dev
        if await dev.mmio_read(BAR, Reg.ID) != self.IDENTITY or await dev.mmio_read(BAR, Reg.STATUS) & Status.HALTED:
            return False
        for ring in self.rings():
            if not await ring.programmed():
                return False
        return True

    # -- for workloads -------------------------------------------------------------------------
    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until ``done()``, over recoveries. Raises WorkloadError: device gone, or mute for too long."""
        now, silence = self.dev.kernel.now, int(self.options["timeout_ms"] * MS)
        poll = int(self.options["poll_ms"] * MS)
        deadline = now() + silence
        while not done():
            if self.gone or not self.running:
                await self.until_running()
                deadline = now() + silence
            elif now() >= deadline:
                raise WorkloadError(await self._diagnosis())
            else:
                await self.dev.wait_msi(0, poll)

    async def until_running(self) -> None:
        """Wait for the queues. Raises WorkloadError if they never start again."""
        limit = self.options["stopped_ms"]
        deadline = self.dev.kernel.now() + int(limit * MS)
        if not await self._changed.wait_until(lambda: self.running or self.gone, deadline):
            raise WorkloadError(f"the queues have been stopped for {limit} ms")
        if self.gone:
            raise WorkloadError("the device is gone")

    async def _diagnosis(self) -> str:
        identity = await self.dev.mmio_read(BAR, Reg.ID)
        if identity == ALL_ONES:
            return "no answer: the device reads all ones"
        if identity != self.IDENTITY:
            return f"no answer: identity {identity:08x}, expected {self.IDENTITY:08x}"
        status = await self.dev.mmio_read(BAR, Reg.STATUS)
        return f"no answer: the device {'has halted' if status & Status.HALTED else 'is idle'} (status {status:x})"
