"""Messages on their way up and at the root port: linux-aer.md 2.2, 2.3; T27, C3, C13, errata 4.3."""

import pytest

from dom0_pciback.pcie.profile import QEMU_11_1
from protocol.layout_aer import AER
from protocol.layout_header import HEADER, TYPE1
from protocol.layout_pcie import EXP
from tests.dom0_pciback.pcie.rig import CARD, DOWN, NIC, NIC2008, ROOT, ROOT2, UP, Rig

COR, NONFATAL, FATAL = 1 << 6, 1 << 15, 1 << 4
NIC_ID, CARD_ID = 0x0300, 0x0301


# -- on the way up -------------------------------------------------------------------------------
@pytest.mark.parametrize("bridge", [ROOT, UP, DOWN])
@pytest.mark.parametrize(("cor", "uncor"), [(COR, 0), (0, NONFATAL), (0, FATAL)])
def test_bridge_control_serr_off_stops_every_message(rig: Rig, bridge: str, cor: int, uncor: int) -> None:
    rig.set(bridge, TYPE1.BRIDGE_CONTROL, 0)
    rig.inject(NIC, cor, uncor)
    assert (rig.root_state(), rig.interrupts) == ((0, 0, 0), [])
    assert rig.get(bridge, TYPE1.SEC_STATUS) == (0x4000 if uncor else 0)
    assert rig.get(bridge, HEADER.STATUS) == 0x0010


@pytest.mark.parametrize(
    ("command", "devctl", "uncor", "passes"),
    [
        (0x0007, 0x2, NONFATAL, True),
        (0x0107, 0x0, NONFATAL, True),
        (0x0007, 0xD, NONFATAL, False),
        (0x0007, 0x4, FATAL, True),
        (0x0107, 0x0, FATAL, True),
        (0x0007, 0xB, FATAL, False),
    ],
)
def test_bridge_asks_for_serr_or_the_matching_enable(
    rig: Rig, command: int, devctl: int, uncor: int, passes: bool
) -> None:
    rig.set(DOWN, HEADER.COMMAND, command)
    rig.set(DOWN, EXP.DEVCTL, devctl)
    rig.inject(NIC, uncor=uncor)
    assert bool(rig.root_state()[0]) == passes
    assert rig.get(DOWN, HEADER.STATUS) == (0x4010 if command == 0x0107 else 0x0010)


def test_uncorrectable_marks_every_bridge_on_the_way_and_no_other(rig: Rig) -> None:
    rig.inject(NIC, uncor=NONFATAL)
    marked = {bdf for bdf in (ROOT, UP, DOWN, ROOT2) if rig.get(bdf, TYPE1.SEC_STATUS) == 0x4000}
    assert marked == {ROOT, UP, DOWN}
    assert {rig.get(bdf, HEADER.STATUS) for bdf in (ROOT, UP, DOWN, NIC)} == {0x4010}


def test_correctable_marks_no_bridge(rig: Rig) -> None:
    rig.inject(NIC, cor=COR)
    assert [rig.get(bdf, TYPE1.SEC_STATUS) for bdf in (ROOT, UP, DOWN)] == [0, 0, 0]
    assert [rig.get(bdf, HEADER.STATUS) for bdf in (ROOT, UP, DOWN)] == [0x10, 0x10, 0x10]


@pytest.mark.parametrize(("port", "rid"), [(ROOT, 0x00E0), (UP, 0x0100), (DOWN, 0x0200)])
def test_error_of_a_port_needs_no_own_bridge_control(rig: Rig, port: str, rid: int) -> None:
    rig.set(port, TYPE1.BRIDGE_CONTROL, 0)
    rig.inject(port, uncor=NONFATAL)
    assert rig.root_state() == (0x24, rid, 0)
    assert rig.get(port, TYPE1.SEC_STATUS) == 0


def test_message_does_not_pass_a_link_that_is_down(rig: Rig) -> None:
    rig.port(UP).link.freeze()
    rig.inject(NIC, uncor=NONFATAL)
    assert rig.root_state() == (0, 0, 0)
    assert rig.function(NIC).config.peek(rig.function(NIC).aer + AER.UNCOR_STATUS, 4) == NONFATAL


# -- root port -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("steps", "status", "uncor_source", "cor_source"),
    [
        ([(NIC, COR, 0)], 0x01, 0, NIC_ID),
        ([(NIC, COR, 0), (CARD, COR, 0)], 0x03, 0, NIC_ID),
        ([(NIC, 0, NONFATAL)], 0x24, NIC_ID, 0),
        ([(NIC, 0, FATAL)], 0x54, NIC_ID, 0),
        ([(NIC, 0, NONFATAL), (CARD, 0, NONFATAL)], 0x2C, NIC_ID, 0),
        ([(NIC, 0, FATAL), (CARD, 0, FATAL)], 0x5C, NIC_ID, 0),
        ([(NIC, 0, FATAL), (CARD, 0, NONFATAL)], 0x7C, NIC_ID, 0),
        ([(NIC, 0, NONFATAL), (CARD, 0, FATAL)], 0x6C, NIC_ID, 0),  # FIRST_FATAL stays clear
        ([(NIC, COR, 0), (CARD, 0, NONFATAL)], 0x25, CARD_ID, NIC_ID),  # the classes are independent
    ],
)
def test_root_status_and_source_of_the_first(
    rig: Rig, steps: list[tuple[str, int, int]], status: int, uncor_source: int, cor_source: int
) -> None:
    for bdf, cor, uncor in steps:
        rig.inject(bdf, cor, uncor)
    assert rig.root_state() == (status, uncor_source, cor_source)
    assert rig.get(ROOT2, AER.ROOT_STATUS) == 0


def test_source_is_taken_again_after_the_status_was_cleared(rig: Rig) -> None:
    rig.inject(NIC, uncor=NONFATAL)
    rig.set(ROOT, AER.ROOT_STATUS, rig.get(ROOT, AER.ROOT_STATUS))
    assert rig.root_state() == (0, NIC_ID, 0)
    rig.inject(CARD, uncor=FATAL)
    assert rig.root_state() == (0x54, CARD_ID, 0)


def test_root_port_without_aer_records_nothing() -> None:
    rig = Rig()
    rig.function(ROOT).aer = 0
    rig.inject(NIC, uncor=NONFATAL)
    assert rig.interrupts == []


# -- interrupt -----------------------------------------------------------------------------------
def test_second_message_before_the_clear_is_silent_t27(rig: Rig) -> None:
    rig.inject(NIC, cor=COR)
    rig.inject(NIC, uncor=FATAL)
    assert rig.interrupts == [ROOT]


def test_partly_cleared_status_keeps_the_port_deaf_t27(rig: Rig) -> None:
    rig.inject(NIC, cor=COR, uncor=NONFATAL)
    rig.set(ROOT, AER.ROOT_STATUS, 0x01)
    rig.inject(NIC, cor=COR)
    assert rig.interrupts == [ROOT]


def test_clearing_arms_the_interrupt_again(rig: Rig) -> None:
    for _ in range(2):
        rig.inject(NIC, uncor=NONFATAL)
        rig.set(ROOT, AER.ROOT_STATUS, 0x7F)
    assert rig.interrupts == [ROOT, ROOT]


@pytest.mark.parametrize(("command", "cor", "uncor"), [(0x6, COR, 0), (0x5, 0, NONFATAL), (0x3, 0, FATAL)])
def test_class_that_root_command_excludes_does_not_interrupt_c13(rig: Rig, command: int, cor: int, uncor: int) -> None:
    rig.set(ROOT, AER.ROOT_COMMAND, command)
    rig.inject(NIC, cor, uncor)
    assert rig.interrupts == []
    rig.set(ROOT, AER.ROOT_COMMAND, 0x7)
    assert rig.interrupts == [ROOT]  # enabling while status bits are set is a transition


def test_each_root_port_interrupts_for_itself(rig: Rig) -> None:
    rig.inject(NIC, cor=COR)
    rig.inject(NIC2008, cor=COR)
    assert rig.interrupts == [ROOT, ROOT2]


# -- profile qemu-11.1 (errata 4.3) ----------------------------------------------------------------
@pytest.mark.parametrize(
    ("bdf", "command", "devctl", "uncor", "status", "sent"),
    [
        (NIC, 0x0103, 0x0, NONFATAL, 0x4010, False),  # F_serr_on_no_nfere
        (NIC, 0x0003, 0x2, NONFATAL, 0x4010, True),
        (NIC, 0x0003, 0x0, NONFATAL, 0x0010, False),
        (DOWN, 0x0107, 0x0, NONFATAL, 0x4010, False),
        (DOWN, 0x0007, 0x0, NONFATAL, 0x0010, False),
    ],
)
def test_qemu_needs_the_enable_everywhere(
    bdf: str, command: int, devctl: int, uncor: int, status: int, sent: bool
) -> None:
    rig = Rig(profile=QEMU_11_1)
    rig.set(bdf, HEADER.COMMAND, command)
    rig.set(bdf, EXP.DEVCTL, devctl)
    rig.inject(NIC, uncor=uncor)
    assert (rig.get(bdf, HEADER.STATUS), bool(rig.root_state()[0])) == (status, sent)


def test_qemu_port_marks_its_own_secondary_status_and_stops_itself() -> None:
    rig = Rig(profile=QEMU_11_1)
    rig.set(ROOT, TYPE1.BRIDGE_CONTROL, 0)
    rig.inject(ROOT, uncor=NONFATAL)
    assert (rig.get(ROOT, TYPE1.SEC_STATUS), rig.root_state()) == (0x4000, (0, 0, 0))


def test_qemu_correctable_sets_signalled_system_error() -> None:
    rig = Rig(profile=QEMU_11_1)
    rig.inject(NIC, cor=COR)
    assert (rig.get(NIC, HEADER.STATUS), rig.get(ROOT, HEADER.STATUS), rig.root_state()[0]) == (0x4010, 0x4010, 1)
