"""Recording, masks, severity, enables, advisory errors and the logs: linux-aer.md 2.1."""

import pytest

from dom0_pciback.pcie.errors import detect_uncorrectable
from dom0_pciback.pcie.profile import QEMU_11_1
from protocol.layout_aer import AER
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP
from tests.dom0_pciback.pcie.rig import DISK, NIC, NIC2008, ROOT, Rig

UR, COMP_ABORT, POISON, DLP = 1 << 20, 1 << 15, 1 << 12, 1 << 4
BAD_TLP, ADVISORY = 1 << 6, 1 << 13
HEADER_A, HEADER_B = (0x04000001, 0x0000000F, 0x03000008, 0), (0x44000001, 2, 3, 4)
SERR, NO_SERR = 0x0103, 0x0003


def logged(rig: Rig, bdf: str = NIC) -> tuple[int, ...]:
    """First Error Pointer, then the header log."""
    header = (rig.get(bdf, reg) for reg in (AER.HEADER_LOG, AER.HEADER_LOG_1, AER.HEADER_LOG_2, AER.HEADER_LOG_3))
    return rig.get(bdf, AER.CAP) & 0x1F, *header


# -- correctable ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("devctl", "mask", "command", "sent"),
    [
        (0x000F, 0, SERR, True),
        (0x0001, 0, NO_SERR, True),
        (0x000E, 0, SERR, False),  # SERR# does not enable ERR_COR
        (0x000F, BAD_TLP, SERR, False),
    ],
)
def test_correctable(rig: Rig, devctl: int, mask: int, command: int, sent: bool) -> None:
    rig.set(NIC, EXP.DEVCTL, devctl)
    rig.set(NIC, AER.COR_MASK, mask)
    rig.set(NIC, HEADER.COMMAND, command)
    rig.inject(NIC, cor=BAD_TLP)
    assert (rig.get(NIC, AER.COR_STATUS), rig.get(NIC, EXP.DEVSTA)) == (BAD_TLP, 1)
    assert rig.root_state() == ((1, 0, 0x0300) if sent else (0, 0, 0))
    assert rig.get(NIC, HEADER.STATUS) == 0x0010


# -- uncorrectable -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("bit", "severity", "devsta", "root"),
    [
        (COMP_ABORT, 0, 0x2, 0x24),
        (COMP_ABORT, COMP_ABORT, 0x4, 0x54),
        (DLP, DLP, 0x4, 0x54),
        (DLP, 0, 0x2, 0x24),
        (UR, 0, 0xA, 0x24),
        (UR, UR, 0xC, 0x54),
    ],
)
def test_severity_register_decides_the_message(rig: Rig, bit: int, severity: int, devsta: int, root: int) -> None:
    rig.set(NIC, AER.UNCOR_SEVER, severity)
    rig.inject(NIC, uncor=bit)
    assert (rig.get(NIC, AER.UNCOR_STATUS), rig.get(NIC, EXP.DEVSTA)) == (bit, devsta)
    assert rig.root_state() == (root, 0x0300, 0)


@pytest.mark.parametrize(
    ("bit", "devctl", "command", "sent"),
    [
        (COMP_ABORT, 0x2, NO_SERR, True),  # NFERE alone
        (COMP_ABORT, 0x0, SERR, True),  # SERR# alone
        (COMP_ABORT, 0xD, NO_SERR, False),
        (DLP, 0x4, NO_SERR, True),  # FERE alone
        (DLP, 0x0, SERR, True),
        (DLP, 0xB, NO_SERR, False),
        (UR, 0xA, NO_SERR, True),  # URRE and NFERE
        (UR, 0x2, NO_SERR, False),  # URRE missing
        (UR, 0x8, NO_SERR, False),  # NFERE missing
        (UR, 0x0, SERR, True),
    ],
)
def test_enables_of_the_source(rig: Rig, bit: int, devctl: int, command: int, sent: bool) -> None:
    rig.set(NIC, EXP.DEVCTL, devctl)
    rig.set(NIC, HEADER.COMMAND, command)
    rig.inject(NIC, uncor=bit)
    assert rig.get(NIC, AER.UNCOR_STATUS) == bit
    assert bool(rig.root_state()[0]) == sent
    assert rig.get(NIC, HEADER.STATUS) == (0x4010 if command == SERR else 0x0010)


def test_masked_error_sets_status_but_neither_log_nor_message(rig: Rig) -> None:
    rig.set(NIC, AER.UNCOR_MASK, UR)
    rig.inject(NIC, uncor=UR, header=HEADER_A)
    assert (rig.get(NIC, AER.UNCOR_STATUS), rig.get(NIC, EXP.DEVSTA)) == (UR, 0xA)
    assert (logged(rig), rig.root_state()) == ((0, 0, 0, 0, 0), (0, 0, 0))


# -- advisory ------------------------------------------------------------------------------------
def advisory(rig: Rig, bit: int, bdf: str = NIC) -> None:
    detect_uncorrectable(rig.function(bdf), bit.bit_length() - 1, header=HEADER_A, advisory=True)


def test_advisory_stops_at_the_default_mask(rig: Rig) -> None:
    advisory(rig, UR)
    assert (rig.get(NIC, AER.COR_STATUS), rig.get(NIC, AER.UNCOR_STATUS)) == (ADVISORY, 0)
    assert (rig.get(NIC, EXP.DEVSTA), logged(rig), rig.root_state()) == (9, (0, 0, 0, 0, 0), (0, 0, 0))


@pytest.mark.parametrize(
    ("bit", "devctl", "uncor_mask", "log", "sent"),
    [
        (UR, 0xF, 0, (20, *HEADER_A), True),
        (UR, 0x9, 0, (20, *HEADER_A), True),
        (UR, 0x1, 0, (20, *HEADER_A), False),  # URRE missing
        (UR, 0xE, 0, (20, *HEADER_A), False),  # CERE missing
        (UR, 0xF, UR, (0, 0, 0, 0, 0), True),  # masked: status, no log
        (POISON, 0x1, 0, (12, *HEADER_A), True),
    ],
)
def test_advisory_unmasked(rig: Rig, bit: int, devctl: int, uncor_mask: int, log: tuple[int, ...], sent: bool) -> None:
    rig.set(NIC, AER.COR_MASK, 0)
    rig.set(NIC, AER.UNCOR_MASK, uncor_mask)
    rig.set(NIC, EXP.DEVCTL, devctl)
    advisory(rig, bit)
    assert (rig.get(NIC, AER.COR_STATUS), rig.get(NIC, AER.UNCOR_STATUS)) == (ADVISORY, bit)
    assert logged(rig) == log
    assert rig.root_state() == ((1, 0, 0x0300) if sent else (0, 0, 0))


def test_fatal_severity_turns_advisory_off(rig: Rig) -> None:
    rig.set(NIC, AER.UNCOR_SEVER, UR)
    advisory(rig, UR)
    assert (rig.get(NIC, AER.COR_STATUS), rig.root_state()[0]) == (0, 0x54)


def test_device_that_is_not_role_based_knows_no_advisory(rig: Rig) -> None:
    advisory(rig, UR, NIC2008)
    assert (rig.get(NIC2008, AER.COR_STATUS), rig.get(NIC2008, AER.UNCOR_STATUS)) == (0, UR)


# -- functions without AER -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cor", "uncor", "devsta", "root"),
    [(BAD_TLP, 0, 0x1, (1, 0, 0x0400)), (0, COMP_ABORT, 0x2, (0x24, 0x0400, 0)), (0, DLP, 0x4, (0x54, 0x0400, 0))],
)
def test_without_aer_device_status_and_default_severity(
    rig: Rig, cor: int, uncor: int, devsta: int, root: tuple[int, int, int]
) -> None:
    rig.set(DISK, EXP.DEVCTL, 0xF)
    rig.set(DISK, HEADER.COMMAND, NO_SERR)
    rig.inject(DISK, cor, uncor)
    assert (rig.get(DISK, EXP.DEVSTA), rig.root_state()) == (devsta, root)


def test_without_aer_and_enables_nothing_is_sent(rig: Rig) -> None:
    rig.set(DISK, HEADER.COMMAND, NO_SERR)
    rig.inject(DISK, BAD_TLP, COMP_ABORT)
    assert (rig.get(DISK, EXP.DEVSTA), rig.root_state()) == (0x3, (0, 0, 0))


def test_without_aer_advisory_sends_nothing(rig: Rig) -> None:
    rig.set(DISK, EXP.DEVCTL, 0xF)
    advisory(rig, UR, DISK)
    assert (rig.get(DISK, EXP.DEVSTA), rig.root_state()) == (0x9, (0, 0, 0))


# -- First Error Pointer -------------------------------------------------------------------------
def test_later_error_does_not_overwrite_the_log(rig: Rig) -> None:
    rig.inject(NIC, uncor=COMP_ABORT, header=HEADER_A)
    rig.inject(NIC, uncor=POISON, header=HEADER_B)
    assert rig.get(NIC, AER.UNCOR_STATUS) == COMP_ABORT | POISON
    assert logged(rig) == (15, *HEADER_A)


def test_clearing_another_bit_does_not_rearm(rig: Rig) -> None:
    rig.inject(NIC, uncor=COMP_ABORT, header=HEADER_A)
    rig.inject(NIC, uncor=POISON)
    rig.set(NIC, AER.UNCOR_STATUS, POISON)
    rig.inject(NIC, uncor=UR, header=HEADER_B)
    assert logged(rig) == (15, *HEADER_A)


def test_clearing_the_named_bit_rearms(rig: Rig) -> None:
    rig.inject(NIC, uncor=COMP_ABORT, header=HEADER_A)
    rig.set(NIC, AER.UNCOR_STATUS, COMP_ABORT)
    assert logged(rig) == (15, *HEADER_A)
    rig.inject(NIC, uncor=UR, header=HEADER_B)
    assert logged(rig) == (20, *HEADER_B)


def test_masked_error_with_the_number_of_a_stale_pointer_does_not_block_the_log(rig: Rig) -> None:
    rig.inject(NIC, uncor=COMP_ABORT, header=HEADER_A)
    rig.set(NIC, AER.UNCOR_STATUS, COMP_ABORT)
    rig.set(NIC, AER.UNCOR_MASK, COMP_ABORT)
    rig.inject(NIC, uncor=COMP_ABORT)
    rig.inject(NIC, uncor=UR, header=HEADER_B)
    assert logged(rig) == (20, *HEADER_B)


def test_prefix_log_and_its_flag(rig: Rig) -> None:
    detect_uncorrectable(rig.function(NIC), 12, header=HEADER_A, prefixes=(0x91000000, 0x92000000))
    assert rig.get(NIC, AER.CAP) == 0x8AC
    assert [rig.get(NIC, reg) for reg in (AER.PREFIX_LOG, AER.PREFIX_LOG_1, AER.PREFIX_LOG_2)] == [
        0x91000000,
        0x92000000,
        0,
    ]


def test_every_set_bit_is_detected_lowest_first(rig: Rig) -> None:
    rig.inject(NIC, cor=BAD_TLP | 1, uncor=UR | COMP_ABORT | DLP, header=HEADER_A)
    assert (rig.get(NIC, AER.COR_STATUS), rig.get(NIC, AER.UNCOR_STATUS)) == (BAD_TLP | 1, UR | COMP_ABORT | DLP)
    assert logged(rig)[0] == 4
    assert rig.root_state()[0] == 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x20 | 0x40


# -- profile qemu-11.1 (errata 4.2) ----------------------------------------------------------------
def test_qemu_overwrites_the_log_and_swaps_bytes() -> None:
    rig = Rig(profile=QEMU_11_1)
    rig.inject(NIC, uncor=COMP_ABORT, header=HEADER_A)
    rig.inject(NIC, uncor=POISON, header=(0x01000004, 0, 0, 0))
    assert logged(rig) == (12, 0x04000001, 0, 0, 0)


def test_qemu_port_forgets_the_log_at_the_next_write_endpoint_keeps_it() -> None:
    rig = Rig(profile=QEMU_11_1)
    assert rig.get(ROOT, AER.CAP) == 0x2A0
    for bdf in (ROOT, NIC):
        rig.inject(bdf, uncor=COMP_ABORT, header=(1, 2, 3, 4))
        rig.set(bdf, HEADER.INTERRUPT_LINE, 5)
        assert rig.get(bdf, AER.CAP) & 0x1F == 15
        rig.set(bdf, AER.UNCOR_STATUS, COMP_ABORT)
    assert (rig.get(ROOT, AER.CAP), logged(rig, ROOT)) == (0x2A0, (0, 0, 0, 0, 0))
    assert logged(rig)[0] == 15
