"""A guest and one device model on one kernel with a fake clock, joined by a pair of queues instead of sockets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from dom0_pciback.pcie.devices import make_model
from domu_pcifront.devbus import DevBus
from domu_pcifront.device import GuestPciDev
from domu_pcifront.driver import PciDriver
from domu_pcifront.memory import GuestMemory
from kernel_stub.kernel import Kernel
from kernel_stub.rpc import Rpc, RpcError
from protocol.ports import Message
from tests.kernel_stub.world import FakeMachine, ListJournal, ManualClock

DEVFN = 0
CAP_EXP, CAP_MSI = 0x40, 0x60


class QueueLink:
    """One end of a link whose messages wait in ``world.queue`` until the world delivers them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.peer: QueueLink | None = None
        self.open = True
        self.on_message: Callable[[Message], None] = lambda message: None
        self.on_close: Callable[[str], None] = lambda reason: None

    def send(self, message: Message) -> bool:
        if self.open and self.peer is not None:
            self.world.queue.append((self.peer, message))
        return self.open

    def pause(self, ns: int) -> None: ...

    def close(self) -> None:
        self.open = False
        if self.peer is not None and self.peer.open:
            self.peer.open = False
            self.peer.on_close("closed by peer")


class World:
    """Runs a kernel: ready tasks, then one message, then time."""

    def __init__(self, *, panic_on_oops: bool = False) -> None:
        self.clock = ManualClock()
        self.journal = ListJournal()
        self.kernel = Kernel("guest1", self.clock, self.journal, panic_on_oops=panic_on_oops)
        self.queue: deque[tuple[QueueLink, Message]] = deque()

    def pair(self) -> tuple[QueueLink, QueueLink]:
        left, right = QueueLink(self), QueueLink(self)
        left.peer, right.peer = right, left
        return left, right

    def step(self, until: int) -> bool:
        """One piece of work at or before ``until``; False if there is none."""
        if not self.kernel.idle:
            self.kernel.run()
        elif self.queue:
            link, message = self.queue.popleft()
            if link.open:
                link.on_message(message)
        else:
            deadline = self.kernel.next_timer()
            if deadline is None or deadline > until:
                return False
            self.clock.time = max(self.clock.time, deadline)
            self.kernel.run_timers()
        return True

    def run(self, ms: float = 60_000) -> None:
        until = self.clock.time + int(ms * 1_000_000)
        while self.step(until):
            continue
        self.clock.time = until

    def do(self, coro: Coroutine[Any, Any, Any], ms: float = 60_000) -> Any:
        """Run a coroutine to its end and return its result; its exception passes."""
        task = self.kernel.spawn(catch(coro), "test")
        until = self.clock.time + int(ms * 1_000_000)
        while not task.done and self.step(until):
            continue
        assert task.done, f"{task} has not ended; it waits for {task.waiting_on}"
        result, error = task.result
        if error is not None:
            raise error
        return result

    def labels(self, label: str) -> list[tuple[Any, ...]]:
        return [record[4:] for record in self.journal.records if record[2] == label]

    @property
    def log(self) -> list[str]:
        return [fields[1] for fields in self.labels("printk")]


async def catch(coro: Coroutine[Any, Any, Any]) -> tuple[Any, Exception | None]:
    try:
        return await coro, None
    except Exception as error:
        return None, error


class FakeConfig:
    """256 bytes of configuration space, with PCI Express and MSI capabilities; counts what is written."""

    def __init__(self) -> None:
        self.data = bytearray(256)
        self.writes: list[tuple[int, int, int]] = []
        self.present = True
        self.permissive = True  # False: of what a driver writes, only Command arrives (CFG-4)
        self.vector = 55  # what enable_msi answers
        for offset, size, value in (
            (0x00, 4, 0x10411AF4), (0x04, 4, 0x00100000), (0x10, 4, 0xFE000000), (0x34, 1, CAP_EXP),
            (CAP_EXP, 2, CAP_MSI << 8 | 0x10), (CAP_EXP + 8, 2, 0xF), (CAP_MSI, 2, 0x05),
        ):  # fmt: skip
            self.poke(offset, size, value)

    def poke(self, offset: int, size: int, value: int) -> None:
        self.data[offset : offset + size] = value.to_bytes(size, "little")

    def peek(self, offset: int, size: int) -> int:
        return int.from_bytes(self.data[offset : offset + size], "little")

    async def read(self, devfn: int, offset: int, size: int) -> int:
        return self.peek(offset, size) if self.present and devfn == DEVFN else (1 << 8 * size) - 1

    async def write(self, devfn: int, offset: int, size: int, value: int) -> None:
        self.writes.append((offset, size, value))
        if self.present and (self.permissive or offset == 4):
            self.poke(offset, size, value)

    async def enable_msi(self, devfn: int) -> int:
        if self.vector > 0:
            self.poke(CAP_MSI + 2, 2, self.peek(CAP_MSI + 2, 2) | 1)
        return self.vector

    async def disable_msi(self, devfn: int) -> None:
        self.poke(CAP_MSI + 2, 2, self.peek(CAP_MSI + 2, 2) & ~1)


class Hardware:
    """The other end of the device bus: one model; may be unreachable, may be refused DMA or MSI."""

    def __init__(self, world: World, link: QueueLink, config: FakeConfig, model: str, **options: Any) -> None:
        self.config = config
        self.reachable = True
        self.dma = True
        self.rpc = Rpc(world.kernel, link, "guest")
        self.rpc.handlers["mmio_read"] = self.mmio_read
        self.rpc.events["mmio_write"] = self.mmio_write
        self.model = make_model(model, world.kernel, self, **options)

    async def mmio_read(self, devfn: int, bar: int, offset: int, size: int) -> int:
        return self.model.mmio_read(bar, offset, size) if self.reachable else (1 << 8 * size) - 1

    def mmio_write(self, devfn: int, bar: int, offset: int, size: int, value: int) -> None:
        if self.reachable:
            self.model.mmio_write(bar, offset, size, value)

    async def read(self, address: int, length: int) -> bytes | None:
        if not (self.dma and self.reachable and self.config.peek(4, 2) & 4):
            return None
        try:
            data: bytes = await self.rpc.call("dma_read", DEVFN, address, length)
        except RpcError:
            return None
        return data

    def write(self, address: int, data: bytes) -> bool:
        if self.dma and self.reachable and self.config.peek(4, 2) & 4:
            self.rpc.post("dma_write", DEVFN, address, data)
            return True
        return False

    def msi(self, vector: int) -> None:
        if self.reachable and self.config.peek(CAP_MSI + 2, 2) & 1:
            self.rpc.post("msi", DEVFN, vector)

    def bus_reset(self) -> None:
        """Registers of the model, Command, Device Control and MSI are lost."""
        self.model.reset()
        self.config.poke(4, 2, 0)
        self.config.poke(CAP_EXP + 8, 2, 0)
        self.config.poke(CAP_MSI + 2, 2, 0)


class Rig:
    """A world with a guest device and its hardware. ``bind`` makes and probes a driver."""

    def __init__(self, model: str = "plain", **options: Any) -> None:
        self.world = World()
        kernel = self.world.kernel
        self.config = FakeConfig()
        self.memory = GuestMemory()
        self.machine = FakeMachine()
        self.devbus = DevBus(kernel, self.memory)
        left, right = self.world.pair()
        self.devbus.attach(left)
        self.hardware = Hardware(self.world, right, self.config, model, **options)
        self.dev = GuestPciDev(
            kernel, DEVFN, self.config, self.devbus, self.memory, msi=self.config, machine=self.machine
        )

    @property
    def model(self) -> Any:
        return self.hardware.model

    def bind(self, cls: type[PciDriver], **options: Any) -> Any:
        driver = cls(self.dev, options)
        self.dev.driver = driver
        self.world.do(driver.probe())
        self.world.run(0)  # posted writes arrive
        return driver
