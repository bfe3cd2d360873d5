"""Older kernels, row by row of linux-aer.md 14, by the specification and old sources alone; none is recorded."""

from __future__ import annotations

import pytest

from dom0_pciback.aer.generation import LINUX_2_6_27, LINUX_6_1, LINUX_7_2, REPORTING
from dom0_pciback.aer.ghes import Ghes
from dom0_pciback.aer.image import aer_image
from dom0_pciback.aer.info import tlp_header_logged
from dom0_pciback.aer.names import Words
from dom0_pciback.aer.names_old import WORDS_2_6_27, WORDS_6_1
from dom0_pciback.aer.recovery import GENERATIONS
from dom0_pciback.pcie.errors import detect_uncorrectable
from protocol.ers import ErsResult, Severity
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.topology import FunctionSpec
from tests.dom0_pciback.aer.rig import Rig, bind_lab, endpoint

OLD, BOXED, NOW = "linux-6.1", "linux-2.6.27", "linux-7.2"
C, N, F = Severity.CORRECTABLE, Severity.NONFATAL, Severity.FATAL
R, OK = ErsResult.NEED_RESET, ErsResult.RECOVERED


def test_14_both_tables_have_the_same_generations() -> None:
    assert list(REPORTING) == list(GENERATIONS) == [NOW, OLD, BOXED]
    assert all(name == row.name for name, row in REPORTING.items())


def machine(generation: str, **answers: int) -> Rig:
    rig = Rig(generation=generation)
    bind_lab(rig, "01:00.0", det_normal=R, det_frozen=R, slot=OK, **answers)
    return rig


# -- linux-6.1 -----------------------------------------------------------------------------------------
def test_14_an_error_with_a_header() -> None:
    rig = machine(OLD)
    rig.inject("01:00.0", uncor=0x100000)
    assert rig.log()[:5] == [
        "<6> pcieport 0000:00:01.0: AER: Uncorrectable (Non-Fatal) error received: 0000:01:00.0",
        "<3> lab 0000:01:00.0: PCIe Bus Error: severity=Uncorrectable (Non-Fatal), type=Transaction Layer, "
        "(Requester ID)",
        "<3> lab 0000:01:00.0:   device [1af4:1041] error status/mask=00100000/02400000",
        "<3> lab 0000:01:00.0:    [20] UnsupReq               (First)",
        "<3> lab 0000:01:00.0: AER:   TLP Header: 00000001 00000002 00000003 00000004",
    ]


def test_14_nobody_found_is_an_extra_line() -> None:
    rig = machine(OLD)
    rig.core.devices.pop(rig.dev("01:00.0").sbdf)
    root = rig.dev("00:01.0")
    root.below = ()
    rig.inject("01:00.0", cor=1)
    assert rig.log() == [
        "<6> pcieport 0000:00:01.0: AER: Correctable error received: 0000:01:00.0",
        "<6> pcieport 0000:00:01.0: AER: can't find device of ID0100",
    ]


@pytest.mark.parametrize(
    ("words", "severity", "status", "layer", "agent"),
    [
        (WORDS_6_1, N, 0x100000, "Transaction Layer", "Requester ID"),
        (WORDS_6_1, N, 0x4000, "Transaction Layer", "Requester ID"),
        (WORDS_6_1, N, 0x108000, "Transaction Layer", "Completer ID"),
        (WORDS_6_1, F, 0x400000, "Transaction Layer", "Receiver ID"),
        (WORDS_6_1, F, 0x20, "Transaction Layer", "Receiver ID"),
        (WORDS_6_1, F, 0x10, "Data Link Layer", "Receiver ID"),
        (WORDS_6_1, N, 0x3000000, "Transaction Layer", "Receiver ID"),
        (WORDS_6_1, C, 0x4000, "Transaction Layer", "Receiver ID"),
        (WORDS_6_1, C, 0x181, "Physical Layer", "Transmitter ID"),
        (WORDS_2_6_27, C, 0x1, "Physical Layer", "Receiver ID"),
        (WORDS_2_6_27, C, 0x1000, "Data Link Layer", "Transmitter ID"),
        (WORDS_2_6_27, N, 0x1000, "Transaction Layer", "Receiver ID"),
        (WORDS_2_6_27, C, 0x4000, "Transaction Layer", "Requester ID"),
        (WORDS_2_6_27, F, 0x1, "Physical Layer", "Receiver ID"),
    ],
)
def test_14_layers_and_agents(words: Words, severity: Severity, status: int, layer: str, agent: str) -> None:
    assert (words.layer(severity, status), words.agent(severity, status)) == (layer, agent)


def test_14_bits_above_26_have_neither_name_nor_counter() -> None:
    rig = machine(OLD)
    rig.inject("01:00.0", uncor=1 << 27)
    assert "<3> lab 0000:01:00.0:    [27] Unknown Error Bit      (First)" in rig.log()
    text = rig.aer.stats_text(rig.dev("01:00.0"), "aer_dev_nonfatal").splitlines()
    assert text[-2:] == ["PoisonTLPBlocked 0", "TOTAL_ERR_NONFATAL 1"]
    assert not [line for line in text if "_bit[" in line]


def test_14_an_inaccessible_record_is_not_counted() -> None:
    totals = {}
    for generation in (OLD, NOW):
        rig = machine(generation)
        rig.inject("01:00.0", uncor=0x40000)
        totals[generation] = rig.aer.stats_text(rig.dev("01:00.0"), "aer_dev_fatal").splitlines()[-1]
    assert totals == {OLD: "TOTAL_ERR_FATAL 0", NOW: "TOTAL_ERR_FATAL 1"}


@pytest.mark.parametrize(
    ("status", "control", "old", "now"),
    [
        (1 << 12, 0, True, True),
        (1 << 20, 0, True, True),
        (1 << 21, 0, False, True),
        (1 << 26, 0, False, True),
        (1 << 14, 0x1000, False, True),
        (1 << 14, 0, False, False),
        (1 << 4, 0, False, False),
    ],
)
def test_14_header_valid_bits(status: int, control: int, old: bool, now: bool) -> None:
    assert tlp_header_logged(status, control, LINUX_6_1) is old
    assert tlp_header_logged(status, control, LINUX_7_2) is now


def test_14_a_masked_bit_makes_the_header_valid() -> None:
    for generation, wanted in ((OLD, True), (NOW, False)):
        rig = machine(generation)
        dev = rig.dev("01:00.0")
        rig.core.write(dev, dev.aer + AER.UNCOR_MASK, 4, 0x1000)
        rig.hierarchy.functions[dev.sbdf].config.poke(dev.aer + AER.UNCOR_STATUS, 4, 0x1000)
        rig.inject("01:00.0", uncor=0x4000)
        assert any("TLP Header" in line for line in rig.log()) is wanted


def test_14_there_are_no_rate_limits() -> None:
    rig = machine(OLD)
    for _ in range(15):
        rig.inject("01:00.0", cor=1)
    assert len([line for line in rig.log() if "error received" in line]) == 15


def test_14_the_trace_event_comes_after_printing_with_four_dwords() -> None:
    for generation, labels in ((OLD, ["printk", "aer.error"]), (NOW, ["aer.error", "printk"])):
        rig = machine(generation)
        function = rig.hierarchy.functions[rig.dev("01:00.0").sbdf]
        detect_uncorrectable(function, 15, header=(1, 2, 3, 4), prefixes=(5,))
        rig.settle()
        found = [r[2] for r in rig.journal.records if r[2] == "aer.error" or "PCIe Bus Error" in str(r[-1])]
        assert found == labels
        header = rig.traced("aer.error")[0][3]
        assert header == ([1, 2, 3, 4] if generation == OLD else [1, 2, 3, 4, 5, 0, 0, 0])


def test_14_the_search_by_status_leaves_out_what_no_driver_enabled() -> None:
    for generation, wanted in ((OLD, ["0000:02:00.0"]), (NOW, ["0000:02:00.0", "0000:02:00.1"])):
        rig = Rig(generation=generation)
        bind_lab(rig, "02:00.0", det_normal=OK)
        several(rig, "02:00.0", "02:00.1")
        assert [fields[0] for fields in rig.traced("aer.error")] == wanted


def several(rig: Rig, *bdfs: str) -> None:
    """Correctable errors of several functions, one interrupt; every one of them is named as first in turn."""
    handler = rig.hierarchy.interrupt
    rig.hierarchy.interrupt = lambda function: None
    for bdf in bdfs:
        rig.hierarchy.inject(rig.dev(bdf).sbdf, 0x40, 0)
    rig.hierarchy.interrupt = handler
    handler(rig.hierarchy.functions[rig.dev(bdfs[0]).root.sbdf])
    rig.settle()


def test_14_a_sixth_reporter_is_left_out_silently() -> None:
    functions = [f"01:00.{number}" for number in range(6)]
    for generation, wanted in ((OLD, 0), (NOW, 1)):
        port = FunctionSpec("00:01.0", "root_port", secondary=1, subordinate=1)
        rig = Rig([port, *(endpoint(bdf, "00:01.0") for bdf in functions)], generation=generation)
        for bdf in functions:
            bind_lab(rig, bdf, det_normal=OK)
        several(rig, *functions)
        assert len([line for line in rig.log() if "Exceeded" in line]) == wanted
        assert len(rig.traced("aer.error")) == 5


def ghes(rig: Rig, bdf: str, severity: Severity, uncor: int = 0, cor: int = 0) -> None:
    image = [0, uncor, 0, 0x462030, cor, 0, 0, 1, 2, 3, 4]
    regs = aer_image(b"".join(dword.to_bytes(4, "little") for dword in image).ljust(96, b"\0"))
    delivery: Ghes = rig.aer.ghes
    delivery.aer_recover_queue(Sbdf.parse(bdf), severity, regs)
    rig.settle()


def test_14_what_the_firmware_reports_has_the_prefix_and_is_an_error() -> None:
    rig = machine(OLD)
    ghes(rig, "01:00.0", C, cor=1)
    assert rig.log() == [
        "<3> lab 0000:01:00.0: AER: aer_status: 0x00000001, aer_mask: 0x00000000",
        "<4> lab 0000:01:00.0:    [ 0] RxErr                  (First)",
        "<3> lab 0000:01:00.0: AER: aer_layer=Physical Layer, aer_agent=Receiver ID",
    ]
    ghes(rig, "0001:09:1f.7", C, cor=1)
    assert rig.log() == ["<3> AER: no pci_dev for 0001:09:1f.7"]


# -- linux-2.6.27 --------------------------------------------------------------------------------------
def test_2008_the_block_of_an_error() -> None:
    rig = machine(BOXED)
    rig.inject("01:00.0", uncor=0x8000)
    assert rig.log()[:8] == [
        "<3> +------ PCI-Express Device Error ------+",
        "<3> Error Severity\t\t: Uncorrected (Non-Fatal)",
        "<3> PCIE Bus Error type\t: Transaction Layer",
        "<3> Completer Abort       \t: First",
        "<3> Completer ID\t\t: 0100",
        "<3> VendorID=1af4h, DeviceID=1041h, Bus=01h, Device=00h, Function=00h",
        "<3> TLP Header:",
        "<3> 00000001 00000002 00000003 00000004",
    ]


def test_2008_the_block_of_a_fatal_error() -> None:
    rig = machine(BOXED)
    rig.inject("01:00.0", uncor=0x40000)
    assert rig.log()[:5] == [
        "<3> +------ PCI-Express Device Error ------+",
        "<3> Error Severity\t\t: Uncorrected (Fatal)",
        "<3> PCIE Bus Error type\t: (Unaccessible)",
        "<3> Unaccessible Received\t: First",
        "<3> Unregistered Agent ID\t: 0100",
    ]


def test_2008_an_unnamed_bit_and_several_messages() -> None:
    rig = machine(BOXED)
    several(rig, "02:00.0", "02:00.1")
    assert "<4> Bad TLP               \t: Multiple" in rig.log()
    assert [fields[0] for fields in rig.traced("aer.error")] == ["0000:02:00.0"], "one device per message class"
    rig.inject("01:00.0", uncor=1 << 21)
    assert "<3> Unknown Error Bit 21  \t: First" in rig.log()


def test_2008_nobody_found_is_a_debug_line() -> None:
    rig = machine(BOXED)
    rig.dev("00:01.0").below = ()
    rig.inject("01:00.0", cor=1)
    assert rig.log(7) == ["<7> aer_isr_one_error->can't find device of ID0100"]
    assert LINUX_2_6_27.source_line == ""
