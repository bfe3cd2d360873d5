"""From the interrupt to the devices (linux-aer.md 3.3 to 3.5, 3.7)."""

from __future__ import annotations

import pytest

from dom0_pciback.aer.info import ErrorRecord, aer_get_device_error_info
from dom0_pciback.aer.irq import AER_ERROR_SOURCES_MAX, aer_irq
from dom0_pciback.aer.source import IS_ERROR_SOURCE, find_source_device, is_error_source
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import ErrorHandlers, PciDriver
from protocol.ers import Severity
from protocol.layout_aer import AER
from protocol.layout_pcie import EXP
from tests.dom0_pciback.aer.rig import Rig, endpoint, small_host

COR, NONFATAL, FATAL = Severity.CORRECTABLE, Severity.NONFATAL, Severity.FATAL


def poke(rig: Rig, bdf: str, register: int, value: int) -> None:
    dev = rig.dev(bdf)
    rig.hierarchy.functions[dev.sbdf].config.poke(dev.aer + register, 4, value)


def label(rig: Rig, bdf: str, rid: int, *, multi: bool, severity: Severity = COR) -> str:
    return is_error_source(rig.core, rig.dev(bdf), ErrorRecord(rid, severity, multi)).label


def test_3_5_each_row_decides() -> None:
    rig = Rig()
    poke(rig, "02:00.0", AER.COR_STATUS, 1)
    poke(rig, "02:00.1", AER.COR_STATUS, 0x2000)  # masked
    assert label(rig, "02:00.1", 0x0201, multi=False) == "id-match"
    assert label(rig, "02:00.0", 0x0201, multi=False) == "id-names-another"
    assert label(rig, "02:00.0", 0x0201, multi=True) == "status-set"
    assert label(rig, "02:00.1", 0x0200, multi=True) == "nothing-set"
    assert label(rig, "02:00.0", 0x0201, multi=True, severity=NONFATAL) == "nothing-set"
    dev = rig.dev("02:00.0")
    rig.core.write(dev, dev.exp + EXP.DEVCTL, 2, 0)
    assert label(rig, "02:00.0", 0x0201, multi=True) == "reporting-off"
    assert label(rig, "02:00.0", 0x0200, multi=True) == "id-match"  # needs neither AER nor status
    assert [row.label for row in IS_ERROR_SOURCE][-1] == "nothing-set"


def test_3_5_a_function_without_aer_is_only_found_by_its_id() -> None:
    rig = Rig([*small_host()[:3], endpoint("02:00.0", "00:02.0", aer=False)])
    dev = rig.dev("02:00.0")
    rig.core.write(dev, dev.exp + EXP.DEVCTL, 2, 0xF)
    assert label(rig, "02:00.0", 0, multi=True) == "no-aer"
    assert label(rig, "02:00.0", 0x0200, multi=False) == "id-match"
    assert not aer_get_device_error_info(rig.core, dev, ErrorRecord(0x0200, FATAL, False))


def test_3_5_ids_on_bus_0_are_never_compared() -> None:
    rig = Rig()
    assert label(rig, "00:01.0", 0x0008, multi=False) == "nothing-set"
    poke(rig, "00:01.0", AER.COR_STATUS, 0x40)
    assert label(rig, "00:01.0", 0x0010, multi=False) == "status-set"


def test_3_5_a_single_record_ends_at_the_first_hit_the_root_first() -> None:
    rig = Rig()
    for bdf in ("00:02.0", "02:00.0", "02:00.1"):
        poke(rig, bdf, AER.UNCOR_STATUS, 0x8000)
    for multi, found in ((False, ["00:02.0"]), (True, ["00:02.0", "02:00.0", "02:00.1"])):
        record = ErrorRecord(0, NONFATAL, multi)
        assert find_source_device(rig.core, rig.dev("00:02.0"), record)
        assert [dev.name[5:] for dev in record.devs] == found


@pytest.mark.parametrize(
    ("bdf", "severity", "reads"),
    [("01:00.0", FATAL, False), ("03:00.0", FATAL, False), ("00:01.0", FATAL, True), ("04:00.0", FATAL, True),
     ("01:00.0", NONFATAL, True)],
)  # fmt: skip
def test_3_7_who_is_read_after_a_fatal_error(bdf: str, severity: Severity, reads: bool) -> None:
    rig = Rig()
    poke(rig, bdf, AER.UNCOR_STATUS, 0x8000)
    record = ErrorRecord(0x0100, severity, False)
    assert aer_get_device_error_info(rig.core, rig.dev(bdf), record)
    assert record.status == (0x8000 if reads else 0)
    assert (record.tlp is not None) is reads


def test_3_3_irq_clears_exactly_what_it_saw_and_ignores_others() -> None:
    rig = Rig()
    rpc = rig.aer.roots[rig.dev("00:01.0").sbdf]
    assert aer_irq(rpc) is False
    poke(rig, "00:01.0", AER.ROOT_STATUS, 0x3)
    poke(rig, "00:01.0", AER.ROOT_ERR_SRC, 0x0100)
    assert aer_irq(rpc) is True
    assert list(rpc.fifo) == [(0x3, 0x0100)]
    assert rig.aer_reg("00:01.0", AER.ROOT_STATUS) == 0
    assert rig.log() == []  # no message in interrupt context


def test_t28_the_129th_entry_is_lost_in_silence_with_its_status_cleared() -> None:
    rig = Rig()
    rpc = rig.aer.roots[rig.dev("00:01.0").sbdf]
    for _ in range(AER_ERROR_SOURCES_MAX + 1):
        poke(rig, "00:01.0", AER.ROOT_STATUS, 1)
        assert aer_irq(rpc) is True
    assert len(rpc.fifo) == 128
    assert len(rig.traced("aer.lost")) == 1
    assert rig.aer_reg("00:01.0", AER.ROOT_STATUS) == 0
    assert rig.log() == []


def test_t24_a_correctable_status_is_written_back_with_masked_bits() -> None:
    rig = Rig()
    seen: list[tuple[int, bool]] = []

    async def cor_error_detected(dev: PciDev) -> None:
        seen.append((rig.aer_reg("01:00.0", AER.COR_STATUS), dev.device_lock.owner is None))

    rig.bind("01:00.0", PciDriver("cxl_pci", ErrorHandlers(cor_error_detected=cor_error_detected)))
    rig.inject("01:00.0", cor=0x2001)
    assert seen == [(0, True)]
    dev = rig.dev("01:00.0")
    assert rig.core.read(dev, dev.exp + EXP.DEVSTA, 2) & 0xF == 0
    assert rig.traced("recovery.begin") == []
    assert rig.traced("pci.callback") == [("0000:01:00.0", "cxl_pci", "cor_error_detected", "", "")]
    assert rig.traced("aer.error") == [("0000:01:00.0", "CORRECTABLE", 1, [])]
