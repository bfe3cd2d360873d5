"""dom0_pciback.pcie.device_bus: who reaches what; a guest that answers or asks nonsense hurts only itself."""

from __future__ import annotations

from typing import Any

import pytest

from dom0_pciback.pcie.device_bus import COMPLETION_TIMEOUT, READS_MAX, DeviceBus, FunctionBusMaster
from dom0_pciback.pcie.hierarchy import Hierarchy
from dom0_pciback.pcie.iommu import Iommu
from kernel_stub.kernel import MS
from kernel_stub.rpc import Rpc, RpcError
from protocol.codec import Decoder
from protocol.device_regs import Reg
from protocol.ids import Sbdf
from protocol.layout_header import COMMAND_MASTER, COMMAND_MEMORY, HEADER
from protocol.layout_msi import MSI_FLAGS_ENABLE
from protocol.messages import DEVBUS
from protocol.topology import FunctionSpec, HostSpec
from tests.kernel_stub.world import World

NIC, OTHER = Sbdf(0, 1, 0, 0), Sbdf(0, 1, 0, 1)
GUEST, STRANGER = 7, 8
ALL_ONES = 0xFFFFFFFF


class Rig:
    def __init__(self) -> None:
        self.world = World()
        port = FunctionSpec("0000:00:01.0", "root_port", secondary=1, subordinate=1)
        cards = [FunctionSpec(str(sbdf), "endpoint", port.bdf, model="nic") for sbdf in (NIC, OTHER)]
        self.hierarchy = Hierarchy(HostSpec("test", [port, *cards], []), self.world.clock)
        self.iommu = Iommu()
        self.dom0 = self.world.kernel("dom0")
        self.bus = DeviceBus(self.dom0, self.hierarchy, self.iommu)
        self.bus.resolve = lambda domid, devfn: {0: NIC, 1: OTHER}.get(devfn)
        self.bus.guest_devfn = lambda sbdf: sbdf.function
        self.guest, self.link = self.attach(GUEST)
        self.memory: Any = bytes(range(64))
        self.writes: list[Any] = []
        self.messages: list[Any] = []
        self.guest.handlers["dma_read"] = self._dma_read
        self.guest.events["dma_write"] = lambda *args: self.writes.append(args)
        self.guest.events["msi"] = lambda *args: self.messages.append(args)
        self.iommu.assign(NIC, GUEST)
        self.command(COMMAND_MASTER | COMMAND_MEMORY)
        self.master = FunctionBusMaster(self.bus, self.hierarchy.functions[NIC])

    def attach(self, domid: int) -> tuple[Rpc, Any]:
        mine, theirs = self.world.pair(Decoder(DEVBUS).decode)
        self.bus.attach(domid, theirs)
        return Rpc(self.world.kernel(f"guest {domid}", panic_on_oops=False), mine, "device bus"), mine

    async def _dma_read(self, devfn: int, address: int, length: int) -> Any:
        return self.memory[address : address + length] if isinstance(self.memory, bytes) else self.memory

    def command(self, value: int) -> None:
        self.hierarchy.write(NIC, HEADER.COMMAND, 2, value)

    def read(self, *args: Any, guest: Rpc | None = None) -> Any:
        guest = guest or self.guest
        return self.world.run(guest.call("mmio_read", *args), guest.kernel)

    def dma(self, address: int = 0, length: int = 8) -> Any:
        return self.world.run(self.master.read(address, length), self.dom0)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_registers_are_read_and_written(rig: Rig) -> None:
    assert rig.read(0, 0, Reg.STATUS, 4) != ALL_ONES
    rig.guest.post("mmio_write", 0, 0, Reg.MASK, 4, 0x5)
    rig.world.settle()
    assert rig.read(0, 0, Reg.MASK, 4) & 0x5


def test_without_memory_decoding_nobody_answers(rig: Rig) -> None:
    rig.command(0)
    assert rig.read(0, 0, Reg.STATUS, 4) == ALL_ONES


@pytest.mark.parametrize(("devfn", "bar"), [(2, 0), (0x100, 0), (0, 1), (0, 5), (0, 255)])
def test_nobody_decodes_other_addresses(rig: Rig, devfn: int, bar: int) -> None:
    assert rig.read(devfn, bar, 0, 4) == ALL_ONES
    rig.guest.post("mmio_write", devfn, bar, 0, 4, 1)
    rig.world.settle()


def test_a_function_of_somebody_else_is_out_of_reach(rig: Rig) -> None:
    stranger, _ = rig.attach(STRANGER)
    assert rig.read(0, 0, Reg.STATUS, 4, guest=stranger) == ALL_ONES
    assert rig.read(1, 0, Reg.STATUS, 4) == ALL_ONES, "never assigned to this guest"


@pytest.mark.parametrize("size", [0, 3, 5, 9, 16, 255])
def test_a_size_that_no_processor_has_is_refused_and_dom0_lives_on(rig: Rig, size: int) -> None:
    for devfn in (0, 1):
        with pytest.raises(RpcError):
            rig.read(devfn, 0, 0, size)
        rig.guest.post("mmio_write", devfn, 0, 0, size, 1)
    rig.world.settle()
    assert rig.read(0, 0, Reg.STATUS, 4) != ALL_ONES


@pytest.mark.parametrize(("size", "ones"), [(1, 0xFF), (2, 0xFFFF), (4, ALL_ONES), (8, (1 << 64) - 1)])
def test_all_ones_have_the_size_of_the_access(rig: Rig, size: int, ones: int) -> None:
    assert rig.read(1, 0, 0, size) == ones


def test_dma_read_and_write(rig: Rig) -> None:
    assert rig.dma(8, 4) == bytes([8, 9, 10, 11])
    assert rig.master.write(16, b"data")
    rig.world.settle()
    assert rig.writes == [(0, 16, b"data")]


@pytest.mark.parametrize("answer", [5, None, "textdata", ["x"] * 8, {"a": 1}, True, b"short", bytes(9)])
def test_a_guest_that_answers_nonsense_gets_no_dma_and_dom0_lives_on(rig: Rig, answer: Any) -> None:
    async def nonsense(*args: Any) -> Any:
        return answer

    rig.guest.handlers["dma_read"] = nonsense
    assert rig.dma(0, 8) is None


def test_a_guest_that_refuses_or_stays_silent(rig: Rig) -> None:
    async def silent(*args: Any) -> None:
        await rig.guest.kernel.sleep(10_000 * MS)

    rig.guest.handlers["dma_read"] = silent
    begin = rig.world.clock.time
    assert rig.dma() is None
    assert rig.world.clock.time - begin == COMPLETION_TIMEOUT
    del rig.guest.handlers["dma_read"]
    assert rig.dma() is None


@pytest.mark.parametrize("how", ["block", "deassign", "master", "unknown", "closed"])
def test_kill_4_3_dma_is_checked_at_each_access(rig: Rig, how: str) -> None:
    rig.hierarchy.write(NIC, rig.hierarchy.functions[NIC].msi + 2, 2, MSI_FLAGS_ENABLE)
    steps = {
        "block": lambda: rig.iommu.block(NIC),
        "deassign": lambda: rig.iommu.deassign(NIC),
        "master": lambda: rig.command(COMMAND_MEMORY),
        "unknown": lambda: setattr(rig.bus, "guest_devfn", lambda sbdf: None),
        "closed": lambda: rig.bus.detach(GUEST),
    }
    steps[how]()
    assert rig.dma() is None
    assert not rig.master.write(0, b"x")
    rig.master.msi(0)
    rig.world.settle()
    assert not rig.writes
    assert not rig.messages


def test_an_msi_needs_the_capability_switched_on(rig: Rig) -> None:
    rig.master.msi(3)
    rig.world.settle()
    assert rig.messages == []
    rig.hierarchy.write(NIC, rig.hierarchy.functions[NIC].msi + 2, 2, MSI_FLAGS_ENABLE)
    rig.master.msi(3)
    rig.world.settle()
    assert rig.messages == [(0, 3)]


def test_a_new_bus_of_a_domain_revokes_the_old_one(rig: Rig) -> None:
    rig.attach(GUEST)
    rig.world.settle()
    assert rig.guest.closed is not None
    assert rig.bus.has_link(GUEST)


def test_x48_wrong_bytes_cost_the_guest_its_bus(rig: Rig) -> None:
    rig.link.send_raw(b"\xc1")
    rig.world.settle()
    assert rig.bus.link_of(GUEST) is None
    assert rig.dma() is None
    assert rig.guest.closed is not None


def test_reads_under_way_are_bounded(rig: Rig) -> None:
    """A guest that answers none of them, and starts its device again and again."""
    rig.guest.link.on_message = lambda message: None
    tasks = [rig.dom0.spawn(rig.master.read(0, 8), "dma") for _ in range(READS_MAX + 10)]
    rig.world.settle(0)
    assert sum(task.done and task.result is None for task in tasks) == 10
    rig.world.settle(COMPLETION_TIMEOUT // MS + 1)
    assert all(task.done for task in tasks)
    again = rig.dom0.spawn(rig.master.read(0, 8), "dma")
    rig.world.settle(0)
    assert not again.done, "their tags are free again"


def test_a_revoked_domain_reaches_nothing_and_nothing_reaches_it(rig: Rig) -> None:
    rig.iommu.revoke(GUEST)
    assert rig.read(0, 0, Reg.STATUS, 4) == ALL_ONES
    assert rig.dma() is None
    assert not rig.master.write(0, b"x")
    rig.iommu.assign(NIC, GUEST)
    assert rig.dma() is not None, "a new domain of the same number"
