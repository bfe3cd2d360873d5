"""domu_pcifront.bus: scan, drivers, removal (BUS-22, BUS-24)."""

from __future__ import annotations

from typing import Any, cast

import pytest

from domu_pcifront.bus import ABSENT, GuestBus
from domu_pcifront.driver import PciDriver
from domu_pcifront.pci_op import PciOps
from kernel_stub.kernel import MS
from protocol.topology import GuestDriverSpec
from tests.kernel_stub.world import World

MODULE = __name__


class Quiet(PciDriver):
    name = "quiet"
    log: list[str] = []  # noqa: RUF012 - one log for all instances of a test

    async def probe(self) -> None:
        self.log.append(f"probe {self.dev.name}")

    async def remove(self) -> None:
        self.log.append(f"remove {self.dev.name}")


class Broken(Quiet):
    name = "broken"

    async def probe(self) -> None:
        raise RuntimeError("no such chip")


class NotEvenMade(Quiet):
    name = "not-even-made"

    def __init__(self, dev: Any, options: dict[str, Any]) -> None:
        raise ValueError("bad options")


class FakeDev:
    def __init__(self, devfn: int) -> None:
        self.devfn = devfn
        self.name = f"0000:00:{devfn >> 3:02x}.{devfn & 7}"
        self.vendor, self.device = 0x1234, 0x5678
        self.driver: PciDriver | None = None

    async def read_config(self, offset: int, size: int) -> int:
        return 0

    async def write_config(self, offset: int, size: int, value: int) -> None:
        assert (value, size) in ((0, 4), (0xFFFFFFFF, 4)), "a guest sizes and puts back"

    async def identify(self) -> bool:
        return True


class FakeOps:
    """Configuration space of a bus: which dword 0 a devfn answers."""

    def __init__(self, world: World, ids: dict[int, int]) -> None:
        self.world = world
        self.ids = ids
        self.reads: list[int] = []

    async def read(self, devfn: int, offset: int, size: int) -> int:
        assert (offset, size) == (0, 4)
        self.reads.append(devfn)
        await self.world.main.cond_resched()
        return self.ids.get(devfn, 0xFFFFFFFF)


class Rig:
    def __init__(self) -> None:
        self.world = World()
        self.ops = FakeOps(self.world, {0x08: 0x56781234, 0x0B: 0x56781234})
        self.bus = GuestBus(self.world.main, lambda devfn: cast(Any, FakeDev(devfn)))
        self.bus.wanted = {devfn: GuestDriverSpec(f"{MODULE}:Quiet") for devfn in (0x08, 0x0B)}
        Quiet.log.clear()

    def scan(self) -> None:
        self.world.run(self.bus.scan(cast(PciOps, self.ops)))

    def wanted(self, devfn: int, name: str) -> None:
        self.bus.wanted[devfn] = GuestDriverSpec(name if name in ("", "none") else f"{MODULE}:{name}")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_bus_22_all_256_devfn_are_tried(rig: Rig) -> None:
    rig.scan()
    assert rig.ops.reads == list(range(256))
    assert sorted(rig.bus.devices) == [0x08, 0x0B]
    assert Quiet.log == ["probe 0000:00:01.0", "probe 0000:00:01.3"]


def test_bus_24_what_a_scan_logs(rig: Rig) -> None:
    rig.scan()
    rig.scan()
    lines = [line.removeprefix("pcifront pci-0: ") for line in rig.world.log]
    assert lines[:2] == ["Creating PCI Frontend Bus 0000:00", "New device on 0000:00:01.0 found."]
    assert lines[-1] == "Rescanning PCI Frontend Bus 0000:00"


def test_a_rescan_leaves_known_devices_alone(rig: Rig) -> None:
    rig.scan()
    before = dict(rig.bus.devices)
    rig.ops.reads.clear()
    rig.ops.ids[0x10] = 0x56781234
    rig.scan()
    assert len(rig.ops.reads) == 254
    assert {devfn: rig.bus.devices[devfn] for devfn in before} == before
    assert rig.bus.devices[0x10].driver is None, "nobody wants it, nobody knows its ids"


@pytest.mark.parametrize("value", ABSENT)
def test_ids_that_mean_nobody(rig: Rig, value: int) -> None:
    rig.ops.ids = {0x08: value}
    rig.scan()
    assert rig.bus.devices == {}


@pytest.mark.parametrize("name", ["", "none"])
def test_a_device_may_go_without_a_driver(rig: Rig, name: str) -> None:
    rig.wanted(0x08, name)
    rig.scan()
    assert rig.bus.driver_of(0x08) is None
    assert rig.bus.driver_of(0x0B) is not None
    assert rig.bus.driver_of(0x77) is None


@pytest.mark.parametrize("name", ["Broken", "NotEvenMade", "NoSuchClass"])
def test_a_driver_that_cannot_start_leaves_its_device_without_one(rig: Rig, name: str) -> None:
    rig.wanted(0x08, name)
    rig.scan()
    assert rig.bus.driver_of(0x08) is None
    assert rig.bus.driver_of(0x0B) is not None, "the others are served"
    assert any("0000:00:01.0: probe failed: " in line for line in rig.world.log)


def test_remove_stops_the_driver_first(rig: Rig) -> None:
    rig.scan()
    rig.world.run(rig.bus.remove(0x08))
    rig.world.run(rig.bus.remove(0x08))
    assert Quiet.log[2:] == ["remove 0000:00:01.0"]
    assert list(rig.bus.devices) == [0x0B]


def test_remove_all_begins_anew(rig: Rig) -> None:
    rig.scan()
    rig.world.run(rig.bus.remove_all())
    assert rig.bus.devices == {}
    rig.scan()
    assert rig.world.log[-3] == "pcifront pci-0: Creating PCI Frontend Bus 0000:00"


def test_i28_a_removal_waits_for_a_scan(rig: Rig) -> None:
    """``pci_lock_rescan_remove``: the bus does not change under a scan."""
    rig.world.main.spawn(rig.bus.scan(cast(PciOps, rig.ops)), "scan")
    task = rig.world.main.spawn(rig.bus.remove(0x08), "remove")
    for _ in range(50):
        rig.world.main._step(rig.world.main._ready.popleft())  # type: ignore[arg-type]
    assert not task.done
    rig.world.settle(int(1 * MS))
    assert task.done
    assert list(rig.bus.devices) == [0x0B]
