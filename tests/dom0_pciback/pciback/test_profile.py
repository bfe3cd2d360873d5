"""Decision tables of pciback's error callbacks (xen-pci-errata.md 3.1, 9.1 to 9.3) and the switches of profiles."""

from __future__ import annotations

import pytest

from dom0_pciback.pciback.profile import (
    BYSTANDER_ROWS,
    DEFECT_OF,
    HARDENED,
    HARDENED_ROWS,
    LINUX,
    LINUX_ROWS,
    PCIBACK_BYSTANDER,
    PCIBACK_HARDENED,
    PCIBACK_LINUX,
    Decision,
    Defect,
    Row,
    Situation,
    Table,
    compile_rows,
    decide,
    make_profile,
    situation_of,
)
from kernel_stub.kernel import DEBUG, ERR
from protocol.ers import ErsResult, Phase

S = Situation
ED, MM, SR, RS = Phase
NONE, CAN_RECOVER, NEED_RESET, DISCONNECT, RECOVERED, NO_AER_DRIVER = ErsResult
ANSWER = None
VOTING = (ED, MM, SR)
TABLES = {"linux": PCIBACK_LINUX, "hardened": PCIBACK_HARDENED, "bystander": PCIBACK_BYSTANDER}


@pytest.mark.parametrize("name", TABLES)
def test_every_input_has_exactly_one_decision(name: str) -> None:
    assert set(TABLES[name]) == {(situation, phase) for situation in Situation for phase in Phase}


@pytest.mark.parametrize("rows", [LINUX_ROWS, HARDENED_ROWS, BYSTANDER_ROWS])
def test_every_row_is_reached_and_labels_are_unique(rows: tuple[Row, ...]) -> None:
    labels = [row.label for row in rows]
    assert len(set(labels)) == len(labels)
    used = {decision.label for decision in compile_rows(rows).values()}
    assert set(labels) == used


def test_a_table_with_a_hole_is_refused() -> None:
    with pytest.raises(ValueError, match="no row for guest-dead"):
        compile_rows(HARDENED_ROWS[:-1])


def row(table: Table, situation: Situation) -> list[tuple[ErsResult | None, bool]]:
    """Result and kill in the four phases."""
    return [(d.result, d.kill) for d in (decide(table, situation, phase) for phase in Phase)]


D2, D5 = (CAN_RECOVER, False), (RECOVERED, False)
K2, K5 = (CAN_RECOVER, True), (RECOVERED, True)
A, AK = (ANSWER, False), (ANSWER, True)
N, NK, X, XK = (NONE, False), (NONE, True), (DISCONNECT, False), (DISCONNECT, True)


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (S.NOT_ASSIGNED, [D2, D5, D5, D5]),
        (S.DETACHED, [D2, D5, D5, D5]),
        (S.NO_SHARED_PAGE, [K2, K5, K5, K5]),
        (S.CHANNEL_LOST, [K2, K5, K5, K5]),
        (S.CONTAINED, [A, A, A, A]),
        (S.NO_SHARED_PAGE_YOUNG, [K2, K5, K5, K5]),
        (S.GUEST_DEAD, [K2, K5, K5, K5]),
        (S.NO_AER_HANDLER, [K2, D5, D5, K5]),
        (S.NO_GUEST_ADDRESS, [NK, NK, NK, D5]),
        (S.ANSWER_NONE, [AK, AK, AK, D5]),
        (S.ANSWER_DISCONNECT, [AK, AK, AK, D5]),
        (S.ANSWER_VALID, [A, A, A, D5]),
        (S.ANSWER_INVALID, [A, A, A, D5]),
        (S.TIMEOUT, [D2, D5, D5, D5]),
    ],
)
def test_linux_3_1(situation: Situation, expected: list[tuple[ErsResult | None, bool]]) -> None:
    assert row(PCIBACK_LINUX, situation) == expected


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (S.NOT_ASSIGNED, [N, N, N, N]),
        (S.DETACHED, [N, N, N, N]),
        (S.NO_GUEST_ADDRESS, [N, N, N, N]),
        (S.NO_SHARED_PAGE_YOUNG, [N, N, N, N]),
        (S.NO_SHARED_PAGE, [XK, XK, XK, XK]),
        (S.CHANNEL_LOST, [XK, XK, XK, XK]),
        (S.CONTAINED, [N, N, N, N]),
        (S.NO_AER_HANDLER, [XK, XK, XK, XK]),
        (S.ANSWER_NONE, [XK, XK, XK, D5]),
        (S.ANSWER_DISCONNECT, [XK, XK, XK, D5]),
        (S.ANSWER_INVALID, [XK, XK, XK, D5]),
        (S.ANSWER_VALID, [A, A, A, D5]),
        (S.TIMEOUT, [XK, XK, XK, XK]),
        (S.GUEST_DEAD, [X, X, X, X]),
    ],
)
def test_hardened_9_2(situation: Situation, expected: list[tuple[ErsResult | None, bool]]) -> None:
    assert row(PCIBACK_HARDENED, situation) == expected


@pytest.mark.parametrize("phase", VOTING)
def test_H20_9_3_bystander(phase: Phase) -> None:
    def outcome(situation: Situation) -> tuple[ErsResult | None, bool]:
        decision = decide(PCIBACK_BYSTANDER, situation, phase)
        return decision.result, decision.kill

    assert outcome(S.ANSWER_NONE) == N
    first = phase is ED  # who has been asked before knows of the recovery and has stopped its device
    assert outcome(S.NO_AER_HANDLER) == outcome(S.NO_SHARED_PAGE) == (N if first else XK)
    assert outcome(S.CHANNEL_LOST) == XK
    assert outcome(S.ANSWER_VALID) == A
    assert outcome(S.ANSWER_DISCONNECT) == outcome(S.ANSWER_INVALID) == outcome(S.TIMEOUT) == XK


def test_H15_a_hardened_kill_is_always_a_disconnect_vote() -> None:
    for table in (PCIBACK_HARDENED, PCIBACK_BYSTANDER):
        assert {decision.result for decision in table.values() if decision.kill} == {DISCONNECT}


@pytest.mark.parametrize(
    ("situation", "phase", "log"),
    [
        (S.NOT_ASSIGNED, RS, (ERR, "device is not found/assigned")),
        (S.NO_SHARED_PAGE, ED, (ERR, "device is not connected or owned by HVM, kill it")),
        (S.NO_AER_HANDLER, ED, (DEBUG, "guest may have no aer driver, kill it")),
        (S.NO_AER_HANDLER, SR, (ERR, "guest with no AER driver should have been killed")),
        (S.ANSWER_NONE, ED, (DEBUG, "No AER error_detected service or disconnected!")),
        (S.ANSWER_DISCONNECT, MM, (DEBUG, "No AER mmio_enabled service or disconnected!")),
        (S.ANSWER_NONE, SR, (DEBUG, "No AER slot_reset service or disconnected!")),
        (S.ANSWER_NONE, RS, None),
        (S.ANSWER_VALID, ED, None),
        (S.TIMEOUT, RS, (ERR, "pcifront aer process not responding!")),
    ],
)
def test_linux_log_lines(situation: Situation, phase: Phase, log: tuple[int, str] | None) -> None:
    assert decide(PCIBACK_LINUX, situation, phase).log == log


def test_D20_prints_two_lines() -> None:
    decision = decide(PCIBACK_LINUX, S.NO_GUEST_ADDRESS, MM)
    assert decision.first_log == (ERR, "failed to get pcifront device")
    assert decision.log == (DEBUG, "No AER mmio_enabled service or disconnected!")


@pytest.mark.parametrize(
    ("answer", "situation"),
    [
        (1, S.ANSWER_NONE),
        (2, S.ANSWER_VALID),
        (3, S.ANSWER_VALID),
        (4, S.ANSWER_DISCONNECT),
        (5, S.ANSWER_VALID),
        (6, S.ANSWER_INVALID),
        (0, S.ANSWER_INVALID),
        (-1, S.ANSWER_INVALID),
        (0x7FFF_FFFF, S.ANSWER_INVALID),
    ],
)
def test_H8_X17_answers(answer: int, situation: Situation) -> None:
    assert situation_of(answer) == situation


# -- profiles --------------------------------------------------------------------------------------
def test_linux_has_all_26_defects_and_hardened_none() -> None:
    assert len(Defect) == 26
    assert LINUX.defects == frozenset(Defect)
    assert HARDENED.defects == frozenset()
    assert len({defect.description for defect in Defect}) == 26


def test_pure_profiles_use_the_pure_tables() -> None:
    assert LINUX.table() == PCIBACK_LINUX
    assert LINUX.bystander_table() == PCIBACK_LINUX
    assert HARDENED.table() == PCIBACK_HARDENED
    assert HARDENED.bystander_table() == PCIBACK_BYSTANDER


@pytest.mark.parametrize("defect", sorted(set(DEFECT_OF.values())))
@pytest.mark.parametrize("name", ["linux", "hardened"])
def test_one_switched_defect_changes_exactly_its_situations(name: str, defect: Defect) -> None:
    pure, switched = make_profile(name).table(), make_profile(name, [defect]).table()
    changed = {situation for (situation, phase), decision in pure.items() if switched[situation, phase] != decision}
    assert changed == {situation for situation, owner in DEFECT_OF.items() if owner is defect}


def test_D3_in_hardened_lets_a_mute_guest_live() -> None:
    profile = make_profile("hardened", ["D3"])
    assert profile.has(Defect.D3)
    mute = Decision("mute", CAN_RECOVER, False, (ERR, "pcifront aer process not responding!"))
    assert decide(profile.table(), S.TIMEOUT, ED) == mute
    assert decide(profile.bystander_table(), S.TIMEOUT, ED) == mute


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no profile 'soft'"):
        make_profile("soft")
    with pytest.raises(ValueError, match="D99"):
        make_profile("linux", ["D99"])
