"""xnic and xblk: data moves, recoveries keep it moving, and every fault of a device is noticed."""

from __future__ import annotations

from typing import Any

import pytest

from domu_pcifront.driver import PciDriver, ProbeError, WorkloadError, call_handler
from domu_pcifront.drivers.xblk import XBlk
from domu_pcifront.drivers.xnic import XNic
from protocol.block import SECTOR_SIZE
from protocol.device_regs import BAR, Reg, Status
from protocol.ers import ChannelState, ErsResult, Phase
from protocol.nic import MAC, PEER_MAC, Frame, decode, echo
from tests.domu_pcifront.drivers.rig import CAP_EXP, CAP_MSI, Rig

BOTH = pytest.mark.parametrize(
    ("model", "cls", "slow"), [("nic", XNic, "wire_ns"), ("block", XBlk, "access_ns")], ids=["xnic", "xblk"]
)
FROZEN, NORMAL, PERM = ChannelState.FROZEN, ChannelState.NORMAL, ChannelState.PERM_FAILURE


def call(rig: Rig, driver: PciDriver, phase: Phase, *args: Any) -> int:
    return int(rig.world.do(call_handler(driver, phase, *args)))


def reset_recovery(rig: Rig, driver: PciDriver) -> None:
    assert call(rig, driver, Phase.ERROR_DETECTED, FROZEN) == ErsResult.NEED_RESET
    rig.hardware.bus_reset()
    assert call(rig, driver, Phase.SLOT_RESET) == ErsResult.RECOVERED
    call(rig, driver, Phase.RESUME)


@BOTH
@pytest.mark.parametrize("count", [0, 1, 15, 16, 100])
def test_every_unit_is_moved_and_verified(model: str, cls: type[PciDriver], slow: str, count: int) -> None:
    rig = Rig(model)
    driver = rig.bind(cls)
    assert rig.world.do(driver.workload(count)) == count
    assert rig.world.labels("driver.workload") == [(count, count, "")]
    assert rig.memory.refused == 0


def test_the_block_device_really_stores_what_was_written() -> None:
    rig = Rig("block")
    driver = rig.bind(XBlk)
    rig.world.do(driver.workload(40))
    assert sorted(rig.model.medium) == list(range(40))
    assert len(set(rig.model.medium.values())) == 40


def test_the_block_workload_wraps_at_the_end_of_the_medium() -> None:
    rig = Rig("block")
    driver = rig.bind(XBlk)
    assert rig.world.do(driver.workload(2100)) == 2100


@BOTH
def test_no_interrupts_no_harm(model: str, cls: type[PciDriver], slow: str) -> None:
    rig = Rig(model)
    rig.config.vector = -22
    driver = rig.bind(cls)
    assert rig.world.do(driver.workload(20)) == 20


@BOTH
def test_frozen_error_and_reset_restore_everything(model: str, cls: type[PciDriver], slow: str) -> None:
    rig = Rig(model)
    driver = rig.bind(cls)
    rig.world.do(driver.workload(20))
    reset_recovery(rig, driver)
    assert rig.config.peek(4, 2) & 6 == 6  # memory decoding and bus master
    assert rig.config.peek(CAP_EXP + 8, 2) == 0xF
    assert rig.config.peek(CAP_MSI + 2, 2) & 1
    assert rig.world.do(driver.workload(20)) == 20
    phases = [fields[0] for fields in rig.world.labels("driver.callback")]
    assert phases == ["error_detected", "slot_reset", "resume"]
    assert "xnic 0000:00:00.0: error_detected state=2 -> 3 NEED_RESET".replace("xnic", cls.name) in rig.world.log


@BOTH
def test_msi_is_asked_for_again_where_a_guest_cannot_restore_it(model: str, cls: type[PciDriver], slow: str) -> None:
    """xen-pci.md 6.6: a write of MSI control is refused, so the operation has to be repeated."""
    rig = Rig(model)
    rig.config.permissive = False
    driver = rig.bind(cls, poll_ms=1_000)
    reset_recovery(rig, driver)
    assert rig.config.peek(CAP_MSI + 2, 2) & 1
    before = rig.world.clock.time
    assert rig.world.do(driver.workload(5)) == 5
    assert rig.world.clock.time == before  # by interrupt, not by polling


@BOTH
def test_nonfatal_error_with_a_healthy_device_needs_no_reset(model: str, cls: type[PciDriver], slow: str) -> None:
    rig = Rig(model)
    driver = rig.bind(cls)
    assert call(rig, driver, Phase.ERROR_DETECTED, NORMAL) == ErsResult.CAN_RECOVER
    assert call(rig, driver, Phase.MMIO_ENABLED) == ErsResult.RECOVERED
    call(rig, driver, Phase.RESUME)
    assert driver.generation == 1
    assert rig.world.do(driver.workload(20)) == 20


@BOTH
@pytest.mark.parametrize("fault", ["unreachable", "halted", "forgot its rings"])
def test_mmio_enabled_asks_for_a_reset_of_a_sick_device(
    model: str, cls: type[PciDriver], slow: str, fault: str
) -> None:
    rig = Rig(model)
    driver = rig.bind(cls)
    call(rig, driver, Phase.ERROR_DETECTED, NORMAL)
    if fault == "unreachable":
        rig.hardware.reachable = False
    elif fault == "halted":
        rig.model.registers[Reg.STATUS] |= Status.HALTED
    else:
        rig.model.reset()
    assert call(rig, driver, Phase.MMIO_ENABLED) == ErsResult.NEED_RESET
    rig.hardware.reachable = True
    rig.hardware.bus_reset()
    assert call(rig, driver, Phase.SLOT_RESET) == ErsResult.RECOVERED
    call(rig, driver, Phase.RESUME)
    assert rig.world.do(driver.workload(5)) == 5


@BOTH
@pytest.mark.parametrize("after", [0, 3, 10, 40])
def test_reset_in_mid_transfer_loses_nothing(model: str, cls: type[PciDriver], slow: str, after: int) -> None:
    rig = Rig(model, **{slow: 300_000})
    driver = rig.bind(cls)
    task = rig.world.kernel.spawn(driver.workload(30), "workload")
    for _ in range(after + 5):
        rig.world.step(10**12)
    assert not task.done
    reset_recovery(rig, driver)
    rig.world.run()
    assert task.result == 30


@BOTH
def test_lost_work_is_issued_again_after_resume(model: str, cls: type[PciDriver], slow: str) -> None:
    rig = Rig(model, **{slow: 1_000_000})
    driver = rig.bind(cls)
    task = rig.world.kernel.spawn(driver.workload(10), "workload")
    rig.world.run(0.5)
    assert call(rig, driver, Phase.ERROR_DETECTED, FROZEN) == ErsResult.NEED_RESET
    rig.hardware.bus_reset()
    rig.world.run(50)
    assert call(rig, driver, Phase.SLOT_RESET) == ErsResult.RECOVERED
    rig.world.run(50)
    assert not task.done
    assert rig.world.labels("driver.reissue") == []  # not before resume: DMA may be blocked until then (H18)
    call(rig, driver, Phase.RESUME)
    rig.world.run()
    assert task.result == 10
    assert len(rig.world.labels("driver.reissue")) == 1


@BOTH
def test_abandoned_dma_does_not_touch_memory_after_a_reset(model: str, cls: type[PciDriver], slow: str) -> None:
    rig = Rig(model, **{slow: 5_000_000})
    driver = rig.bind(cls)
    rig.world.kernel.spawn(driver.workload(4), "workload")
    rig.world.run(1)
    driver.running = False
    rig.model.reset()
    before = rig.memory.read(rig.memory.base, rig.memory.size)
    rig.world.run(1_000)
    assert rig.memory.read(rig.memory.base, rig.memory.size) == before


@BOTH
def test_slot_reset_without_own_request_works_too(model: str, cls: type[PciDriver], slow: str) -> None:
    """T5, H17: the driver said CAN_RECOVER, a sibling or the frozen state reset the device all the same."""
    rig = Rig(model)
    driver = rig.bind(cls)
    assert call(rig, driver, Phase.ERROR_DETECTED, NORMAL) == ErsResult.CAN_RECOVER
    rig.hardware.bus_reset()
    assert call(rig, driver, Phase.SLOT_RESET) == ErsResult.RECOVERED
    call(rig, driver, Phase.RESUME)
    assert rig.world.do(driver.workload(5)) == 5


@BOTH
def test_reset_without_slot_reset_is_noticed_at_resume(model: str, cls: type[PciDriver], slow: str) -> None:
    """T2 with dom0's restore (H18)."""
    rig = Rig(model)
    driver = rig.bind(cls)
    call(rig, driver, Phase.ERROR_DETECTED, NORMAL)
    rig.model.reset()
    call(rig, driver, Phase.RESUME)
    assert rig.world.do(driver.workload(5)) == 5


@BOTH
def test_perm_failure_ends_the_workload(model: str, cls: type[PciDriver], slow: str) -> None:
    rig = Rig(model, **{slow: 1_000_000})
    driver = rig.bind(cls)
    task = rig.world.kernel.spawn(driver.workload(10), "workload")
    rig.world.run(0.5)
    assert call(rig, driver, Phase.ERROR_DETECTED, PERM) == ErsResult.DISCONNECT
    rig.world.run()
    assert isinstance(task.error, WorkloadError)
    assert "gone" in str(task.error)


@BOTH
def test_dead_device_reads_all_ones_and_the_workload_says_so(model: str, cls: type[PciDriver], slow: str) -> None:
    rig = Rig(model)
    driver = rig.bind(cls)
    rig.hardware.reachable = False
    with pytest.raises(WorkloadError, match="all ones"):
        rig.world.do(driver.workload(1))
    assert rig.world.labels("driver.workload")[0][:2] == (1, 0)


@BOTH
def test_dead_device_after_reset_is_disconnected(model: str, cls: type[PciDriver], slow: str) -> None:
    rig = Rig(model)
    driver = rig.bind(cls)
    call(rig, driver, Phase.ERROR_DETECTED, FROZEN)
    rig.hardware.reachable = False
    assert call(rig, driver, Phase.SLOT_RESET) == ErsResult.DISCONNECT
    rig.config.present = False
    assert call(rig, driver, Phase.SLOT_RESET) == ErsResult.DISCONNECT


@BOTH
def test_blocked_dma_halts_the_device(model: str, cls: type[PciDriver], slow: str) -> None:
    rig = Rig(model)
    driver = rig.bind(cls)
    rig.hardware.dma = False
    with pytest.raises(WorkloadError, match="halted"):
        rig.world.do(driver.workload(1))


@BOTH
def test_without_bus_master_nothing_moves(model: str, cls: type[PciDriver], slow: str) -> None:
    rig = Rig(model)
    driver = rig.bind(cls)
    rig.config.poke(4, 2, rig.config.peek(4, 2) & ~4)
    with pytest.raises(WorkloadError, match="halted"):
        rig.world.do(driver.workload(1))


@BOTH
def test_remove_gives_everything_back(model: str, cls: type[PciDriver], slow: str) -> None:
    rig = Rig(model)
    driver = rig.bind(cls)
    rig.world.do(driver.workload(3))
    rig.world.do(driver.remove())
    rig.world.run(1)
    assert rig.memory.alloc(rig.memory.size, 1) == rig.memory.base
    assert rig.config.peek(4, 2) & 4 == 0
    assert rig.config.peek(CAP_MSI + 2, 2) & 1 == 0
    assert rig.dev.irq == 0
    with pytest.raises(WorkloadError):
        rig.world.do(driver.workload(1))


@BOTH
def test_probe_refuses_a_strange_or_absent_device(model: str, cls: type[PciDriver], slow: str) -> None:
    with pytest.raises(ProbeError, match="identity"):
        Rig("plain").bind(cls)
    rig = Rig(model)
    rig.hardware.reachable = False
    with pytest.raises(ProbeError, match="ffffffff"):
        rig.bind(cls)
    rig.config.present = False
    with pytest.raises(ProbeError, match="enable"):
        rig.bind(cls)


def damaged(how: str) -> Any:
    def peer(data: bytes) -> bytes | None:
        frame = decode(data)
        assert frame is not None
        sequence, payload = frame.sequence + 1, frame.payload
        if how == "bit":
            answer = bytearray(echo(data) or b"")
            answer[-9] ^= 4
            return bytes(answer)
        if how == "payload":
            payload = payload[:5] + bytes([payload[5] ^ 1]) + payload[6:]
        source, destination = (frame.source, frame.destination) if how == "address" else (PEER_MAC, MAC)
        return Frame(destination, source, sequence + (7 if how == "sequence" else 0), payload).encode()

    return peer


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("bit", "CRC"),
        ("payload", "differs at byte 5"),
        ("address", "frame 2: from"),
        ("sequence", "was not expected"),
    ],
)
def test_a_network_device_that_damages_data_is_found_out(how: str, text: str) -> None:
    rig = Rig("nic")
    driver = rig.bind(XNic)
    rig.model.peer = damaged(how)
    with pytest.raises(WorkloadError, match=text):
        rig.world.do(driver.workload(1))


def test_a_network_device_that_drops_frames_is_found_out() -> None:
    rig = Rig("nic")
    driver = rig.bind(XNic)
    rig.model.peer = lambda frame: None
    with pytest.raises(WorkloadError, match="no answer"):
        rig.world.do(driver.workload(1))


def test_a_medium_that_forgets_is_found_out() -> None:
    rig = Rig("block")
    driver = rig.bind(XBlk)
    rig.world.do(driver.workload(8))
    rig.model.medium[3] = b"\xff" * SECTOR_SIZE
    with pytest.raises(WorkloadError, match="sector 3 differs after a pause"):
        rig.world.do(driver.workload(8))


def test_a_medium_that_drops_writes_is_found_out() -> None:
    rig = Rig("block")
    driver = rig.bind(XBlk)

    class Worn(dict[int, bytes]):
        def __setitem__(self, key: int, value: bytes) -> None:
            super().__setitem__(key, value if key != 2 else bytes(SECTOR_SIZE))

    rig.model.medium = Worn()
    with pytest.raises(WorkloadError, match="sector 2 differs after writing"):
        rig.world.do(driver.workload(8))


def test_the_medium_survives_a_reset() -> None:
    rig = Rig("block")
    driver = rig.bind(XBlk)
    rig.world.do(driver.workload(8))
    reset_recovery(rig, driver)
    assert rig.world.do(driver.workload(1)) == 1


def test_identity_register_is_what_the_driver_reads() -> None:
    rig = Rig("nic")
    assert rig.world.do(rig.dev.mmio_read(BAR, Reg.ID)) == XNic.IDENTITY
