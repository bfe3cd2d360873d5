"""The DPC service: where it exists, its interrupt, its thread, and what it prints (linux-aer.md 10.2, 10.3, T48).

No recording has DPC: these tests hold the rules of the specification, not a machine's behaviour.
"""

from __future__ import annotations

import pytest

from dom0_pciback.aer.dpc import OBSTACLES, dpc_irq, obstacle
from dom0_pciback.aer.dpc_init import pci_dpc_init
from dom0_pciback.pci.device import pci_dev_set_disconnected
from dom0_pciback.pcie.containment import detect_rp_pio
from protocol.ers import ErsResult
from protocol.layout_aer import AER
from protocol.layout_dpc import (
    DPC,
    DPC_CAP_RP_PIO_LOG_SIZE4,
    DPC_CTL_EN_FATAL,
    DPC_CTL_EN_NONFATAL,
    DPC_CTL_INT_EN,
    DPC_STATUS_INTERRUPT,
    DPC_STATUS_REASON_EXT,
    DPC_STATUS_TRIGGER,
)
from protocol.layout_header import TYPE1
from protocol.layout_pcie import EXP
from protocol.topology import BootSpec, FunctionSpec, HostSpec
from tests.dom0_pciback.aer.dpc_rig import DOWN, DPC_NATIVE, RP1, RP2, RP3, DpcRig
from tests.dom0_pciback.aer.rig import bind_lab

NONFATAL, FATAL, DLP = 1 << 15, 1 << 18, 1 << 4
CAPABILITIES = "DPC: error containment capabilities: Int Msg #0, "
ROOT_CAPABILITIES = CAPABILITIES + "RPExt+ PoisonedTLP- SwTrigger+ RP PIO Log 4, DL_ActiveErr-"
EVENT = "DPC: containment event, status:"
UNBOUND = "<6> pci 0000:01:00.0: AER: can't recover (no error_detected callback)"
SUCCESS = "<6> pcieport 0000:00:01.0: AER: device recovery successful"


def lines(rig: DpcRig, *, only: str = "DPC: ") -> list[str]:
    """Log lines that contain ``only``, without the name of the port."""
    return [f"{line[:4]}{line.partition(only)[2]}" for line in rig.log() if only in line]


def working(rig: DpcRig, bdf: str = "01:00.0") -> None:
    """Bind a driver that wants a reset and is content with it."""
    bind_lab(rig, bdf, det_frozen=ErsResult.NEED_RESET, slot=ErsResult.RECOVERED)


# -- 10.2: where it exists -------------------------------------------------------------------------
BINDING = [  # label of the obstacle of the ports that are not bound, boot, kernel, those that are bound
    ("no AER service on the port", BootSpec(), "linux-7.2", [RP1, RP2, RP3]),
    ("no AER service on the port", BootSpec(osc_aer=False), "linux-7.2", []),
    ("no AER service on the port", BootSpec(osc_aer=False, pcie_ports="native"), "linux-7.2", [RP1, RP2, RP3]),
    ("", DPC_NATIVE, "linux-7.2", "all"),
    ("", BootSpec(osc_aer=False, pcie_ports="dpc-native"), "linux-7.2", "all"),
    ("pcie_ports=compat", BootSpec(pcie_ports="compat"), "linux-7.2", []),
    ("AER is not available", BootSpec(aer=False, pcie_ports="dpc-native"), "linux-7.2", []),
    ("AER is not available", BootSpec(msi=False), "linux-7.2", []),
    ("no AER service on the port", BootSpec(osc_dpc=True, osc_aer=False), "linux-7.2", []),
    ("kernel without DPC", DPC_NATIVE, "linux-2.6.27", []),
    ("", DPC_NATIVE, "linux-6.1", "all"),
]


@pytest.mark.parametrize(("label", "boot", "kernel", "bound"), BINDING)
def test_10_2_which_ports_have_the_service(label: str, boot: BootSpec, kernel: str, bound: list[str] | str) -> None:
    rig = DpcRig()
    host = HostSpec("test", [], [], kernel=kernel, boot=boot)
    found = {bdf: obstacle(host, rig.dev(bdf)) for bdf in (RP1, RP2, RP3, DOWN)}
    expected = list(found) if bound == "all" else bound
    assert [bdf for bdf, why in found.items() if not why] == expected
    assert {why for why in found.values() if why} == ({label} if label else set())


def test_10_2_a_port_without_the_capability_has_no_service() -> None:
    rig = DpcRig([FunctionSpec(RP1, "root_port", secondary=1, subordinate=1)], DPC_NATIVE)
    assert obstacle(rig.host, rig.dev(RP1)) == "no capability"
    assert (rig.dpc.ports, rig.dpc_log) == ({}, [])


def test_every_obstacle_is_tested() -> None:
    assert {row.label for row in OBSTACLES} == {row[0] for row in BINDING if row[0]} | {"no capability"}


def test_10_2_lines_at_boot() -> None:
    assert DpcRig().dpc_log[:2] == [
        "<6> pcieport 0000:00:01.0: DPC: enabled with IRQ 24",
        f"<6> pcieport 0000:00:01.0: {ROOT_CAPABILITIES}",
    ]


def test_10_2_a_downstream_port_has_a_vector_of_its_own_and_no_extensions() -> None:
    log = [line for line in DpcRig(boot=DPC_NATIVE).dpc_log if "0000:04:0" in line]
    capabilities = CAPABILITIES + "RPExt- PoisonedTLP- SwTrigger+ RP PIO Log 0, DL_ActiveErr-"
    assert log == [
        "<6> pcieport 0000:04:00.0: DPC: enabled with IRQ 27",
        f"<6> pcieport 0000:04:00.0: {capabilities}",
        "<6> pcieport 0000:04:01.0: DPC: enabled with IRQ 28",
        f"<6> pcieport 0000:04:01.0: {capabilities}",
    ]


def test_10_2_containment_is_on_for_fatal_only() -> None:
    assert DpcRig().dpc_reg(RP1, DPC.CTL) == DPC_CTL_EN_FATAL | DPC_CTL_INT_EN


@pytest.mark.parametrize(
    ("size", "flit", "valid"), [(3, 0, False), (0, 0, False), (4, 0, True), (15, 0, True), (4, 0x8000, False)]
)
def test_10_2_size_of_the_rp_pio_log(size: int, flit: int, valid: bool) -> None:
    rig = DpcRig()
    dev, function = rig.dev(RP1), rig.function(RP1)
    function.config.poke(function.dpc + DPC.CAP, 2, 0x00A0 | size << 8 | DPC_CAP_RP_PIO_LOG_SIZE4)
    function.config.set_bits(function.exp + EXP.FLAGS, 2, flit)
    dev.dpc_rp_log_size = 0
    pci_dpc_init(rig.core, dev)
    wrong = size + 16 * bool(flit)
    assert rig.log() == [] if valid else [f"<3> pcieport 0000:00:01.0: DPC: RP PIO log size {wrong} is invalid"]
    assert dev.dpc_rp_log_size == (size if valid else 0)


# -- 10.3: dpc_irq ---------------------------------------------------------------------------------
def test_10_3_an_interrupt_of_another_service_is_none_of_dpc() -> None:
    rig = DpcRig()
    assert not dpc_irq(rig.dpc.ports[rig.dev(RP1).sbdf])


def test_10_3_a_port_that_is_gone_has_no_interrupt() -> None:
    rig = DpcRig()
    pci_dev_set_disconnected(rig.dev(RP1))
    assert not dpc_irq(rig.dpc.ports[rig.dev(RP1).sbdf])


def test_10_3_an_interrupt_without_trigger_is_cleared_and_wakes_nobody() -> None:
    rig = DpcRig()
    function = rig.function(RP1)
    function.config.set_bits(function.dpc + DPC.STATUS, 2, DPC_STATUS_INTERRUPT)
    assert dpc_irq(rig.dpc.ports[rig.dev(RP1).sbdf])
    rig.settle()
    assert (rig.dpc_reg(RP1, DPC.STATUS), rig.log(), rig.results) == (0, [], [])


def test_nonfatal_errors_still_belong_to_aer() -> None:
    rig = DpcRig()
    rig.inject("01:00.0", uncor=NONFATAL)
    assert not rig.traced("dpc.irq")
    assert "<6> pcieport 0000:00:01.0: AER: device recovery failed" in rig.log()


def test_an_event_during_the_recovery_is_handled_after_it() -> None:
    rig = DpcRig()
    working(rig)
    rig.trigger(RP1)
    again = iter([True])

    def retrigger() -> None:
        if next(again, False):
            rig.trigger(RP1)

    rig.kernel.call_at(rig.clock.time + 300_000_000, retrigger)
    rig.settle()
    assert len(rig.results) == 2
    assert not rig.contained(RP1)


# -- 10.3: what is said, by reason -----------------------------------------------------------------
def test_10_3_reason_0_prints_the_ports_aer_details() -> None:
    rig = DpcRig()
    working(rig)
    rig.inject(RP1, uncor=FATAL | NONFATAL)
    assert rig.log() == [
        f"<4> pcieport 0000:00:01.0: {EVENT}0x0001: unmasked uncorrectable error detected",
        "<3> pcieport 0000:00:01.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Transaction Layer, "
        "(Completer ID)",
        "<3> pcieport 0000:00:01.0:   device [1af4:1041] error status/mask=00048000/02400000",
        "<3> pcieport 0000:00:01.0:    [15] CmpltAbrt              (First)",
        "<3> pcieport 0000:00:01.0:    [18] MalfTLP               ",
        "<3> pcieport 0000:00:01.0: AER:   TLP Header: 0x00000001 0x00000002 0x00000003 0x00000004",
        SUCCESS,
    ]
    assert rig.uncor_status(RP1) == 0, "both severities are cleared"
    assert [fields[:3] for fields in rig.traced("aer.error")] == [("0000:00:01.0", "FATAL", FATAL | NONFATAL)]
    assert rig.results == [ErsResult.RECOVERED]


def test_10_3_reason_0_is_nonfatal_without_a_fatal_bit() -> None:
    rig = DpcRig()
    working(rig)
    rig.inject(RP1, uncor=NONFATAL)
    assert [fields[:3] for fields in rig.traced("aer.error")] == [("0000:00:01.0", "NONFATAL", NONFATAL)]
    assert "TOTAL_ERR_NONFATAL 1" in rig.aer.stats_text(rig.dev(RP1), "aer_dev_nonfatal")


def test_10_3_reason_0_without_an_unmasked_bit_says_only_that_it_happened() -> None:
    rig = DpcRig()
    working(rig)
    rig.hierarchy.inject(rig.dev(RP1).sbdf, 0, FATAL)
    rig.core.write(rig.dev(RP1), rig.dev(RP1).aer + AER.UNCOR_MASK, 4, FATAL)
    rig.settle()
    assert rig.log() == [
        f"<4> pcieport 0000:00:01.0: {EVENT}0x0001: unmasked uncorrectable error detected",
        SUCCESS,
    ]
    assert not rig.traced("aer.error")


def test_6_3_details_of_dpc_are_never_rate_limited() -> None:
    rig = DpcRig()
    working(rig)
    for _ in range(15):
        rig.inject(RP1, uncor=NONFATAL)
    assert sum("CmpltAbrt" in line for line in rig.log()) == 15
    assert len(rig.traced("aer.error")) == 15


def test_10_3_reason_2_names_the_source_and_reads_nothing_of_it() -> None:
    rig = DpcRig()
    working(rig)
    rig.inject("01:00.0", uncor=FATAL)
    assert rig.log() == [
        f"<4> pcieport 0000:00:01.0: {EVENT}0x0005, ERR_FATAL received from 0000:01:00.0",
        SUCCESS,
    ]
    assert not rig.traced("aer.error")
    assert not rig.traced("aer.irq"), "the message never reached the root port's status"
    assert "TOTAL_ERR_FATAL 0" in rig.aer.stats_text(rig.dev("01:00.0"), "aer_dev_fatal")


def test_10_3_reason_1_names_the_source() -> None:
    rig = DpcRig()
    rig.set_dpc(RP1, DPC.CTL, DPC_CTL_EN_NONFATAL | DPC_CTL_INT_EN)
    working(rig)
    rig.inject("01:00.0", uncor=NONFATAL)
    assert rig.log()[0] == f"<4> pcieport 0000:00:01.0: {EVENT}0x0003, ERR_NONFATAL received from 0000:01:00.0"
    assert not rig.traced("aer.irq")


def test_10_3_software_trigger() -> None:
    rig = DpcRig()
    working(rig)
    rig.trigger(RP1)
    rig.settle()
    assert rig.log() == [f"<4> pcieport 0000:00:01.0: {EVENT}0x0027: software trigger detected", SUCCESS]


def test_10_3_reserved_reason() -> None:
    rig = DpcRig()
    working(rig)
    function = rig.function(RP1)
    rig.trigger(RP1)
    function.config.set_bits(function.dpc + DPC.STATUS, 2, DPC_STATUS_REASON_EXT)
    rig.settle()
    assert rig.log()[0] == f"<4> pcieport 0000:00:01.0: {EVENT}0x0067: reserved error detected"


# -- 10.3: RP PIO ----------------------------------------------------------------------------------
RP_PIO_LINES = [
    "<4> containment event, status:0x0007: RP PIO error detected",
    "<3> rp_pio_status: 0x00040003, rp_pio_mask: 0x00000002",
    "<3> RP PIO severity=0x00070707, syserror=0x00000000, exception=0x00000000",
    "<3> [ 0] Configuration Request received UR Completion (First)",
    "<3> [18] Memory Request Completion Timeout",
]
HEADER_LINE = "<3> TLP Header: 0x00000001 0x00000002 0x00000003 0x00000004"
IMPSPEC_LINE = "<3> RP PIO ImpSpec Log 0x00005678"
LOGS = {  # log size -> lines after those above
    0: [],
    4: [HEADER_LINE],
    5: [HEADER_LINE, IMPSPEC_LINE],
    6: [HEADER_LINE + " E-E Prefixes: 0x0000000a", IMPSPEC_LINE],
    9: [HEADER_LINE + " E-E Prefixes: 0x0000000a 0x0000000b", IMPSPEC_LINE],
    15: [HEADER_LINE + " E-E Prefixes: 0x0000000a 0x0000000b", IMPSPEC_LINE],
}


@pytest.mark.parametrize("size", LOGS)
def test_10_3_rp_pio_block(size: int) -> None:
    rig = DpcRig()
    working(rig)
    rig.dev(RP1).dpc_rp_log_size = size
    rig.set_dpc(RP1, DPC.RP_PIO_MASK, 0x2)
    function = rig.function(RP1)
    function.config.poke_dwords(function.dpc + DPC.RP_PIO_IMPSPEC_LOG, (0x5678, 0xA, 0xB, 0, 0xD))
    detect_rp_pio(function, 0x40003, (1, 2, 3, 4))
    rig.settle()
    assert lines(rig) == RP_PIO_LINES + LOGS[size]
    assert rig.dpc_reg(RP1, DPC.RP_PIO_STATUS) == 0


@pytest.mark.parametrize("bit", [1, 2, 8, 9, 10, 16, 17])
def test_10_3_rp_pio_texts(bit: int) -> None:
    rig = DpcRig()
    working(rig)
    detect_rp_pio(rig.function(RP1), 1 << bit)
    rig.settle()
    request = {0: "Configuration", 1: "I/O", 2: "Memory"}[bit >> 3]
    what = ("received UR Completion", "received CA Completion", "Completion Timeout")[bit & 7]
    assert f"<3> [{bit:2d}] {request} Request {what} (First)" in lines(rig)


def test_10_3_no_rp_pio_block_without_extensions() -> None:
    rig = DpcRig(boot=DPC_NATIVE)
    function = rig.function(DOWN)
    rig.trigger(DOWN)
    function.config.poke(function.dpc + DPC.STATUS, 2, DPC_STATUS_TRIGGER | 0x6)
    rig.settle()
    assert lines(rig) == ["<4> containment event, status:0x0007: RP PIO error detected"]


# -- 10.3: scope -----------------------------------------------------------------------------------
def test_10_3_the_scope_of_a_recovery_is_everything_below_the_port() -> None:
    rig = DpcRig()
    rig.inject("05:00.0", uncor=FATAL)
    walked = {fields[0] for fields in rig.traced("recovery.vote")}
    assert walked == {f"0000:{bdf}" for bdf in ("03:00.0", "04:00.0", "04:01.0", "05:00.0", "06:00.0")}
    assert f"<4> pcieport 0000:00:03.0: {EVENT}0x0005, ERR_FATAL received from 0000:05:00.0" in rig.log()


def test_t48_with_dpc_native_the_downstream_port_contains() -> None:
    rig = DpcRig(boot=DPC_NATIVE)
    working(rig, "05:00.0")
    rig.inject("05:00.0", uncor=FATAL)
    assert {fields[0] for fields in rig.traced("recovery.vote")} == {"0000:05:00.0"}
    assert rig.log() == [
        f"<4> pcieport 0000:04:00.0: {EVENT}0x0005, ERR_FATAL received from 0000:05:00.0",
        "<6> pcieport 0000:04:00.0: AER: device recovery successful",
    ]


def test_bus_numbers_of_a_switch_come_back() -> None:
    rig = DpcRig()
    working(rig, "05:00.0")
    working(rig, "06:00.0")
    rig.inject("03:00.0", uncor=DLP)
    assert rig.results == [ErsResult.RECOVERED]
    assert rig.core.read(rig.dev("03:00.0"), TYPE1.SECONDARY_BUS, 1) == 4
    assert rig.core.read(rig.dev("05:00.0"), 0, 2) == 0x1AF4


def test_unbound_functions_fail_the_recovery_but_the_port_is_released() -> None:
    rig = DpcRig()
    rig.inject("01:00.0", uncor=FATAL)
    assert rig.log()[1:] == [UNBOUND, "<6> pcieport 0000:00:01.0: AER: device recovery failed"]
    assert not rig.contained(RP1)
    assert rig.results == [ErsResult.NO_AER_DRIVER]
