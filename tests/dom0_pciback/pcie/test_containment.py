"""Downstream Port Containment in hardware: linux-aer.md 10.1 and 10.3.

No recording has DPC: these tests hold the rules of the specification, not a machine's behaviour.
"""

from __future__ import annotations

import pytest

from dom0_pciback.pcie.containment import detect_rp_pio, has_rp_extensions, set_busy
from dom0_pciback.pcie.link import LinkState
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_dpc import (
    DPC,
    DPC_CTL_INT_EN,
    DPC_CTL_SW_TRIGGER,
    DPC_STATUS_INTERRUPT,
    DPC_STATUS_RP_BUSY,
    DPC_STATUS_RP_PIO_FEP_SHIFT,
    DPC_STATUS_TRIGGER,
    RP_PIO_ALL,
)
from protocol.layout_header import BRIDGE_CTL_BUS_RESET, HEADER, TYPE1
from protocol.layout_pcie import EXP, EXP_LNKSTA_DLLLA
from protocol.registers import Reg
from protocol.topology import FunctionSpec
from tests.dom0_pciback.pcie.rig import CARD, DISK, DOWN, DOWN2, MS, NIC, NIC2008, ROOT, ROOT2, UP, Rig, specs

NONFATAL, FATAL, CORRECTABLE = 1 << 15, 1 << 18, 1 << 6
OFF, ON_FATAL, ON_NONFATAL, RESERVED = range(4)
UNCOR, RECEIVED_NONFATAL, RECEIVED_FATAL, EXTENDED = range(4)
RP_PIO, SW_TRIGGER = 0, 1


def dpc_rig(*ports: str, control: int = ON_FATAL | DPC_CTL_INT_EN) -> Rig:
    """The usual hierarchy with DPC on these ports, by default on a downstream port and both root ports."""
    ports = ports or (DOWN, ROOT, ROOT2)
    functions = specs()
    for spec in functions:
        spec.dpc = spec.bdf in ports
    rig = Rig(functions)
    for port in ports:
        rig.set(port, DPC.CTL, control)
    rig.interrupts.clear()
    return rig


def status(rig: Rig, port: str) -> tuple[bool, int, int]:
    """Triggered, reason, extension of the reason."""
    word = rig.get(port, DPC.STATUS)
    return bool(word & DPC_STATUS_TRIGGER), word >> 1 & 3, word >> 5 & 3


def release(rig: Rig, port: str) -> None:
    rig.set(port, DPC.STATUS, DPC_STATUS_TRIGGER)


def answers(rig: Rig, *bdfs: str) -> bool:
    return all(rig.get(bdf, HEADER.VENDOR_ID) != 0xFFFF for bdf in bdfs)


# -- the capability ------------------------------------------------------------------------------
def test_the_capability_comes_after_aer_and_ends_the_list() -> None:
    rig = dpc_rig()
    function = rig.function(ROOT)
    header = rig.hierarchy.read(function.sbdf, function.aer, 4)
    assert header >> 20 == function.dpc
    assert rig.hierarchy.read(function.sbdf, function.dpc, 4) == 0x0001001D


def test_10_1_only_root_ports_have_the_extensions() -> None:
    rig = dpc_rig()
    assert rig.get(ROOT, DPC.CAP) == 0x04A0
    assert rig.get(DOWN, DPC.CAP) == 0x0080
    assert [has_rp_extensions(rig.function(port)) for port in (ROOT, DOWN, DOWN2)] == [True, False, False]
    assert rig.get(ROOT, DPC.RP_PIO_SEVERITY) == RP_PIO_ALL
    assert rig.get(DOWN, DPC.RP_PIO_SEVERITY) == 0


@pytest.mark.parametrize("bdf", [UP, NIC])
def test_others_than_root_and_downstream_ports_never_have_it(bdf: str) -> None:
    functions = specs()
    for spec in functions:
        spec.dpc = True
    assert Rig(functions).function(bdf).dpc == 0


def test_a_port_without_aer_has_no_dpc() -> None:
    rig = Rig([FunctionSpec(ROOT2, "root_port", "", 6, 6, dpc=True, aer=False)])
    assert rig.function(ROOT2).dpc == 0


# -- triggers ------------------------------------------------------------------------------------
TRIGGERS = [  # control 1:0, message, contained
    (OFF, NONFATAL, False),
    (OFF, FATAL, False),
    (ON_FATAL, NONFATAL, False),
    (ON_FATAL, FATAL, True),
    (ON_NONFATAL, NONFATAL, True),
    (ON_NONFATAL, FATAL, True),
    (RESERVED, NONFATAL, True),
    (RESERVED, FATAL, True),
]


@pytest.mark.parametrize(("control", "bit", "contained"), TRIGGERS)
def test_control_bits_decide_about_received_messages(control: int, bit: int, contained: bool) -> None:
    rig = dpc_rig(DOWN, control=control)
    rig.inject(NIC, uncor=bit)
    reason = RECEIVED_FATAL if bit == FATAL else RECEIVED_NONFATAL
    assert status(rig, DOWN) == ((True, reason, 0) if contained else (False, 0, 0))
    assert rig.get(DOWN, DPC.SOURCE_ID) == (Sbdf.parse(NIC).rid if contained else 0)
    assert bool(rig.root_state()[0]) is not contained


@pytest.mark.parametrize("bit", [NONFATAL, FATAL])
@pytest.mark.parametrize("control", [OFF, ON_FATAL, ON_NONFATAL, RESERVED])
def test_the_ports_own_error_triggers_whatever_its_severity(control: int, bit: int) -> None:
    rig = dpc_rig(DOWN, control=control)
    rig.inject(DOWN, uncor=bit)
    assert status(rig, DOWN) == (control != OFF, UNCOR, 0)
    assert bool(rig.root_state()[0]) is (control == OFF)
    assert rig.get(DOWN, AER.UNCOR_STATUS) == bit
    assert rig.get(DOWN, DPC.SOURCE_ID) == 0


def test_the_ports_own_error_triggers_even_if_it_may_not_be_reported() -> None:
    rig = dpc_rig(DOWN)
    rig.set(DOWN, EXP.DEVCTL, 0)
    rig.set(DOWN, HEADER.COMMAND, 0x0007)
    rig.inject(DOWN, uncor=NONFATAL)
    assert status(rig, DOWN) == (True, UNCOR, 0)


def test_a_masked_error_of_the_port_does_not_trigger() -> None:
    rig = dpc_rig(DOWN)
    rig.set(DOWN, AER.UNCOR_MASK, FATAL)
    rig.inject(DOWN, uncor=FATAL)
    assert status(rig, DOWN) == (False, 0, 0)


def test_an_advisory_error_of_the_port_does_not_trigger() -> None:
    rig = dpc_rig(DOWN)
    rig.hierarchy.inject(Sbdf.parse(DOWN), 0, NONFATAL, advisory=True)
    assert status(rig, DOWN) == (False, 0, 0)


def test_correctable_errors_pass_a_port_with_dpc() -> None:
    rig = dpc_rig(control=RESERVED | DPC_CTL_INT_EN)
    rig.inject(NIC, cor=CORRECTABLE)
    assert status(rig, DOWN) == (False, 0, 0)
    assert rig.root_state()[0] == 1


def test_the_lowest_port_with_dpc_contains() -> None:
    rig = dpc_rig()
    rig.inject(NIC, uncor=FATAL)
    assert status(rig, DOWN)[0]
    assert not status(rig, ROOT)[0]


def test_a_root_port_contains_what_comes_through_a_switch() -> None:
    rig = dpc_rig(ROOT)
    rig.inject(NIC, uncor=FATAL)
    assert status(rig, ROOT) == (True, RECEIVED_FATAL, 0)
    assert rig.get(ROOT, DPC.SOURCE_ID) == Sbdf.parse(NIC).rid
    assert rig.root_state() == (0, 0, 0), "the message is suppressed"
    assert rig.get(ROOT, TYPE1.SEC_STATUS) & 0x4000, "but it was received"


def test_software_trigger() -> None:
    rig = dpc_rig(DOWN)
    rig.set(DOWN, DPC.CTL, ON_FATAL | DPC_CTL_SW_TRIGGER)
    assert status(rig, DOWN) == (True, EXTENDED, SW_TRIGGER)
    assert rig.get(DOWN, DPC.CTL) == ON_FATAL, "the trigger bit reads 0"


def test_software_trigger_needs_dpc_to_be_enabled() -> None:
    rig = dpc_rig(DOWN)
    rig.set(DOWN, DPC.CTL, DPC_CTL_SW_TRIGGER)
    assert status(rig, DOWN) == (False, 0, 0)


# -- RP PIO --------------------------------------------------------------------------------------
def test_rp_pio_error_triggers_and_is_logged() -> None:
    rig = dpc_rig(ROOT)
    detect_rp_pio(rig.function(ROOT), 1 << 17 | 1 << 2, (1, 2, 3, 4))
    assert status(rig, ROOT) == (True, EXTENDED, RP_PIO)
    assert rig.get(ROOT, DPC.RP_PIO_STATUS) == 1 << 17 | 1 << 2
    assert rig.get(ROOT, DPC.STATUS) >> DPC_STATUS_RP_PIO_FEP_SHIFT == 2
    assert [rig.get(ROOT, DPC.RP_PIO_HEADER_LOG), rig.get(ROOT, DPC.RP_PIO_HEADER_LOG_3)] == [1, 4]


def test_rp_pio_log_keeps_the_first_error_until_it_is_cleared() -> None:
    rig = dpc_rig(ROOT, control=OFF)
    port = rig.function(ROOT)
    detect_rp_pio(port, 1 << 16, (1, 1, 1, 1))
    detect_rp_pio(port, 1 << 8, (2, 2, 2, 2))
    assert rig.get(ROOT, DPC.RP_PIO_HEADER_LOG) == 1
    rig.set(ROOT, DPC.RP_PIO_STATUS, 1 << 16)
    detect_rp_pio(port, 1 << 18, (3, 3, 3, 3))
    assert rig.get(ROOT, DPC.RP_PIO_HEADER_LOG) == 3
    assert rig.get(ROOT, DPC.STATUS) >> DPC_STATUS_RP_PIO_FEP_SHIFT == 18


@pytest.mark.parametrize("register", [DPC.RP_PIO_MASK, DPC.RP_PIO_SEVERITY])
def test_masked_and_advisory_rp_pio_errors_do_not_trigger(register: Reg) -> None:
    rig = dpc_rig(ROOT)
    rig.set(ROOT, register, 1 if register is DPC.RP_PIO_MASK else 0)
    detect_rp_pio(rig.function(ROOT), 1)
    assert status(rig, ROOT) == (False, 0, 0)
    assert rig.get(ROOT, DPC.RP_PIO_STATUS) == 1


@pytest.mark.parametrize(("port", "bits"), [(DOWN, 1), (ROOT, 0), (ROOT, 1 << 3), (DOWN2, 1)])
def test_rp_pio_refuses_what_the_port_does_not_have(port: str, bits: int) -> None:
    rig = dpc_rig()
    with pytest.raises(ValueError, match=r"root port extensions|allowed: bits of 0x70707"):
        detect_rp_pio(rig.function(port), bits)


# -- while contained -----------------------------------------------------------------------------
def test_the_link_is_down_and_everything_below_is_reset() -> None:
    rig = dpc_rig(DOWN)
    rig.inject(NIC, uncor=FATAL)
    assert rig.port(DOWN).link.state is LinkState.CONTAINED
    assert not rig.get(DOWN, EXP.LNKSTA) & EXP_LNKSTA_DLLLA
    assert not answers(rig, NIC)
    assert answers(rig, DOWN, DISK), "the port itself and its neighbours answer"
    assert rig.resets == [NIC, CARD]


def test_the_first_trigger_stays_latched() -> None:
    rig = dpc_rig(DOWN)
    rig.inject(NIC, uncor=FATAL)
    rig.inject(DOWN, uncor=FATAL)
    rig.set(DOWN, DPC.CTL, ON_FATAL | DPC_CTL_SW_TRIGGER)
    assert status(rig, DOWN) == (True, RECEIVED_FATAL, 0)
    assert rig.root_state() == (0, 0, 0), "what the port detects meanwhile is not reported either"
    assert rig.get(DOWN, AER.UNCOR_STATUS) == FATAL


def test_nothing_below_detects_errors() -> None:
    rig = dpc_rig(DOWN)
    rig.inject(NIC, uncor=FATAL)
    rig.inject(CARD, uncor=FATAL)
    assert rig.get(DOWN, DPC.SOURCE_ID) == Sbdf.parse(NIC).rid


@pytest.mark.parametrize("above", [DOWN, UP, ROOT])
def test_a_bus_reset_does_not_release(above: str) -> None:
    rig = dpc_rig(DOWN)
    rig.inject(NIC, uncor=FATAL)
    rig.set(above, TYPE1.BRIDGE_CONTROL, BRIDGE_CTL_BUS_RESET)
    rig.set(above, TYPE1.BRIDGE_CONTROL, 0)
    rig.clock.time += 200 * MS
    assert rig.port(DOWN).link.state is LinkState.CONTAINED
    assert rig.function(DOWN).config.peek(rig.offset(DOWN, DPC.STATUS), 2) & DPC_STATUS_TRIGGER


# -- interrupt -----------------------------------------------------------------------------------
@pytest.mark.parametrize("enabled", [True, False])
def test_interrupt_if_enabled(enabled: bool) -> None:
    rig = dpc_rig(DOWN, control=ON_FATAL | DPC_CTL_INT_EN * enabled)
    rig.inject(NIC, uncor=FATAL)
    assert rig.interrupts == [DOWN] * enabled
    assert bool(rig.get(DOWN, DPC.STATUS) & DPC_STATUS_INTERRUPT) is enabled


def test_no_second_interrupt_while_the_first_one_is_not_cleared() -> None:
    rig = dpc_rig(DOWN)
    rig.inject(NIC, uncor=FATAL)
    release(rig, DOWN)
    rig.inject(DOWN, uncor=FATAL)
    assert rig.interrupts == [DOWN]
    rig.set(DOWN, DPC.STATUS, DPC_STATUS_TRIGGER | DPC_STATUS_INTERRUPT)
    rig.inject(DOWN, uncor=FATAL)
    assert rig.interrupts == [DOWN, DOWN]


# -- release -------------------------------------------------------------------------------------
def test_release_brings_the_link_back_as_after_a_bus_reset() -> None:
    rig = dpc_rig(DOWN)
    rig.inject(NIC, uncor=FATAL)
    release(rig, DOWN)
    assert status(rig, DOWN)[0] is False
    assert rig.get(DOWN, EXP.LNKSTA) & EXP_LNKSTA_DLLLA
    assert not answers(rig, NIC), "ready_ms have to pass"
    rig.clock.time += 100 * MS
    assert answers(rig, NIC, CARD)
    assert rig.get(NIC, HEADER.COMMAND) == 0
    assert rig.get(NIC, AER.UNCOR_STATUS) == FATAL, "sticky"


def test_other_writes_to_the_status_do_not_release() -> None:
    rig = dpc_rig(DOWN)
    rig.inject(NIC, uncor=FATAL)
    rig.set(DOWN, DPC.STATUS, DPC_STATUS_INTERRUPT)
    assert rig.port(DOWN).link.state is LinkState.CONTAINED


def test_a_dead_link_does_not_come_back() -> None:
    functions = [
        FunctionSpec(ROOT2, "root_port", "", 6, 6, dpc=True, link_dead_after_reset=True),
        FunctionSpec(NIC2008, "endpoint", ROOT2),
    ]
    rig = Rig(functions)
    rig.set(ROOT2, DPC.CTL, ON_FATAL)
    rig.inject(NIC2008, uncor=FATAL)
    release(rig, ROOT2)
    assert rig.port(ROOT2).link.state is LinkState.DEAD


def test_the_port_contains_again_after_its_release() -> None:
    rig = dpc_rig(DOWN, control=ON_NONFATAL)
    for bit, reason in ((FATAL, RECEIVED_FATAL), (NONFATAL, RECEIVED_NONFATAL)):
        rig.inject(NIC, uncor=bit)
        assert status(rig, DOWN) == (True, reason, 0)
        release(rig, DOWN)
        rig.clock.time += 100 * MS
        rig.set(NIC, EXP.DEVCTL, 0xF)


def test_busy_stays_over_a_trigger_until_the_hardware_ends_it() -> None:
    rig = dpc_rig(ROOT)
    set_busy(rig.function(ROOT), True)
    rig.inject(ROOT, uncor=FATAL)
    assert rig.get(ROOT, DPC.STATUS) & DPC_STATUS_RP_BUSY
    set_busy(rig.function(ROOT), False)
    assert not rig.get(ROOT, DPC.STATUS) & DPC_STATUS_RP_BUSY
    assert status(rig, ROOT)[0]
