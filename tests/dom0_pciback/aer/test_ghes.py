"""Firmware first, by linux-aer.md 3.10 and 5.8 alone: format strings and rules, no recording."""

from __future__ import annotations

import struct

import pytest

from dom0_pciback.aer.ghes import aer_severity
from dom0_pciback.aer.image import aer_image
from dom0_pciback.pcie.firmware import Firmware
from protocol.cper import PCIE_SECTION, CperSeverity, PcieSection, Section, Valid, pack_pcie, pack_status_block
from protocol.ers import ErsResult, Severity
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_pcie import EXP
from protocol.topology import BootSpec, FunctionSpec
from tests.dom0_pciback.aer.rig import Rig, bind_lab

R, OK = ErsResult.NEED_RESET, ErsResult.RECOVERED
RESET = 4
BOTH = Valid.DEVICE_ID | Valid.AER_INFO


def machine(functions: list[FunctionSpec] | None = None) -> Rig:
    """A kernel without AER, and firmware that delivers to it."""
    return Rig(functions, boot=BootSpec(firmware_first=True))


def registers(uncor: int = 0, cor: int = 0, control: int = 0, more: tuple[int, ...] = ()) -> bytes:
    """AER information of a record: masks and severities as after a reset, header 1 to 4, then ``more`` dwords."""
    image = struct.pack("<11I", 0x10001, uncor, 0x02400000, 0x00462030, cor, 0xE000, control, 1, 2, 3, 4)
    return (image + b"".join(dword.to_bytes(4, "little") for dword in more)).ljust(96, b"\0")


def record(bdf: str, severity: CperSeverity, info: bytes, flags: int = 0, valid: int = BOTH) -> bytes:
    section = PcieSection(valid, Sbdf.parse(bdf), 0, 0, 0, 0, 0, 0, aer_info=info)
    return pack_status_block([Section(PCIE_SECTION, severity, flags, pack_pcie(section))])


# -- severities ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("severity", "flags", "wanted"),
    [
        (CperSeverity.RECOVERABLE, 0, Severity.NONFATAL),
        (CperSeverity.FATAL, 0, Severity.FATAL),
        (CperSeverity.CORRECTED, 0, Severity.CORRECTABLE),
        (CperSeverity.INFORMATIONAL, 0, Severity.CORRECTABLE),
        (99, 0, Severity.CORRECTABLE),
        (CperSeverity.RECOVERABLE, RESET, Severity.FATAL),
        (CperSeverity.CORRECTED, RESET, Severity.FATAL),
    ],
)
def test_3_10_severity(severity: int, flags: int, wanted: Severity) -> None:
    assert aer_severity(Section(PCIE_SECTION, severity, flags, b"")) is wanted


@pytest.mark.parametrize("valid", [0, Valid.DEVICE_ID, Valid.AER_INFO])
def test_3_10_without_device_and_registers_a_record_is_ignored(valid: int) -> None:
    rig = machine()
    assert rig.aer.ghes.notify(record("01:00.0", CperSeverity.RECOVERABLE, registers(0x8000), valid=valid)) == 0
    rig.settle()
    assert rig.log() == []


def test_3_10_other_sections_are_ignored() -> None:
    rig = machine()
    assert rig.aer.ghes.notify(pack_status_block([Section(bytes(16), CperSeverity.FATAL, 0, b"memory")])) == 0


# -- what is printed -----------------------------------------------------------------------------------
def test_5_8_an_uncorrectable_error() -> None:
    rig = machine()
    bind_lab(rig, "01:00.0", det_normal=R, slot=OK)
    rig.aer.ghes.notify(record("01:00.0", CperSeverity.RECOVERABLE, registers(0x8000, control=15)))
    rig.settle()
    assert rig.log() == [
        "<3> lab 0000:01:00.0: aer_status: 0x00008000, aer_mask: 0x02400000",
        "<3> lab 0000:01:00.0:    [15] CmpltAbrt              (First)",
        "<3> lab 0000:01:00.0: aer_layer=Transaction Layer, aer_agent=Completer ID",
        "<3> lab 0000:01:00.0: aer_uncor_severity: 0x00462030",
        "<3> lab 0000:01:00.0: AER:   TLP Header: 0x00000001 0x00000002 0x00000003 0x00000004",
        "<6> pcieport 0000:00:01.0: AER: Root Port link has been reset (0)",
        "<6> pcieport 0000:00:01.0: AER: device recovery successful",
    ]
    assert rig.traced("aer.error") == [("0000:01:00.0", "NONFATAL", 0x8000, [1, 2, 3, 4, *[0] * 10])]
    assert "CmpltAbrt 1\n" in rig.aer.stats_text(rig.dev("01:00.0"), "aer_dev_nonfatal")


def test_5_8_a_correctable_error_is_printed_and_nothing_else() -> None:
    rig = machine()
    rig.aer.ghes.notify(record("01:00.0", CperSeverity.CORRECTED, registers(cor=0x2041)))
    rig.settle()
    assert rig.log() == [
        "<4> pci 0000:01:00.0: aer_status: 0x00002041, aer_mask: 0x0000e000",
        "<4> pci 0000:01:00.0:    [ 0] RxErr                  (First)",
        "<4> pci 0000:01:00.0:    [ 6] BadTLP                ",
        "<4> pci 0000:01:00.0: aer_layer=Physical Layer, aer_agent=Receiver ID",
    ]
    assert rig.traced("recovery.begin") == []


def test_5_8_a_header_that_does_not_belong_to_the_error_is_not_printed() -> None:
    rig = machine()
    rig.aer.ghes.notify(record("01:00.0", CperSeverity.FATAL, registers(0x10)))
    rig.settle()
    assert not [line for line in rig.log() if "TLP Header" in line]
    assert rig.traced("recovery.begin") == [("0000:01:00.0", "FROZEN")]


def test_5_8_root_registers_appear_as_prefixes() -> None:
    """The kernel's image has 14 header dwords, the record four: root command and status follow."""
    log = aer_image(registers(0x8000, more=(7, 0x24, 0x01000000, 5, 6))).log
    assert log.dwords[:7] == [1, 2, 3, 4, 7, 0x24, 0x01000000]
    rig = machine()
    rig.aer.ghes.notify(record("00:01.0", CperSeverity.RECOVERABLE, registers(0x8000, more=(7, 0x24, 0x100, 5, 6))))
    rig.settle()
    header = next(line for line in rig.log() if "TLP Header" in line)
    assert header.endswith(" E-E Prefixes: 0x00000007 0x00000024 0x00000100 0x00000005")


def test_6_1_the_limiter_of_the_device_applies_and_counters_do_not_care() -> None:
    rig = machine()
    for _ in range(12):
        rig.aer.ghes.notify(record("01:00.0", CperSeverity.CORRECTED, registers(cor=1)))
        rig.settle()
    assert len([line for line in rig.log() if "aer_status" in line]) == 10
    assert len(rig.traced("aer.error")) == 12
    assert rig.aer.stats_text(rig.dev("01:00.0"), "aer_dev_correctable").endswith("TOTAL_ERR_COR 12\n")


# -- ring ----------------------------------------------------------------------------------------------
def test_3_10_a_17th_waiting_error_is_lost() -> None:
    rig = machine()
    for _ in range(17):
        rig.aer.ghes.notify(record("01:00.0", CperSeverity.CORRECTED, registers(cor=1)))
    rig.settle()
    log = rig.log()
    assert log[0] == "<3> AER: buffer overflow in recovery for 0000:01:00.0"
    assert len(rig.traced("aer.error")) == 16


def test_3_10_an_unknown_device() -> None:
    rig = machine()
    for _ in range(12):
        rig.aer.ghes.notify(record("0001:09:1f.7", CperSeverity.FATAL, registers(0x10)))
        rig.settle()
    assert rig.log() == ["<3> AER: 0001:09:1f.7: no pci_dev found"] * 10
    rig.settle(rig.clock.time + 6_000_000_000)
    rig.aer.ghes.notify(record("0001:09:1f.7", CperSeverity.FATAL, registers(0x10)))
    rig.settle()
    assert rig.log()[0] == "<4> aer_recover_work_func: 2 callbacks suppressed"


def test_4_2_recovery_clears_nothing() -> None:
    rig = machine()
    bind_lab(rig, "01:00.0", det_normal=OK)
    rig.hierarchy.interrupt = lambda function: None
    rig.inject("01:00.0", uncor=0x8000)
    rig.aer.ghes.notify(record("01:00.0", CperSeverity.RECOVERABLE, registers(0x8000)))
    rig.settle()
    assert rig.traced("recovery.end")[0][2] == "successful"
    assert rig.uncor_status("01:00.0") == 0x8000


# -- the firmware itself -------------------------------------------------------------------------------
def with_firmware(functions: list[FunctionSpec] | None = None) -> Rig:
    rig = machine(functions)
    Firmware(rig.hierarchy).notify = rig.aer.ghes.notify
    return rig


def test_3_10_the_firmware_reads_clears_and_reports() -> None:
    rig = with_firmware()
    lab = bind_lab(rig, "01:00.0", det_normal=R, slot=OK)
    rig.inject("01:00.0", uncor=0x8000)
    assert rig.log()[0] == "<3> lab 0000:01:00.0: aer_status: 0x00008000, aer_mask: 0x02400000"
    assert lab.calls == ["error_detected(NORMAL)", "slot_reset", "resume"]
    assert rig.uncor_status("01:00.0") == rig.aer_reg("00:01.0", AER.ROOT_STATUS) == 0
    dev = rig.dev("01:00.0")
    assert rig.core.read(dev, dev.exp + EXP.DEVSTA, 2) & 0xF == 0
    assert rig.traced("aer.irq") == []


def test_3_10_an_uncorrectable_and_a_correctable_error_are_two_records() -> None:
    rig = with_firmware()
    rig.inject("01:00.0", cor=1)
    rig.inject("01:00.0", uncor=0x40000)
    assert [fields[1] for fields in rig.traced("aer.error")] == ["CORRECTABLE", "FATAL"]


def test_3_10_several_reporters_have_a_record_each() -> None:
    rig = with_firmware()
    firmware = rig.hierarchy.interrupt
    rig.hierarchy.interrupt = lambda function: None
    for bdf in ("02:00.0", "02:00.1"):
        rig.inject(bdf, cor=0x40)
    firmware(rig.hierarchy.functions[rig.dev("00:02.0").sbdf])
    rig.settle()
    assert [fields[0] for fields in rig.traced("aer.error")] == ["0000:02:00.0", "0000:02:00.1"]


def test_3_10_an_endpoint_of_a_collector() -> None:
    rig = with_firmware(
        [FunctionSpec("00:07.0", "event_collector", rciep_devices=0x100), FunctionSpec("00:08.0", "rciep")]
    )
    rig.inject("00:08.0", cor=1)
    assert rig.traced("aer.error") == [("0000:00:08.0", "CORRECTABLE", 1, [])]
