"""The kernel log of an error, letter for letter (linux-aer.md 5.2 to 5.6)."""

from __future__ import annotations

import pytest

from dom0_pciback.aer.names import WORDS
from dom0_pciback.aer.tlp_log import TlpLog, tlp_log_text
from protocol.ers import ErsResult, Severity
from protocol.layout_aer import AER
from protocol.topology import FunctionSpec
from tests.dom0_pciback.aer.rig import Rig, bind_lab, endpoint


def e1000e_rig() -> Rig:
    """The devices of the worked examples: e1000e at 01:00.0 below 00:02.0."""
    rig = Rig([
        FunctionSpec("00:02.0", "root_port", secondary=1, subordinate=1),
        endpoint("01:00.0", "00:02.0", vendor=0x8086, device=0x10D3),
    ])  # fmt: skip
    bind_lab(rig, "01:00.0", "e1000e", det_normal=ErsResult.NEED_RESET, det_frozen=ErsResult.NEED_RESET,
             slot=ErsResult.RECOVERED)  # fmt: skip
    return rig


def set_first_error(rig: Rig, bdf: str, status: int, mask: int | None = None) -> None:
    """Put a raw status into the device without touching its First Error Pointer, as aer_inject does."""
    dev = rig.dev(bdf)
    config = rig.hierarchy.functions[dev.sbdf].config
    config.poke(dev.aer + AER.UNCOR_STATUS, 4, status)
    if mask is not None:
        config.poke(dev.aer + AER.UNCOR_MASK, 4, mask)


def test_5_5_correctable_one_bit() -> None:
    rig = e1000e_rig()
    rig.inject("01:00.0", cor=1)
    assert rig.log() == [
        "<6> pcieport 0000:00:02.0: AER: Correctable error message received from 0000:01:00.0",
        "<4> e1000e 0000:01:00.0: PCIe Bus Error: severity=Correctable, type=Physical Layer, (Receiver ID)",
        "<4> e1000e 0000:01:00.0:   device [8086:10d3] error status/mask=00000001/0000e000",
        "<4> e1000e 0000:01:00.0:    [ 0] RxErr                  (First)",
    ]
    assert rig.aer_reg("01:00.0", AER.COR_STATUS) == 0


def test_5_5_correctable_with_an_unnamed_bit() -> None:
    rig = e1000e_rig()
    dev = rig.dev("01:00.0")
    rig.hierarchy.functions[dev.sbdf].config.poke(dev.aer + AER.COR_STATUS, 4, 0x42)
    rig.inject("01:00.0", cor=1)
    assert rig.log()[1:] == [
        "<4> e1000e 0000:01:00.0: PCIe Bus Error: severity=Correctable, type=Physical Layer, (Receiver ID)",
        "<4> e1000e 0000:01:00.0:   device [8086:10d3] error status/mask=00000043/0000e000",
        "<4> e1000e 0000:01:00.0:    [ 0] RxErr                  (First)",
        "<4> e1000e 0000:01:00.0:    [ 1] Unknown Error Bit     ",
        "<4> e1000e 0000:01:00.0:    [ 6] BadTLP                ",
    ]


def test_5_5_nonfatal_with_header_and_reset() -> None:
    rig = e1000e_rig()
    rig.inject("01:00.0", uncor=0x8000)
    assert rig.log() == [
        "<6> pcieport 0000:00:02.0: AER: Uncorrectable (Non-Fatal) error message received from 0000:01:00.0",
        "<3> e1000e 0000:01:00.0: PCIe Bus Error: severity=Uncorrectable (Non-Fatal), type=Transaction Layer, "
        "(Completer ID)",
        "<3> e1000e 0000:01:00.0:   device [8086:10d3] error status/mask=00008000/02400000",
        "<3> e1000e 0000:01:00.0:    [15] CmpltAbrt              (First)",
        "<3> e1000e 0000:01:00.0: AER:   TLP Header: 0x00000001 0x00000002 0x00000003 0x00000004",
        "<6> pcieport 0000:00:02.0: AER: Root Port link has been reset (0)",
        "<6> pcieport 0000:00:02.0: AER: device recovery successful",
    ]


def test_5_5_fatal_on_an_endpoint_is_inaccessible_t19() -> None:
    rig = e1000e_rig()
    rig.inject("01:00.0", uncor=0x40000)
    assert rig.log() == [
        "<6> pcieport 0000:00:02.0: AER: Uncorrectable (Fatal) error message received from 0000:01:00.0",
        "<3> e1000e 0000:01:00.0: AER: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Inaccessible, "
        "(Unregistered Agent ID)",
        "<6> pcieport 0000:00:02.0: AER: Root Port link has been reset (0)",
        "<6> pcieport 0000:00:02.0: AER: device recovery successful",
    ]
    info = rig.dev("01:00.0").aer_info
    assert info is not None
    assert info.stats.totals[Severity.FATAL] == 1
    assert not any(info.stats.bits[Severity.FATAL])


def test_5_5_fatal_on_a_root_port_with_debug_lines() -> None:
    rig = e1000e_rig()
    rig.inject("00:02.0", uncor=0x10)
    assert rig.log(7) == [
        "<6> pcieport 0000:00:02.0: AER: Uncorrectable (Fatal) error message received from 0000:00:02.0",
        "<3> pcieport 0000:00:02.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Data Link Layer, "
        "(Receiver ID)",
        "<3> pcieport 0000:00:02.0:   device [1af4:1041] error status/mask=00000010/02400000",
        "<3> pcieport 0000:00:02.0:    [ 4] DLP                    (First)",
        "<7> pcieport 0000:00:02.0: AER: broadcast error_detected message",
        "<7> pcieport 0000:00:02.0: waiting 100 ms for downstream link",
        "<7> e1000e 0000:01:00.0: ready 0ms after bus reset",
        "<6> pcieport 0000:00:02.0: AER: Root Port link has been reset (0)",
        "<7> pcieport 0000:00:02.0: AER: broadcast slot_reset message",
        "<7> pcieport 0000:00:02.0: AER: broadcast resume message",
        "<6> pcieport 0000:00:02.0: AER: device recovery successful",
    ]


def test_5_5_no_driver() -> None:
    rig = e1000e_rig()
    rig.call(rig.core.unbind(rig.dev("01:00.0")))
    rig.inject("01:00.0", uncor=0x8000)
    assert rig.log()[1:] == [
        "<3> pci 0000:01:00.0: PCIe Bus Error: severity=Uncorrectable (Non-Fatal), type=Transaction Layer, "
        "(Completer ID)",
        "<3> pci 0000:01:00.0:   device [8086:10d3] error status/mask=00008000/02400000",
        "<3> pci 0000:01:00.0:    [15] CmpltAbrt              (First)",
        "<3> pci 0000:01:00.0: AER:   TLP Header: 0x00000001 0x00000002 0x00000003 0x00000004",
        "<6> pci 0000:01:00.0: AER: can't recover (no error_detected callback)",
        "<6> pcieport 0000:00:02.0: AER: device recovery failed",
    ]


def three_functions(count: int = 5) -> Rig:
    return Rig([
        FunctionSpec("00:05.0", "root_port", secondary=4, subordinate=4),
        *(endpoint(f"04:00.{i}", "00:05.0", device=0x1044) for i in range(count)),
    ])  # fmt: skip


def pend(rig: Rig, *errors: tuple[str, int, int]) -> None:
    """Several errors before the interrupt is served: the root port's interrupt is held back meanwhile."""
    interrupt, rig.hierarchy.interrupt = rig.hierarchy.interrupt, lambda root: None
    for bdf, cor, uncor in errors:
        rig.hierarchy.inject(rig.dev(bdf).sbdf, cor, uncor)
    rig.hierarchy.interrupt = interrupt
    interrupt(rig.hierarchy.functions[rig.dev("00:05.0").sbdf])
    rig.settle()


def test_5_5_three_functions_report_before_the_interrupt_is_served_v25() -> None:
    rig = three_functions()
    pend(rig, ("04:00.1", 1, 0), ("04:00.3", 1, 0), ("04:00.4", 1, 0))
    log = rig.log()
    assert log[0] == "<6> pcieport 0000:00:05.0: AER: Multiple Correctable error message received from 0000:04:00.1"
    assert log[4] == "<3> pci 0000:04:00.1: AER:   Error of this Agent is reported first"
    assert [line.split(" ")[2] for line in log if "Bus Error" in line] == [f"0000:04:00.{i}:" for i in (1, 3, 4)]
    assert rig.aer.stats_text(rig.dev("00:05.0"), "aer_rootport_total_err_cor") == "1\n"


def test_t22_v26_the_sixth_reporter_ends_the_search_before_the_source_line() -> None:
    rig = three_functions(7)
    pend(rig, *((f"04:00.{i}", 0x40, 0) for i in range(7)))
    log = rig.log()
    assert log[0] == "<3> pci 0000:04:00.5: AER: Exceeded max supported (5) devices with errors logged"
    assert log[1].startswith("<6> pcieport 0000:00:05.0: AER: Multiple Correctable")
    assert sum("Bus Error" in line for line in log) == 5
    left = [rig.aer_reg(f"04:00.{i}", AER.COR_STATUS) for i in range(7)]
    assert left == [0, 0, 0, 0, 0, 0x40, 0x40]


def test_t18_t23_v27_nonfatal_and_fatal_in_one_interrupt_are_two_fatal_recoveries() -> None:
    rig = three_functions()
    pend(rig, ("04:00.2", 0, 0x8000), ("04:00.3", 0, 0x40000))
    assert rig.log()[:4] == [
        "<6> pcieport 0000:00:05.0: AER: Multiple Uncorrectable (Fatal) error message received from 0000:04:00.2",
        "<3> pci 0000:04:00.2: AER: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Inaccessible, "
        "(Unregistered Agent ID)",
        "<3> pci 0000:04:00.2: AER:   Error of this Agent is reported first",
        "<3> pci 0000:04:00.3: AER: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Inaccessible, "
        "(Unregistered Agent ID)",
    ]
    assert [record[:2] for record in rig.traced("recovery.begin")] == [
        ("0000:04:00.2", "FROZEN"),
        ("0000:04:00.3", "FROZEN"),
    ]
    root = rig.dev("00:05.0")
    assert rig.aer.stats_text(root, "aer_rootport_total_err_fatal") == "1\n"
    assert rig.aer.stats_text(root, "aer_rootport_total_err_nonfatal") == "0\n"


def test_t21_t32_an_unknown_source_leaves_one_line_without_its_closing_parenthesis() -> None:
    rig = e1000e_rig()
    root = rig.dev("00:02.0")
    config = rig.hierarchy.functions[root.sbdf].config
    config.poke(root.aer + AER.ROOT_ERR_SRC, 4, 0x03000000)
    config.poke(root.aer + AER.ROOT_STATUS, 4, 0x54)
    rig.aer.interrupt(rig.hierarchy.functions[root.sbdf])
    rig.settle()
    assert rig.log() == [
        "<6> pcieport 0000:00:02.0: AER: Uncorrectable (Fatal) error message received from 0000:03:00.0 "
        "(no details found"
    ]
    assert rig.traced("recovery.begin") == []


def test_v22_one_interrupt_with_both_classes_prints_the_correctable_block_first() -> None:
    rig = three_functions()
    pend(rig, ("04:00.0", 0x40, 0x8000))
    log = [line for line in rig.log() if "message received" in line]
    assert ["Correctable" in log[0], "Uncorrectable" in log[1]] == [True, True]


def test_t20_an_id_match_without_unmasked_status_leaves_only_the_source_line() -> None:
    rig = e1000e_rig()
    root = rig.dev("00:02.0")
    config = rig.hierarchy.functions[root.sbdf].config
    config.poke(root.aer + AER.ROOT_ERR_SRC, 4, 0x0100)
    config.poke(root.aer + AER.ROOT_STATUS, 4, 1)
    rig.aer.interrupt(rig.hierarchy.functions[root.sbdf])
    rig.settle()
    assert rig.log() == ["<6> pcieport 0000:00:02.0: AER: Correctable error message received from 0000:01:00.0"]
    assert rig.traced("aer.error") == []


def test_5_3_first_only_where_the_pointer_points() -> None:
    rig = e1000e_rig()
    set_first_error(rig, "01:00.0", 0x4000, 0)
    rig.inject("01:00.0", uncor=0x8000)
    assert rig.log()[3:5] == [
        "<3> e1000e 0000:01:00.0:    [14] CmpltTO               ",
        "<3> e1000e 0000:01:00.0:    [15] CmpltAbrt              (First)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("severity", "status", "layer", "agent"),
    [
        (Severity.NONFATAL, 0x4010, "Data Link Layer", "Requester ID"),
        (Severity.CORRECTABLE, 0x181, "Physical Layer", "Transmitter ID"),
        (Severity.NONFATAL, 0x400000, "General", "Component ID"),
        (Severity.NONFATAL, 0x400010, "Data Link Layer", "Component ID"),
        (Severity.NONFATAL, 0xC000, "Transaction Layer", "Completer ID"),
        (Severity.NONFATAL, 0x2, "Transaction Layer", "Receiver ID"),
        (Severity.NONFATAL, 0x100000, "Transaction Layer", "Receiver ID"),  # T36
        (Severity.CORRECTABLE, 0x4000, "General", "Component ID"),
    ],
)
def test_1_5_layer_and_agent_of_several_bits(severity: Severity, status: int, layer: str, agent: str) -> None:
    assert (WORDS.layer(severity, status), WORDS.agent(severity, status)) == (layer, agent)


def test_5_4_prefixes_stop_at_the_first_zero_and_flit_appends_dwords() -> None:
    header = [1, 2, 3, 4]
    text = "TLP Header: 0x00000001 0x00000002 0x00000003 0x00000004"
    assert tlp_log_text(TlpLog([*header, 0, 5, 0, 0], flit=False)) == text
    assert tlp_log_text(TlpLog([*header, 5, 6, 0, 7], flit=False)) == text + " E-E Prefixes: 0x00000005 0x00000006"
    assert tlp_log_text(TlpLog([1, 2, 3, 4, 5], flit=True)) == (
        "TLP Header (Flit): 0x00000001 0x00000002 0x00000003 0x00000004 0x00000005"
    )


def test_1_3_completion_timeout_shows_a_header_only_where_cap_says_so() -> None:
    rig = e1000e_rig()
    rig.inject("01:00.0", uncor=0x4000)
    assert not any("TLP Header" in line for line in rig.log())
    dev = rig.dev("01:00.0")
    config = rig.hierarchy.functions[dev.sbdf].config
    config.set_bits(dev.aer + AER.CAP, 4, 0x1000)
    rig.hierarchy.write(dev.sbdf, 4, 2, 0x100)  # the reset above switched reporting off
    rig.inject("01:00.0", uncor=0x4000)
    assert any("TLP Header" in line for line in rig.log())


def test_3_2_probe_says_which_interrupt() -> None:
    assert Rig().boot_log == [
        f"<6> pcieport 0000:00:0{port}.0: AER: enabled with IRQ {irq}" for port, irq in ((1, 24), (2, 25), (3, 26))
    ]


def test_v23_rate_limit_suppresses_lines_and_nothing_else() -> None:
    rig = e1000e_rig()
    for _ in range(15):
        rig.inject("01:00.0", cor=0x40)
    log = rig.log()
    assert sum("BadTLP" in line for line in log) == 10
    assert sum("message received" in line for line in log) == 10
    assert len(rig.traced("aer.error")) == 15
    assert "BadTLP 15\n" in rig.aer.stats_text(rig.dev("01:00.0"), "aer_dev_correctable")
    rig.clock.time += 5_004_000_000
    rig.inject("01:00.0", cor=0x40)
    assert rig.log()[0] == "<4> aer_ratelimit: 5 callbacks suppressed"
