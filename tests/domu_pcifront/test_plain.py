"""Plain driver methods wait through ``dev.sync`` as coroutines do with ``await``."""

from __future__ import annotations

from typing import Any

import pytest

from domu_pcifront import plain
from domu_pcifront.device import GuestPciDev
from domu_pcifront.driver import PciDriver, call_handler
from domu_pcifront.sync_device import SyncDevice
from kernel_stub.kernel import park
from protocol.ers import ChannelState, ErsResult, Phase
from tests.domu_pcifront.drivers.rig import Rig


class PlainDriver(PciDriver):
    """What a user writes who does not like ``async``."""

    name = "plain"

    def error_detected(self, state: ChannelState) -> ErsResult:
        self.dev.sync.sleep(20)
        return ErsResult.NEED_RESET if state == ChannelState.FROZEN else ErsResult.CAN_RECOVER

    def slot_reset(self) -> ErsResult:
        sync = self.dev.sync
        sync.enable_device()
        sync.set_master()
        return ErsResult.RECOVERED if sync.mmio_read(0, 0) != 0xFFFFFFFF else ErsResult.DISCONNECT

    def resume(self) -> None:
        self.dev.sync.mmio_write(0, 8, 0x1234)
        self.dev.sync.trace("driver.probe", f"{self.dev.sync.mmio_read(0, 8):x}")

    def transfer(self, count: int) -> int:  # type: ignore[override]
        return sum(self.dev.sync.read_config(0, 2) == 0x1AF4 for _ in range(count))


def test_plain_handlers_wait_in_virtual_time() -> None:
    rig = Rig()
    driver = rig.bind(PlainDriver)
    assert rig.world.do(call_handler(driver, Phase.ERROR_DETECTED, ChannelState.FROZEN)) == 3
    assert rig.world.clock.time == 20_000_000
    assert rig.world.do(call_handler(driver, Phase.SLOT_RESET)) == 5
    assert rig.world.do(call_handler(driver, Phase.RESUME)) == 1
    assert rig.world.labels("driver.probe") == [("1234",)]
    assert driver.handler(Phase.MMIO_ENABLED) is None
    assert rig.world.do(driver.workload(3)) == 3


def test_plain_handlers_of_two_tasks_interleave() -> None:
    rig = Rig()
    order: list[str] = []

    def handler(name: str, ms: int) -> None:
        for _ in range(2):
            rig.dev.sync.sleep(ms)
            order.append(name)

    rig.world.kernel.spawn(plain.call(handler, "slow", 30), "slow")
    rig.world.kernel.spawn(plain.call(handler, "fast", 20), "fast")
    rig.world.run(100)
    assert order == ["fast", "slow", "fast", "slow"]


def test_sync_outside_of_a_plain_method_says_what_to_do() -> None:
    rig = Rig()
    with pytest.raises(plain.NotInHandlerError, match=r"await dev\.read_config"):
        rig.dev.sync.read_config(0, 4)

    async def handler() -> None:
        rig.dev.sync.sleep(1)

    with pytest.raises(plain.NotInHandlerError, match="async def"):
        rig.world.do(plain.call(handler))


def test_exceptions_pass_in_both_directions() -> None:
    rig = Rig()

    async def refuse() -> None:
        await rig.dev.sleep(1)
        raise LookupError("inner")

    def handler() -> str:
        try:
            plain.wait(refuse)
        except LookupError as error:
            raise KeyError(f"outer after {error}") from error
        return "unreachable"

    with pytest.raises(KeyError, match="outer after inner"):
        rig.world.do(plain.call(handler))


def test_a_guest_that_ends_unwinds_its_handlers() -> None:
    seen: list[str] = []

    async def never() -> None:
        await park()

    def handler() -> None:
        try:
            plain.wait(never)
        finally:
            seen.append("cleaned up")

    coro = plain.call(handler)
    coro.send(None)
    coro.close()
    assert seen == ["cleaned up"]


def test_plain_function_that_returns_a_coroutine_is_awaited() -> None:
    rig = Rig()

    async def inner() -> int:
        await rig.dev.sleep(1)
        return 7

    assert rig.world.do(plain.call(lambda _: inner(), None)) == 7


SYNC_CALLS: dict[str, tuple[Any, ...]] = {
    "read_config": (0, 4), "write_config": (4, 2, 2), "find_capability": (5,), "enable_device": (),
    "disable_device": (), "set_master": (), "save_state": (), "restore_state": (), "mmio_read": (0, 0),
    "mmio_write": (0, 8, 1), "enable_msi": (), "disable_msi": (), "msi_active": (), "on_msi": (0, print),
    "wait_msi": (0, 1000), "sleep": (1,),
    "printk": (6, "x"), "trace": ("driver.probe", "x"),
}  # fmt: skip


def test_sync_has_every_method_of_the_device() -> None:
    def public(cls: type) -> set[str]:
        return {name for name, value in vars(cls).items() if not name.startswith("_") and callable(value)}

    assert public(SyncDevice) == set(SYNC_CALLS)
    assert public(GuestPciDev) - public(SyncDevice) == {"identify"}  # the bus scan's, not the driver's


@pytest.mark.parametrize("name", SYNC_CALLS)
def test_sync_gives_the_same_result(name: str) -> None:
    results = []
    for way in ("sync", "async"):
        rig = Rig()

        def handler(rig: Rig = rig) -> Any:
            return getattr(rig.dev.sync, name)(*SYNC_CALLS[name])

        async def coroutine(rig: Rig = rig) -> Any:
            result = getattr(rig.dev, name)(*SYNC_CALLS[name])
            return await result if hasattr(result, "__await__") else result

        result = rig.world.do(plain.call(handler) if way == "sync" else coroutine())
        results.append((result, bytes(rig.config.data), rig.world.clock.time))
    assert results[0] == results[1]
