"""Event collectors and integrated endpoints, by the rules of linux-aer.md 2.5, 3.9, 4.1, 4.8; no recording has any."""

from __future__ import annotations

from errno import ENODEV
from typing import Any

import pytest

from dom0_pciback.aer.inject import AerInject
from dom0_pciback.aer.probe import aer_probe
from dom0_pciback.pci.rcec import RcecEa, pci_rcec_init, pcie_walk_rcec
from kernel_stub.kernel import MS
from protocol.ers import ErsResult
from protocol.layout_aer import AER
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP
from protocol.layout_rcec import RCEC
from protocol.topology import FunctionSpec
from tests.dom0_pciback.aer.rig import Rig, bind_lab, endpoint

C, R, OK = ErsResult.CAN_RECOVER, ErsResult.NEED_RESET, ErsResult.RECOVERED
COR, NONFATAL, FATAL = 0x1, 0x8000, 0x40000
COLLECTOR = "00:07.0"


def collector(bdf: str = COLLECTOR, *devices: int, buses: tuple[int, int] | None = None, **more: Any) -> FunctionSpec:
    bitmap = sum(1 << device for device in devices)
    return FunctionSpec(bdf, "event_collector", rciep_devices=bitmap, rciep_buses=buses, **more)


def integrated(bdf: str, **more: Any) -> FunctionSpec:
    return FunctionSpec(bdf, "rciep", **more)


def machine(**more: Any) -> Rig:
    """Devices 8 and 9 of bus 0 and everything on bus 0x40 report to 00:07.0, device 10 to nobody."""
    return Rig(
        [
            FunctionSpec("00:01.0", "root_port", secondary=1, subordinate=1),
            endpoint("01:00.0", "00:01.0"),
            collector(COLLECTOR, 8, 9, buses=(0x40, 0x41)),
            *(integrated(bdf, **more) for bdf in ("00:08.0", "00:09.0", "00:09.1", "00:0a.0", "40:00.0", "41:03.0")),
        ]
    )


def leave_status(rig: Rig, bdf: str) -> None:
    """A correctable error that was not reported."""
    dev = rig.dev(bdf)
    rig.hierarchy.functions[dev.sbdf].config.poke(dev.aer + AER.COR_STATUS, 4, 0x40)


# -- hardware ------------------------------------------------------------------------------------------
def test_1_1_the_collector_shows_its_type_class_and_association() -> None:
    rig = machine()
    dev = rig.dev(COLLECTOR)
    assert rig.core.read(dev, dev.exp + EXP.FLAGS, 2) >> 4 & 0xF == 0xA
    assert rig.core.read(dev, HEADER.REVISION_ID, 4) >> 8 == 0x080700
    assert rig.core.read(dev, HEADER.HEADER_TYPE, 1) & 0x7F == 0
    assert dev.rcec_ea == RcecEa(0x300, 0x40, 0x41)
    assert rig.core.read(dev, 0x180, 4) == RCEC.cap_id | 2 << 16
    assert rig.core.read(rig.dev("00:08.0"), rig.dev("00:08.0").exp + EXP.FLAGS, 2) >> 4 & 0xF == 0x9


def test_3_9_without_a_range_only_the_own_bus_counts() -> None:
    rig = Rig([collector(COLLECTOR, 8), integrated("00:08.0"), integrated("40:08.0")])
    assert rig.dev(COLLECTOR).rcec_ea == RcecEa(0x100, 0xFF, 0)
    assert [dev.name for dev in pcie_walk_rcec(rig.core, rig.dev(COLLECTOR))] == ["0000:00:08.0"]


def test_3_9_an_older_capability_has_no_range() -> None:
    rig = Rig([collector(COLLECTOR, 8, buses=(0x40, 0x40)), integrated("40:00.0")])
    dev = rig.dev(COLLECTOR)
    rig.hierarchy.functions[dev.sbdf].config.poke(0x180, 4, RCEC.cap_id | 1 << 16)
    pci_rcec_init(rig.core, dev, 0x180)
    assert dev.rcec_ea == RcecEa(0x100, 0xFF, 0)


@pytest.mark.parametrize("bdf", ["00:08.0", "00:09.1", "40:00.0", "41:03.0"])
def test_3_9_a_message_goes_to_the_associated_collector(bdf: str) -> None:
    rig = machine()
    rig.inject(bdf, cor=COR)
    assert rig.traced("aer.irq") == [("0000:00:07.0", 1, rig.dev(bdf).rid)]
    assert rig.aer_reg(bdf, AER.COR_STATUS) == 0


def test_3_9_without_a_collector_an_endpoint_reports_to_nobody() -> None:
    rig = machine()
    rig.inject("00:0a.0", uncor=NONFATAL)
    assert rig.traced("aer.irq") == []
    assert rig.uncor_status("00:0a.0") == NONFATAL


def test_2_2_the_enables_of_the_endpoint_hold() -> None:
    rig = machine()
    dev = rig.dev("00:08.0")
    rig.core.write(dev, dev.exp + EXP.DEVCTL, 2, 0)
    rig.core.write(dev, HEADER.COMMAND, 2, 0)
    rig.inject("00:08.0", cor=COR, uncor=NONFATAL)
    assert rig.traced("aer.irq") == []


def test_2_3_several_messages_make_one_interrupt() -> None:
    rig = machine()
    interrupts = []
    rig.hierarchy.interrupt = lambda function: interrupts.append(str(function.sbdf))
    for bdf in ("00:08.0", "00:09.0"):
        rig.hierarchy.inject(rig.dev(bdf).sbdf, COR, 0)
    assert interrupts == ["0000:00:07.0"]
    assert rig.aer_reg(COLLECTOR, AER.ROOT_STATUS) == 3
    assert rig.aer_reg(COLLECTOR, AER.ROOT_ERR_SRC) == rig.dev("00:08.0").rid


# -- kernel --------------------------------------------------------------------------------------------
def test_2_5_portdrv_and_the_aer_service_bind_to_a_collector() -> None:
    rig = machine()
    assert "<6> pcieport 0000:00:07.0: AER: enabled with IRQ 25" in rig.boot_log
    assert rig.aer_reg(COLLECTOR, AER.ROOT_COMMAND) == 7
    assert rig.dev("40:00.0").rcec is rig.dev(COLLECTOR)
    assert rig.dev("00:0a.0").rcec is None


def test_3_2_what_endpoints_reported_before_the_probe_is_cleared() -> None:
    rig = machine()
    rig.hierarchy.interrupt = lambda function: None
    rig.hierarchy.inject(rig.dev("00:08.0").sbdf, COR, NONFATAL)
    rig.hierarchy.inject(rig.dev("00:0a.0").sbdf, COR, 0)
    aer_probe(rig.core, rig.dev(COLLECTOR), 25)
    assert rig.aer_reg("00:08.0", AER.COR_STATUS) == rig.uncor_status("00:08.0") == 0
    assert rig.aer_reg("00:0a.0", AER.COR_STATUS) == COR


def test_3_9_a_single_message_may_collect_several_endpoints() -> None:
    """The walk over the endpoints cannot stop early; identifiers on bus 0 are not compared (3.5)."""
    rig = machine()
    leave_status(rig, "00:09.0")
    rig.inject("00:08.0", cor=COR)
    assert [record[0] for record in rig.traced("aer.error")] == ["0000:00:08.0", "0000:00:09.0"]
    assert rig.log()[0].endswith("AER: Correctable error message received from 0000:00:08.0")


def test_3_9_the_collector_itself_comes_first_and_ends_a_single_record() -> None:
    rig = machine()
    leave_status(rig, "00:08.0")
    rig.inject(COLLECTOR, cor=COR)
    assert [record[0] for record in rig.traced("aer.error")] == ["0000:00:07.0"]


def test_3_9_every_hit_beyond_the_fifth_is_announced() -> None:
    rig = Rig([collector(COLLECTOR, *range(8, 16)), *(integrated(f"00:{n:02x}.0") for n in range(8, 16))])
    for number in range(9, 16):
        leave_status(rig, f"00:{number:02x}.0")
    rig.inject("00:08.0", cor=COR)
    exceeded = [line for line in rig.log() if "Exceeded max supported (5)" in line]
    assert [line.split()[2] for line in exceeded] == ["0000:00:0d.0:", "0000:00:0e.0:", "0000:00:0f.0:"]


def test_3_7_the_registers_of_a_collector_are_read_after_a_fatal_error_those_of_an_endpoint_are_not() -> None:
    rig = machine()
    rig.inject("40:00.0", uncor=FATAL)
    rig.inject(COLLECTOR, uncor=FATAL)
    text = "\n".join(rig.log())
    assert "pcieport 0000:00:07.0:    [18] MalfTLP" in text
    assert "pci 0000:40:00.0: AER: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Inaccessible" in text


# -- recovery ------------------------------------------------------------------------------------------
def test_4_1_an_endpoint_is_recovered_alone_by_flr() -> None:
    rig = machine()
    lab = bind_lab(rig, "40:00.0", det_frozen=R, slot=OK)
    other = bind_lab(rig, "41:03.0", det_frozen=R, slot=OK)
    rig.inject("40:00.0", uncor=FATAL)
    assert lab.calls == ["error_detected(FROZEN)", "slot_reset", "resume"]
    assert other.calls == []
    assert rig.log()[-2:] == [
        "<6> lab 0000:40:00.0: AER: has been reset",
        "<6> lab 0000:40:00.0: AER: device recovery successful",
    ]


def test_4_8_an_endpoint_without_flr_is_not_reset() -> None:
    rig = machine(flr=False)
    bind_lab(rig, "40:00.0", det_normal=R, slot=OK)
    rig.inject("40:00.0", uncor=NONFATAL)
    assert rig.log()[-3:] == [
        "<6> lab 0000:40:00.0: AER: not reset (no FLR support: -25)",
        "<4> lab 0000:40:00.0: AER: subordinate device reset failed",
        "<6> lab 0000:40:00.0: AER: device recovery failed",
    ]


def test_4_8_the_collector_is_masked_while_its_endpoint_is_reset() -> None:
    rig = machine()
    bind_lab(rig, "40:00.0", det_frozen=R, slot=OK)
    seen = []
    rig.kernel.call_at(50 * MS, lambda: seen.append(rig.aer_reg(COLLECTOR, AER.ROOT_COMMAND)))
    rig.kernel.call_at(50 * MS, lambda: rig.hierarchy.inject(rig.dev("00:08.0").sbdf, COR, 0))
    rig.inject("40:00.0", uncor=FATAL)
    assert seen == [0]
    assert len(rig.traced("aer.irq")) == 1, "a message during the reset is lost (T26)"
    assert rig.aer_reg(COLLECTOR, AER.ROOT_COMMAND) == 7
    assert rig.aer_reg(COLLECTOR, AER.ROOT_STATUS) == 0


def test_3_9_recovery_of_a_collector_calls_its_own_driver_only() -> None:
    rig = machine()
    lab = bind_lab(rig, "00:08.0", det_normal=C, det_frozen=C, mmio=OK)
    rig.inject(COLLECTOR, uncor=NONFATAL)
    rig.inject(COLLECTOR, uncor=FATAL)
    assert lab.calls == []
    callbacks = [(fields[0], fields[2]) for fields in rig.traced("pci.callback")]
    assert callbacks == [
        ("0000:00:07.0", name) for name in ("error_detected", "mmio_enabled", "error_detected", "slot_reset")
    ]
    assert rig.log()[-2:] == [
        "<6> pcieport 0000:00:07.0: AER: has been reset",
        "<6> pcieport 0000:00:07.0: AER: device recovery successful",
    ]


def test_4_8_a_collector_has_no_root_port_above_so_its_own_reset_leaves_it_deaf() -> None:
    """FLR clears Root Error Command, the image is that of enumeration (errata 4.4), nobody sets it again."""
    rig = machine()
    rig.inject(COLLECTOR, uncor=FATAL)
    assert rig.aer_reg(COLLECTOR, AER.ROOT_COMMAND) == 0
    rig.journal.records.clear()
    rig.inject("00:08.0", cor=COR)
    assert rig.traced("aer.irq") == []


def test_9_1_a_software_injection_into_an_endpoint_goes_to_its_collector() -> None:
    rig = machine()
    injector = AerInject(rig.core, rig.aer)
    assert injector.inject(rig.dev("40:00.0").sbdf, COR, 0, (0, 0, 0, 0)) == 0
    rig.settle()
    assert rig.log()[1] == "<6> pcieport 0000:00:07.0: AER: Correctable error message received from 0000:40:00.0"
    for bdf in ("00:0a.0", COLLECTOR):  # a collector has no root port above and is linked to no collector
        assert injector.inject(rig.dev(bdf).sbdf, COR, 0, (0, 0, 0, 0)) == -ENODEV
    assert "Neither Root Port nor RCEC found" in rig.log()[-1]


# -- statistics ----------------------------------------------------------------------------------------
def test_7_3_a_collector_has_root_files_and_an_endpoint_has_not() -> None:
    rig = machine()
    rig.inject("40:00.0", cor=COR)
    assert rig.aer.stats_text(rig.dev(COLLECTOR), "aer_rootport_total_err_cor") == "1\n"
    with pytest.raises(KeyError):
        rig.aer.stats_text(rig.dev("40:00.0"), "aer_rootport_total_err_cor")
