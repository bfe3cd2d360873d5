"""Removal and rescan: what the kernel forgets, in which order it says so, and what it finds again."""

from __future__ import annotations

from dom0_pciback.pci.driver import ErrorHandlers, PciDriver
from dom0_pciback.pci.remove import pci_stop_and_remove_bus_device
from dom0_pciback.pci.rescan import pci_rescan_bus
from kernel_stub.kernel import MS
from protocol.ers import ErsResult, Severity
from protocol.ids import Sbdf
from tests.dom0_pciback.aer.rig import Rig, bind_lab

SWITCH = ["0000:03:00.0", "0000:04:00.0", "0000:05:00.0", "0000:04:01.0", "0000:06:00.0"]


def names(rig: Rig) -> list[str]:
    return [dev.name for dev in rig.core.devices.values()]


def uevents(rig: Rig, *actions: str) -> list[tuple[str, str]]:
    return [(bdf, action) for bdf, action, *_ in rig.traced("uevent") if action in actions]


def test_a_bridge_goes_after_what_is_below_it_and_comes_back_before() -> None:
    rig = Rig()
    known = names(rig)
    rig.call(pci_stop_and_remove_bus_device(rig.core, rig.dev("03:00.0")))
    order = ["0000:06:00.0", "0000:04:01.0", "0000:05:00.0", "0000:04:00.0", "0000:03:00.0"]
    assert uevents(rig, "remove") == [(bdf, "remove") for bdf in order]
    assert [name for name in known if name not in names(rig)] == SWITCH
    assert rig.dev("00:03.0").below == ()
    assert [dev.name for dev in rig.call(pci_rescan_bus(rig.core))] == SWITCH
    assert names(rig) == known
    assert [dev.name for dev in rig.dev("00:03.0").below] == SWITCH
    assert uevents(rig, "add") == [(bdf, "add") for bdf in SWITCH]


def test_the_driver_meant_for_a_function_is_bound_when_it_is_found() -> None:
    rig = Rig()
    driver = PciDriver("lab2")
    rig.core.register_driver(driver)
    rig.core.wanted[Sbdf.parse("01:00.0")] = "lab2"
    rig.call(pci_stop_and_remove_bus_device(rig.core, rig.dev("01:00.0")))
    rig.call(pci_rescan_bus(rig.core))
    assert rig.dev("01:00.0").driver is driver
    assert rig.call(pci_rescan_bus(rig.core)) == []


def test_what_does_not_answer_is_not_found() -> None:
    rig = Rig()
    rig.call(pci_stop_and_remove_bus_device(rig.core, rig.dev("01:00.0")))
    rig.hierarchy.functions[Sbdf.parse("01:00.0")].set_ready_at(-1)
    assert rig.call(pci_rescan_bus(rig.core)) == []


def test_6_2_a_removed_function_stays_in_the_walk_until_the_recovery_ends() -> None:
    rig = Rig()
    gone: list[int] = []

    async def slow(dev: object, state: object) -> int:
        await rig.kernel.sleep(5 * MS)
        return ErsResult.CAN_RECOVER

    dev = rig.dev("02:00.1")
    rig.bind("02:00.1", PciDriver("slow", ErrorHandlers(error_detected=slow)))
    bind_lab(rig, "02:00.0", det_normal=ErsResult.CAN_RECOVER)

    async def remove() -> None:
        await pci_stop_and_remove_bus_device(rig.core, dev)
        gone.append(rig.kernel.now())

    def start() -> None:
        rig.kernel.spawn(remove(), "remove")

    rig.kernel.call_at(MS, start)
    rig.inject("02:00.0", uncor=1 << 15)
    end = next(record[0] for record in rig.journal.records if record[2] == "recovery.end")
    assert gone[0] >= end
    assert "0000:02:00.1" in [record[3] for record in rig.journal.records if record[2] == "recovery.report"]
    assert dev.devpath == "/0000:02:00.1"


def test_a_new_function_has_new_counters() -> None:
    rig = Rig()
    rig.inject("01:00.0", cor=1)
    assert rig.dev("01:00.0").aer_info.stats.totals[Severity.CORRECTABLE] == 1  # type: ignore[union-attr]
    rig.call(pci_stop_and_remove_bus_device(rig.core, rig.dev("01:00.0")))
    rig.call(pci_rescan_bus(rig.core))
    assert not any(rig.dev("01:00.0").aer_info.stats.totals.values())  # type: ignore[union-attr]
