"""Resets, their waits and their lines (linux-aer.md 4.8, 11; xen-pci-errata.md 4.1)."""

from __future__ import annotations

from dom0_pciback.pci.device import PciDev, pci_dev_set_disconnected
from dom0_pciback.pci.driver import ErrorHandlers, PciDriver
from dom0_pciback.pci.reset import bus_error_reset, pcie_reset_flr, reset_function, reset_function_locked
from dom0_pciback.pci.state import restore_state, save_state
from dom0_pciback.pci.wait import pci_wait_for_pending_transaction
from dom0_pciback.pcie.gone import die
from kernel_stub.kernel import MS
from protocol.layout_aer import AER
from protocol.layout_header import HEADER, TYPE0
from protocol.layout_pcie import EXP, EXP_DEVSTA_TRPND, EXP_LNKCAP_DLLLARC
from protocol.topology import FunctionSpec, TimingSpec
from tests.dom0_pciback.aer.rig import Rig, endpoint


def one(**more: object) -> Rig:
    """A root port with one endpoint that has these properties."""
    port = FunctionSpec("00:01.0", "root_port", secondary=1, subordinate=1)
    return Rig([port, endpoint("01:00.0", "00:01.0", **more)])


def test_4_1_flr_by_sysfs_prints_four_lines_and_keeps_the_configuration() -> None:
    rig = one()
    rig.bind("01:00.0", PciDriver("pciback"))
    dev = rig.dev("01:00.0")
    command = rig.core.read(dev, HEADER.COMMAND, 2)
    assert rig.call(reset_function(rig.core, dev)) == (0, "flr")
    log = [line for line in rig.log(7) if "restore config" not in line]
    assert log == [
        "<7> pciback 0000:01:00.0: resetting",
        "<7> pciback 0000:01:00.0: reset via flr",
        "<7> pciback 0000:01:00.0: ready 0ms after FLR",
        "<7> pciback 0000:01:00.0: reset done",
    ]
    assert rig.core.read(dev, HEADER.COMMAND, 2) == command
    assert rig.clock.time == 100 * MS


def test_put_back_prints_neither_resetting_nor_done_and_restores_nothing() -> None:
    rig = one()
    dev = rig.dev("01:00.0")
    assert rig.call(reset_function_locked(rig.core, dev)) == (0, "flr")
    assert rig.log(7) == ["<7> pci 0000:01:00.0: reset via flr", "<7> pci 0000:01:00.0: ready 0ms after FLR"]
    assert rig.core.read(dev, HEADER.COMMAND, 2) == 0
    assert rig.traced("pci.reset") == [("0000:01:00.0", "flr", 0)]


def test_reset_prepare_and_reset_done_belong_to_function_resets() -> None:
    rig = one()
    seen: list[str] = []

    def note(name: str):  # type: ignore[no-untyped-def]
        async def callback(dev: PciDev) -> None:
            seen.append(f"{name} command={rig.core.read(dev, HEADER.COMMAND, 2):#06x}")

        return callback

    rig.bind("01:00.0", PciDriver("lab", ErrorHandlers(reset_prepare=note("prepare"), reset_done=note("done"))))
    rig.call(reset_function(rig.core, rig.dev("01:00.0")))
    assert seen == ["prepare command=0x0103", "done command=0x0103"]


def test_method_order_bus_when_there_is_no_flr() -> None:
    rig = one(flr=False)
    assert rig.call(reset_function_locked(rig.core, rig.dev("01:00.0"))) == (0, "bus")
    assert rig.log(7)[0] == "<7> pci 0000:01:00.0: reset via bus"


def test_no_method_for_one_of_two_functions_without_flr() -> None:
    port = FunctionSpec("00:01.0", "root_port", secondary=1, subordinate=1)
    rig = Rig([port, endpoint("01:00.0", "00:01.0", flr=False), endpoint("01:00.1", "00:01.0")])
    dev = rig.dev("01:00.0")
    assert rig.call(reset_function_locked(rig.core, dev)) == (-25, "")
    assert rig.call(pcie_reset_flr(rig.core, dev)) == -25
    assert rig.call(reset_function_locked(rig.core, rig.dev("01:00.1"))) == (0, "flr")


def test_11_device_poll_doubles_and_gives_up_after_65535_ms() -> None:
    rig = one(ready_ms=-1)
    assert rig.call(reset_function_locked(rig.core, rig.dev("01:00.0"))) == (-25, "")
    waiting = (1023, 2047, 4095, 8191, 16383, 32767)
    assert rig.log(6) == [
        *(f"<6> pci 0000:01:00.0: not ready {ms}ms after FLR; waiting" for ms in waiting),
        "<3> pci 0000:01:00.0: not ready 65535ms after FLR; giving up",
        "<3> pci 0000:01:00.0: not ready 1023ms after bus reset; giving up",
        *(f"<6> pci 0000:01:00.0: not ready {ms}ms after bus reset; waiting" for ms in waiting),
        "<3> pci 0000:01:00.0: not ready 65535ms after bus reset; giving up",
    ]


def test_11_a_slow_device_is_reported_at_level_6() -> None:
    rig = one(ready_ms=3000)
    assert rig.call(reset_function_locked(rig.core, rig.dev("01:00.0"))) == (0, "flr")
    assert rig.log(6)[-1] == "<6> pci 0000:01:00.0: ready 4095ms after FLR"


def test_11_a_disconnected_device_fails_at_once() -> None:
    rig = one()
    dev = rig.dev("01:00.0")
    pci_dev_set_disconnected(dev)
    assert rig.call(bus_error_reset(rig.core, rig.dev("00:01.0"))) == -25
    assert rig.clock.time == 102 * MS


def test_11_pending_transactions_are_looked_for_at_0_100_300_700_ms() -> None:
    rig = one()
    dev = rig.dev("01:00.0")
    rig.hierarchy.functions[dev.sbdf].config.set_bits(dev.exp + EXP.DEVSTA, 2, EXP_DEVSTA_TRPND)
    assert rig.call(pci_wait_for_pending_transaction(rig.core, dev)) is False
    assert rig.clock.time == 700 * MS
    rig.call(pcie_reset_flr(rig.core, dev))
    assert rig.log(3) == [
        "<3> pci 0000:01:00.0: timed out waiting for pending transaction; performing function level reset anyway"
    ]


def test_11_bus_reset_of_a_slow_port_waits_100_ms() -> None:
    rig = one()
    assert rig.call(bus_error_reset(rig.core, rig.dev("00:01.0"))) == 0
    assert rig.log(7) == [
        "<7> pcieport 0000:00:01.0: waiting 100 ms for downstream link",
        "<7> pci 0000:01:00.0: ready 0ms after bus reset",
    ]
    assert rig.clock.time == 102 * MS


def set_speed(rig: Rig, speed: int, *, reports_link: bool = True) -> None:
    port = rig.dev("00:01.0")
    rig.hierarchy.functions[port.sbdf].config.poke(
        port.exp + EXP.LNKCAP, 4, speed | (EXP_LNKCAP_DLLLARC if reports_link else 0)
    )


def test_11_a_fast_port_waits_for_the_link() -> None:
    rig = one(ready_ms=150)
    set_speed(rig, 3)
    assert rig.call(bus_error_reset(rig.core, rig.dev("00:01.0"))) == 0
    assert rig.log(7) == [
        "<7> pcieport 0000:00:01.0: waiting 100 ms for downstream link, after activation",
        "<7> pci 0000:01:00.0: ready 31ms after bus reset",
    ]
    assert rig.clock.time == (2 + 20 + 100 + 31) * MS


def test_11_a_fast_port_without_link_reporting_sleeps_1100_ms() -> None:
    rig = one()
    set_speed(rig, 3, reports_link=False)
    assert rig.call(bus_error_reset(rig.core, rig.dev("00:01.0"))) == 0
    assert rig.clock.time == 1102 * MS


def test_11_a_fast_port_with_a_dead_link_fails_after_one_second() -> None:
    rig = one(link_dead_after_reset=True)
    set_speed(rig, 4)
    assert rig.call(bus_error_reset(rig.core, rig.dev("00:01.0"))) == -25
    assert rig.log(6) == ["<6> pcieport 0000:00:01.0: Data Link Layer Link Active not set in 100 msec"]
    assert rig.clock.time == 1022 * MS


def test_11_a_slow_port_with_a_dead_link_gives_up_after_the_first_poll() -> None:
    rig = one(link_dead_after_reset=True)
    assert rig.call(bus_error_reset(rig.core, rig.dev("00:01.0"))) == -25
    assert rig.log(6) == ["<3> pci 0000:01:00.0: not ready 1023ms after bus reset; giving up"]


def test_4_8_no_bus_reset_flag_refuses() -> None:
    rig = one()
    rig.dev("01:00.0").no_bus_reset = True
    assert rig.call(bus_error_reset(rig.core, rig.dev("00:01.0"))) == -25
    assert rig.clock.time == 0


def test_4_8_bus_reset_locks_the_bridge_and_everything_below() -> None:
    rig = Rig()
    port = rig.dev("00:03.0")
    locked = (port, *port.below)
    seen: list[bool] = []
    rig.kernel.call_at(50 * MS, lambda: seen.append(all(dev.device_lock.owner for dev in locked)))
    rig.call(bus_error_reset(rig.core, port))
    assert seen == [True]
    assert not any(dev.device_lock.owner for dev in locked)


def test_short_timing_shortens_every_wait() -> None:
    rig = Rig(timing=TimingSpec(reset_ready_ms=40, reset_settle_ms=10))
    assert rig.call(bus_error_reset(rig.core, rig.dev("00:01.0"))) == -25  # the hardware needs 100 ms
    assert rig.log(6) == ["<3> pci 0000:01:00.0: not ready 31ms after bus reset; giving up"]


def test_4_8_restore_brings_back_control_registers_header_and_masks_and_clears_status() -> None:
    rig = one()
    dev = rig.dev("01:00.0")
    rig.core.write(dev, dev.aer + AER.UNCOR_MASK, 4, 0x00100000)
    rig.core.write(dev, TYPE0.BASE_ADDRESS_0, 4, 0xC0000000)
    save_state(rig.core, dev)
    rig.call(bus_error_reset(rig.core, rig.dev("00:01.0")))
    rig.core.write(dev, dev.aer + AER.UNCOR_MASK, 4, 0)
    rig.hierarchy.functions[dev.sbdf].config.poke(dev.aer + AER.UNCOR_STATUS, 4, 0x40000)
    assert rig.core.read(dev, TYPE0.BASE_ADDRESS_0, 4) == 0
    rig.log(7)
    restore_state(rig.core, dev)
    assert rig.core.read(dev, TYPE0.BASE_ADDRESS_0, 4) == 0xC0000000
    assert rig.core.read(dev, HEADER.COMMAND, 2) == 0x0103
    assert rig.core.read(dev, dev.exp + EXP.DEVCTL, 2) & 0xF == 0xF
    assert rig.aer_reg("01:00.0", AER.UNCOR_MASK) == 0x00100000
    assert rig.uncor_status("01:00.0") == 0
    assert rig.log(7) == [  # 9 to 4 before 3 to 0
        "<7> pci 0000:01:00.0: restore config 0x10: 0x00000000 -> 0xc0000000",
        "<7> pci 0000:01:00.0: restore config 0x04: 0x00100000 -> 0x00100103",
    ]


def test_a_dead_function_is_neither_capable_of_flr_nor_ready_at_once() -> None:
    rig = one(flr=False)
    die(rig.hierarchy.functions[rig.dev("01:00.0").sbdf])
    assert rig.call(pcie_reset_flr(rig.core, rig.dev("01:00.0"))) == -25
    rig = one()
    die(rig.hierarchy.functions[rig.dev("01:00.0").sbdf])
    assert rig.call(pcie_reset_flr(rig.core, rig.dev("01:00.0"))) == -25
    assert rig.clock.time > 60_000 * MS
