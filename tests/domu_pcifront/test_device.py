"""The guest's ``pci_dev``: enabling, saved state (S3), interrupts; and the device bus under it."""

from __future__ import annotations

import pytest

from domu_pcifront.devbus import COMPLETION_TIMEOUT
from protocol.device_regs import ALL_ONES
from tests.domu_pcifront.drivers.rig import CAP_EXP, CAP_MSI, Rig


def test_name_and_identity() -> None:
    rig = Rig()
    assert rig.dev.name == "0000:00:00.0"
    assert rig.world.do(rig.dev.identify())
    assert (rig.dev.vendor, rig.dev.device) == (0x1AF4, 0x1041)
    rig.config.present = False
    assert not rig.world.do(rig.dev.identify())


def test_restore_writes_only_what_differs() -> None:
    rig = Rig()
    rig.world.do(rig.dev.enable_device())
    rig.world.do(rig.dev.set_master())
    rig.world.do(rig.dev.save_state())
    rig.config.writes.clear()
    rig.world.do(rig.dev.restore_state())
    assert rig.config.writes == []
    rig.config.poke(4, 2, 0)
    rig.config.poke(CAP_EXP + 8, 2, 0)
    rig.config.poke(0x3C, 1, 9)
    rig.world.do(rig.dev.restore_state())
    assert [offset for offset, _, _ in rig.config.writes] == [CAP_EXP + 8, 0x3C, 4]  # 4.8: 15 down to 0
    assert rig.config.peek(4, 2) == 6


def test_restore_without_a_saved_state_writes_nothing() -> None:
    rig = Rig()
    rig.world.do(rig.dev.restore_state())
    assert rig.config.writes == []


def test_enable_is_counted() -> None:
    rig = Rig()
    for _ in range(2):
        assert rig.world.do(rig.dev.enable_device()) == 0
    assert rig.config.writes == [(4, 2, 2)]
    assert rig.world.log == ["pci 0000:00:00.0: enabling device (0000 -> 0002)"]
    rig.world.do(rig.dev.set_master())
    rig.world.do(rig.dev.disable_device())
    assert rig.config.peek(4, 2) == 6
    assert rig.dev.enabled
    rig.world.do(rig.dev.disable_device())
    assert rig.config.peek(4, 2) == 2
    rig.world.do(rig.dev.disable_device())
    assert not rig.dev.enabled


def test_an_absent_device_cannot_be_enabled_and_is_not_written() -> None:
    rig = Rig()
    rig.config.present = False
    assert rig.world.do(rig.dev.enable_device()) == -19
    rig.world.do(rig.dev.set_master())
    assert rig.config.writes == []
    assert rig.world.do(rig.dev.find_capability(5)) == 0


@pytest.mark.parametrize("pointer", [CAP_EXP, CAP_MSI, 0x3C, 0xFC])
def test_a_capability_chain_that_loops_ends(pointer: int) -> None:
    rig = Rig()
    rig.config.poke(CAP_MSI + 1, 1, pointer)
    assert rig.world.do(rig.dev.find_capability(0x10)) == CAP_EXP
    assert rig.world.do(rig.dev.find_capability(0x05)) == CAP_MSI
    assert rig.world.do(rig.dev.find_capability(0x11)) == 0


def test_interrupts_before_the_wait_count_and_are_merged() -> None:
    rig = Rig()
    calls: list[int] = []
    rig.dev.on_msi(0, lambda: calls.append(1))
    assert rig.world.do(rig.dev.enable_msi()) == 55
    rig.hardware.msi(0)
    rig.hardware.msi(0)
    rig.world.run(1)
    assert calls == [1, 1]
    assert rig.world.do(rig.dev.wait_msi(0, 1_000))
    before = rig.world.clock.time
    assert not rig.world.do(rig.dev.wait_msi(0, 1_000))
    assert rig.world.clock.time - before == 1_000


def test_an_interrupt_ends_a_wait() -> None:
    rig = Rig()
    rig.world.do(rig.dev.enable_msi())
    task = rig.world.kernel.spawn(rig.dev.wait_msi(0, 10**9), "waiter")
    rig.world.run(1)
    rig.hardware.msi(0)
    rig.world.run(1)
    assert task.result is True


def test_msi_can_fail_and_comes_alone() -> None:
    rig = Rig()
    assert rig.world.do(rig.dev.enable_msi(2)) == -22
    rig.config.vector = -22
    assert rig.world.do(rig.dev.enable_msi()) == -22
    assert rig.dev.irq == 0


def test_interrupts_nobody_asked_for_are_counted() -> None:
    rig = Rig()
    rig.world.do(rig.dev.enable_msi())
    rig.world.do(rig.dev.disable_msi())
    rig.hardware.rpc.post("msi", 0, 0)
    rig.world.run(1)
    assert rig.devbus.spurious == 1


def test_without_a_link_reads_give_all_ones() -> None:
    rig = Rig()
    assert rig.world.do(rig.dev.mmio_read(0, 0)) != ALL_ONES
    rig.devbus.detach()
    assert rig.world.do(rig.dev.mmio_read(0, 0)) == ALL_ONES
    assert rig.world.do(rig.dev.mmio_read(0, 0, 2)) == 0xFFFF
    rig.dev.mmio_write(0, 8, 1)
    rig.devbus.detach()


def test_a_read_under_way_gives_all_ones_when_the_link_goes() -> None:
    for side in ("own", "peer"):
        rig = Rig()
        task = rig.world.kernel.spawn(rig.dev.mmio_read(0, 0), "reader")
        rig.world.kernel.run()
        rig.world.queue.clear()
        if side == "own":
            rig.devbus.detach()
        else:
            rig.hardware.rpc.link.close()
        rig.world.run(1)
        assert task.result == ALL_ONES


def test_a_read_that_nobody_completes_gives_all_ones() -> None:
    rig = Rig()
    task = rig.world.kernel.spawn(rig.dev.mmio_read(0, 0), "reader")
    rig.world.kernel.run()
    rig.world.queue.clear()
    rig.world.run(COMPLETION_TIMEOUT / 1e6 - 1)
    assert not task.done
    rig.world.run(2)
    assert task.result == ALL_ONES


def test_dma_outside_of_memory_is_refused() -> None:
    rig = Rig()
    rig.config.poke(4, 2, 4)
    assert rig.world.do(rig.hardware.read(0, 16)) is None
    rig.hardware.write(1 << 40, b"x")
    rig.world.run(1)
    assert rig.memory.refused == 2
