"""protocol.ers: merge_result() of linux-aer.md 4.4 and the numbers of xen-pci.md 1.6."""

from __future__ import annotations

import pytest

from protocol.ers import ChannelState, ErsResult, Phase, Severity, merge, result_name

R = ErsResult


def reference(status: int, vote: int) -> int:
    """merge_result() as a sequence of questions, from the prose of the specification."""
    if vote == R.NO_AER_DRIVER:
        return R.NO_AER_DRIVER
    if vote == R.NONE:
        return status
    if status in (R.CAN_RECOVER, R.RECOVERED):
        return vote
    if status == R.DISCONNECT and vote == R.NEED_RESET:
        return R.NEED_RESET
    return status


@pytest.mark.parametrize("status", list(ErsResult))
@pytest.mark.parametrize("vote", list(ErsResult))
def test_merge_is_that_of_the_kernel(status: ErsResult, vote: ErsResult) -> None:
    assert merge(status, vote) == reference(status, vote)


@pytest.mark.parametrize("status", [R.CAN_RECOVER, R.RECOVERED])
@pytest.mark.parametrize("vote", [0, 7, 99, -1])
def test_an_undefined_vote_replaces_can_recover_and_recovered(status: ErsResult, vote: int) -> None:
    assert merge(status, vote) == vote


@pytest.mark.parametrize("status", [R.NONE, R.NEED_RESET, R.DISCONNECT, R.NO_AER_DRIVER])
def test_an_undefined_vote_changes_nothing_else(status: ErsResult) -> None:
    assert merge(status, 0) == status


@pytest.mark.parametrize("vote", [R.NONE, R.CAN_RECOVER, R.NEED_RESET, R.DISCONNECT, R.RECOVERED, 0, 99])
def test_an_undefined_status_yields_to_no_aer_driver_only(vote: int) -> None:
    assert merge(0, vote) == 0
    assert merge(0, R.NO_AER_DRIVER) == R.NO_AER_DRIVER


def test_numbers_are_those_of_the_wire() -> None:
    """1.6: ``aer_op.err`` carries both enumerations."""
    assert [int(r) for r in R] == [1, 2, 3, 4, 5, 6]
    assert [(s.name, int(s)) for s in ChannelState] == [("NORMAL", 1), ("FROZEN", 2), ("PERM_FAILURE", 3)]
    assert [(s.name, int(s)) for s in Severity] == [("NONFATAL", 0), ("FATAL", 1), ("CORRECTABLE", 2)]
    assert list(Phase) == ["error_detected", "mmio_enabled", "slot_reset", "resume"]


def test_names_of_results() -> None:
    assert result_name(3) == "NEED_RESET"
    assert [result_name(value) for value in (0, 7, -1)] == ["0", "7", "-1"]
