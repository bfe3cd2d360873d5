"""The guest's ``struct pci_dev``: what a driver does with its device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from domu_pcifront.devbus import DevBus
from domu_pcifront.memory import GuestMemory
from domu_pcifront.program_wire import Program
from domu_pcifront.sync_device import SyncDevice
from kernel_stub.kernel import INFO, MS, Kernel
from kernel_stub.sync import WaitQueue
from protocol.ids import Sbdf
from protocol.layout_header import COMMAND_MASTER, COMMAND_MEMORY, STATUS_CAP_LIST
from protocol.layout_msi import MSI_FLAGS_ENABLE

if TYPE_CHECKING:
    from domu_pcifront.driver import PciDriver

ENODEV, EINVAL = 19, 22
VENDOR_ID, COMMAND, STATUS, CAPABILITY_LIST = 0x00, 0x04, 0x06, 0x34
CAP_MSI, CAP_EXP = 0x05, 0x10
CAP_LIMIT = 48  # as many capabilities fit; a longer chain is a loop
HEADER_DWORDS = tuple(range(0x3C, -1, -4))  # pci_restore_state: 15 to 0
# Registers outside the header that are saved: (capability, offset in it), both of two bytes.
CAP_CONTROLS = ((CAP_EXP, 0x08), (CAP_MSI, 0x02))
NOBODY = (0xFFFFFFFF, 0x00000000, 0x0000FFFF, 0xFFFF0000)


class ConfigAccess(Protocol):
    """Configuration space of the guest's devices, as pcifront offers it."""

    async def read(self, devfn: int, offset: int, size: int) -> int:
        """The register; all ones if there is no such device (xen-pci.md 3.3)."""

    async def write(self, devfn: int, offset: int, size: int, value: int) -> None:
        """Write; a refusal is the backend's to log."""


class MsiControl(Protocol):
    """``pci_frontend_enable_msi`` and its counterpart."""

    async def enable_msi(self, devfn: int) -> int:
        """The vector (above 0), or a negative errno."""

    async def disable_msi(self, devfn: int) -> None:
        """Give the vector back."""


class Machine(Protocol):
    """What a driver can do outside of its kernel: done by the process, or played by the simulation.

    ``pid`` is the guest's process, 0 in the simulation.
    """

    pid: int

    def spin(self) -> None:
        """Keep the processor busy for ever: no other task of the guest runs any more."""

    def exit(self, status: int) -> None:
        """The guest's process ends at once, with an exit status of 0 to 255."""

    def panic(self, text: str) -> None:
        """The guest's kernel gives up: it reports SHUTDOWN_crash and stops (``panic()``)."""

    def halt(self) -> None:
        """The domain runs no more (``SCHEDOP_shutdown`` does not return); the toolstack ends its process."""

    def start_program(self, words: Sequence[str], folder: str) -> Program:
        """Start an external program in ``folder``; it ends with the guest. Raises ProgramGoneError."""


class GuestPciDev:
    """A function as the guest sees it: segment 0, bus 0, virtual ``devfn``.

    ``vendor`` and ``device`` are known after ``identify``. ``msi`` and ``machine`` come from the guest.
    Interrupts are counted, not queued: several messages before a ``wait_msi`` are one.
    """

    __slots__ = (
        "_callbacks", "_caps", "_enable_count", "_interrupts", "_pending", "_saved", "config", "devbus", "devfn",
        "device", "driver", "irq", "kernel", "machine", "memory", "msi", "name", "sync", "vendor",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - the five doors of a device, and two that only a complete guest has
        self,
        kernel: Kernel,
        devfn: int,
        config: ConfigAccess,
        devbus: DevBus,
        memory: GuestMemory,
        *,
        msi: MsiControl | None = None,
        machine: Machine | None = None,
    ) -> None:
        self.kernel = kernel
        self.devfn = devfn
        self.config = config
        self.devbus = devbus
        self.memory = memory
        self.msi = msi
        self.machine = machine
        self.name = str(Sbdf.from_number(devfn))
        self.vendor = self.device = 0xFFFF
        self.driver: PciDriver | None = None
        self.irq = 0  # the vector while MSI is on
        self.sync = SyncDevice(self)
        self._enable_count = 0
        self._saved: dict[tuple[int, int], int] = {}
        self._caps: dict[int, int] | None = None
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._pending: set[int] = set()
        self._interrupts = WaitQueue(kernel, f"interrupt of {self.name}")

    # -- configuration space -------------------------------------------------------------------
    async def read_config(self, offset: int, size: int) -> int:
        """Read 1, 2 or 4 bytes at an aligned offset; all ones if the device is gone."""
        return await self.config.read(self.devfn, offset, size)

    async def write_config(self, offset: int, size: int, value: int) -> None:
        """Write 1, 2 or 4 bytes; most registers are read-only for a guest (xen-pci.md 6)."""
        await self.config.write(self.devfn, offset, size, value)

    async def identify(self) -> bool:
        """Read vendor and device ID. False: nobody is there."""
        ids = await self.read_config(VENDOR_ID, 4)
        self.vendor, self.device = ids & 0xFFFF, ids >> 16
        return ids not in NOBODY

    async def find_capability(self, cap: int) -> int:
        """``pci_find_capability``: its offset, 0 if the device has none. The chain is walked once."""
        if self._caps is None:
            self._caps = await self._walk_capabilities()
        return self._caps.get(cap, 0)

    async def _walk_capabilities(self) -> dict[int, int]:
        found: dict[int, int] = {}
        status = await self.read_config(STATUS, 2)
        if status == 0xFFFF or not status & STATUS_CAP_LIST:
            return found
        at = await self.read_config(CAPABILITY_LIST, 1) & 0xFC
        while at >= 0x40 and len(found) < CAP_LIMIT:
            header = await self.read_config(at, 2)
            if header == 0xFFFF or header & 0xFF in found:
                break
            found[header & 0xFF] = at
            at = header >> 8 & 0xFC
        return found

    # -- enabling ------------------------------------------------------------------------------
    async def enable_device(self) -> int:
        """``pci_enable_device``: memory decoding on. Counted: only the first call acts. 0, or -ENODEV."""
        if self._enable_count == 0:
            command = await self.read_config(COMMAND, 2)
            if command == 0xFFFF:
                return -ENODEV
            if not command & COMMAND_MEMORY:
                self.printk(INFO, f"enabling device ({command:04x} -> {command | COMMAND_MEMORY:04x})")
                await self.write_config(COMMAND, 2, command | COMMAND_MEMORY)
        self._enable_count += 1
        return 0

    async def disable_device(self) -> None:
        """``pci_disable_device``: with the last user gone, bus mastering goes off; decoding stays."""
        if self._enable_count:
            self._enable_count -= 1
            if self._enable_count == 0:
                await self._set_command(COMMAND_MASTER, on=False)

    @property
    def enabled(self) -> bool:
        """Some ``enable_device`` has not been undone yet (``pci_is_enabled``)."""
        return self._enable_count > 0

    async def set_master(self) -> None:
        """``pci_set_master``: allow DMA and MSI."""
        await self._set_command(COMMAND_MASTER, on=True)

    async def _set_command(self, bit: int, *, on: bool) -> None:
        command = await self.read_config(COMMAND, 2)
        wanted = command | bit if on else command & ~bit
        if command not in (0xFFFF, wanted):
            await self.write_config(COMMAND, 2, wanted)

    async def save_state(self) -> None:
        """``pci_save_state``: the header, Device Control, MSI control."""
        saved = {(offset, 4): await self.read_config(offset, 4) for offset in reversed(HEADER_DWORDS)}
        for cap, offset in CAP_CONTROLS:
            at = await self.find_capability(cap)
            if at:
                saved[at + offset, 2] = await self.read_config(at + offset, 2)
        self._saved = saved

    async def restore_state(self) -> None:
        """``pci_restore_state``: compare each saved register and write only what differs.

        Device Control first, then the header from dword 15 down, MSI last (linux-aer.md 4.8). pciback answers
        with its own copies, so that the base addresses never differ for a guest (S3).
        """
        for offset, size in self._restore_order():
            saved = self._saved[offset, size]
            if await self.read_config(offset, size) != saved:
                await self.write_config(offset, size, saved)

    def _restore_order(self) -> list[tuple[int, int]]:
        """An absent capability has no saved value and is left out."""
        caps = self._caps or {}
        exp, msi = ((caps.get(cap, -0x100) + offset, 2) for cap, offset in CAP_CONTROLS)
        order = [exp, *((offset, 4) for offset in HEADER_DWORDS), msi]
        return [key for key in order if key in self._saved]

    # -- registers and interrupts --------------------------------------------------------------
    async def mmio_read(self, bar: int, offset: int, size: int = 4) -> int:
        """Read a device register; all ones if the device does not answer."""
        return await self.devbus.mmio_read(self.devfn, bar, offset, size)

    def mmio_write(self, bar: int, offset: int, value: int, size: int = 4) -> None:
        """Posted write of a device register; nobody tells whether it arrived."""
        self.devbus.mmio_write(self.devfn, bar, offset, size, value)

    async def enable_msi(self, count: int = 1) -> int:
        """``pci_enable_msi``: the vector, or a negative errno. A PV guest gets one message, no more."""
        if self.msi is None or count != 1:
            return -EINVAL
        vector = await self.msi.enable_msi(self.devfn)
        if vector > 0:
            self.irq = vector
            self.devbus.on_msi(self.devfn, 0, lambda: self._interrupt(0))
        return vector

    async def disable_msi(self) -> None:
        """``pci_disable_msi``; allowed if it is off."""
        if self.irq and self.msi is not None:
            self.irq = 0
            self.devbus.on_msi(self.devfn, 0, None)
            await self.msi.disable_msi(self.devfn)

    async def msi_active(self) -> bool:
        """MSI is on in the device itself, which a reset undoes behind the guest's back."""
        at = await self.find_capability(CAP_MSI)
        flags = await self.read_config(at + 2, 2) if at else 0
        return flags != 0xFFFF and bool(flags & MSI_FLAGS_ENABLE)

    def on_msi(self, vector: int, callback: Callable[[], None]) -> None:
        """``request_irq``: call ``callback`` for each message ``vector`` (0: the first). It must not wait."""
        self._callbacks[vector] = callback

    async def wait_msi(self, vector: int, timeout_ns: int) -> bool:
        """Wait for message ``vector``; True at once if one has come since the last call, False after the time."""
        if vector not in self._pending:
            deadline = self.kernel.now() + timeout_ns
            await self._interrupts.wait_until(lambda: vector in self._pending, deadline)
        came = vector in self._pending
        self._pending.discard(vector)
        return came

    def _interrupt(self, vector: int) -> None:
        callback = self._callbacks.get(vector)
        if callback is not None:
            callback()
        self._pending.add(vector)
        self._interrupts.wake_all()

    # -- the rest ------------------------------------------------------------------------------
    async def sleep(self, ms: float) -> None:
        """``msleep``."""
        await self.kernel.sleep(int(ms * MS))

    def printk(self, level: int, text: str) -> None:
        """``dev_printk``: a line of the guest's log; ``level`` 0 (emergency) to 7 (debug)."""
        driver = self.driver.name if self.driver is not None else "pci"
        self.kernel.printk(level, f"{driver} {self.name}: {text}")

    def trace(self, label: str, *fields: Any) -> None:
        """A journal record about this device (``protocol/labels_guest.py``)."""
        self.kernel.trace(label, self.name, *fields)
