"""domu_pcifront.resources: how base addresses are sized and claimed (BUS-23, xen-pci.md 6.4)."""

from __future__ import annotations

from typing import Any, cast

import pytest

from domu_pcifront.resources import ADVICE, Region, Resources, read_regions
from protocol.topology import GuestSpec
from tests.dom0_pciback.pciback.host import CARD, CARD_1, Host, assign, make_host
from tests.kernel_stub.world import World

MEMORY, IO, PREFETCH_64 = 0x0, 0x1, 0xC
ONES = 0xFFFFFFFF


class Registers:
    """Base address registers of a device: offset -> (value, what sizing shows). All others read 0."""

    def __init__(self, name: str, bars: dict[int, tuple[int, int]], header_type: int = 0) -> None:
        self.name = name
        self.bars = bars
        self.now = {0x0E: header_type} | {offset: value for offset, (value, _) in bars.items()}

    async def read_config(self, offset: int, size: int) -> int:
        return self.now.get(offset, 0)

    async def write_config(self, offset: int, size: int, value: int) -> None:
        if offset in self.bars:
            self.now[offset] = self.bars[offset][1] if value == ONES else value


def regions(device: Registers) -> list[Region]:
    found: list[Region] = World().run(read_regions(cast(Any, device)))
    return found


def test_bars_are_sized_and_put_back() -> None:
    device = Registers("a", {
        0x10: (0xE001, 0xFFFF_FFE1),
        0x14: (0xFE00_0000, 0xFFFF_F000),
        0x20: (PREFETCH_64, 0xFFFF_C00C),
        0x24: (0x38, ONES),
    })  # fmt: skip
    assert regions(device) == [
        Region(0, 0xE000, 0xE01F, True),
        Region(1, 0xFE00_0000, 0xFE00_0FFF, False),
        Region(4, 0x38_0000_0000, 0x38_0000_3FFF, False),
    ]
    assert device.now == {0x0E: 0} | {offset: value for offset, (value, _) in device.bars.items()}


@pytest.mark.parametrize("bar", [(0, 0), (0, 0xFFFF_F000), (0x1000, 0)])
def test_what_has_no_size_or_no_address_is_not_claimed(bar: tuple[int, int]) -> None:
    assert regions(Registers("a", {0x10: bar})) == []


def test_a_bridge_has_two_bars() -> None:
    bars = {offset: (0xFE00_0000 + (offset << 16), 0xFFFF_F000) for offset in (0x10, 0x14, 0x18)}
    assert [region.bar for region in regions(Registers("a", bars, header_type=1))] == [0, 1]


def test_bus_23_what_is_claimed_twice_is_only_logged() -> None:
    world = World()
    resources = Resources(world.main, "pcifront pci-0:")
    first, second, third = (
        Registers(name, {0x10: (0xFE00_0000 + shift, 0xFFFF_F000), 0x14: (0xE001 + flag, 0xFFFF_FFE1)})
        for name, shift, flag in (("a", 0, 0), ("b", 0x1000, 0), ("c", 0, 0x20))
    )
    for device in (first, second, third):
        world.run(resources.claim(cast(Any, device)))
    refused = [line for line in world.log if "Could not" in line]
    assert refused == [f"pcifront pci-0: Could not claim resource {what}! {ADVICE}" for what in ("b/1", "c/0")]
    resources.release(cast(Any, first))
    world.run(resources.claim(cast(Any, third)))
    assert len([line for line in world.log if "Could not" in line]) == 2, "its place is free again"


@pytest.mark.parametrize("profile", ["linux", "hardened"])
def test_bus_23_resources_are_claimed_exactly_as_the_bars_read(profile: str) -> None:
    """All devices first, then the drivers; nobody moves a BAR."""
    guest = GuestSpec("guest1", devices=[assign(CARD), assign(CARD_1)])
    host = Host(make_host(guests=[guest], profile=profile), real=True)
    claims = [line.rpartition(" ")[2] for line in host.log if "claiming resource" in line]
    wanted = [
        f"{device.name}/{region.bar}"
        for device in host.guest.domu.bus.devices.values()
        for region in host.world.run(read_regions(device), host.guest.kernel)
    ]
    assert claims == wanted
    assert wanted
    seized = [host.psdev(bdf).seized.header[4:10] for bdf in (CARD, CARD_1)]
    hardware = [tuple(host.psdev(bdf).access.read(0x10 + 4 * n, 4) for n in range(6)) for bdf in (CARD, CARD_1)]
    seen = [tuple(host.psdev(bdf).conf.read(0x10 + 4 * n, 4)[1] for n in range(6)) for bdf in (CARD, CARD_1)]
    assert hardware == seen == seized
