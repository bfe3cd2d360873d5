"""Errors while a guest is not connected: H13, D21, X33, I15, I19; and functions that no guest has."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.kit import COMP_ABORT, MALF_TLP, Rig, guest, one_port
from xenaer.simulation.parties import SimRunner

A, B = "01:00.0", "01:00.1"
RESET = {COMP_ABORT: "flr", MALF_TLP: "bus"}
ERRORS = pytest.mark.parametrize("error", [COMP_ABORT, MALF_TLP], ids=["nonfatal", "fatal"])


def starting() -> tuple[Rig, Callable[[], None]]:
    """A host whose guest has been created but is not scheduled; and what lets it run."""
    rig = Rig(one_port(guest("g1", A)), boot=False)
    runner = rig.system.supervisors[0].runner
    assert isinstance(runner, SimRunner)
    begin, pids = runner.start, list[int]()

    async def start(domid: int, token: str, name: str) -> int:
        pids.append(await begin(domid, token, name))
        await runner.kernel.sleep(1)  # its kernel begins, and says hello at most
        runner.pause(pids[0], on=True)
        return pids[0]

    runner.start = start  # type: ignore[method-assign]
    rig.start_xl("create", "g1")
    return rig, lambda: runner.pause(pids[0], on=False)


@ERRORS
def test_h13_a_young_guest_is_not_killed_and_its_device_is_reset(error: int) -> None:
    rig, run = starting()
    rig.settle(2_000)
    assert rig.psdev(A).domid is not None
    rig.inject(A, error).settle(2_000)
    assert rig.resets() == [RESET[error]]
    assert rig.verdicts() == ["successful"]
    assert not rig.aerfail
    assert rig.outcome(A) == "recovered"
    assert not rig.callbacks()
    run()
    rig.settle()
    assert rig.alive("g1")
    assert rig.records("pciback.connect")
    assert rig.registers(A)["status"] == 0
    assert rig.registers(A)["Command"] & 7 == 7
    rig.inject(A, COMP_ABORT).settle()
    assert rig.callbacks() == ["ED(1) 2", "MM 5", "RS"]
    rig.check()


@ERRORS
def test_h13_after_the_grace_time_it_is_killed(error: int) -> None:
    rig, _ = starting()
    rig.settle(40_000).inject(A, error).settle()
    assert rig.outcome(A) == "killed"
    assert len(rig.aerfail) == 1
    assert not rig.alive("g1")
    assert rig.clean(A)
    rig.check()


@ERRORS
def test_every_moment_of_the_start(error: int) -> None:
    """I19: wherever the error falls while the guest connects, it lives and its device works."""
    for tenth_ms in range(0, 3_000, 97):
        rig = Rig(one_port(guest("g1", A)), boot=False)
        rig.start_xl("create", "g1")
        rig.settle(100 + tenth_ms / 100).inject(A, error).settle(40_000)
        assert rig.alive("g1"), tenth_ms
        assert not rig.aerfail, tenth_ms
        assert (rig.registers(A)["status"], rig.registers(A)["Command"] & 7) == (0, 7), tenth_ms
        rig.check()


@ERRORS
def test_no_4_an_unassigned_function(error: int) -> None:
    rig = Rig(one_port(functions=2)).inject(A, error).settle()
    assert rig.resets() == [RESET[error]]
    assert rig.verdicts() == ["successful"]
    assert rig.outcome(A) == "unassigned-ok"
    assert rig.clean(A)
    assert any("device is not found/assigned" in line for line in rig.log())
    rig.check()


@ERRORS
def test_no_4_an_unassigned_function_that_stays_dead_is_faulty(error: int) -> None:
    rig = Rig(one_port())
    rig.function(A).spec.ready_ms = -1
    rig.inject(A, error).settle(200_000)
    assert rig.outcome(A) == "faulty"
    assert rig.verdicts() == ["failed"]
    assert not rig.assignable(A)
    rig.check()


def test_an_unassigned_function_without_flr_gets_a_bus_reset() -> None:
    rig = Rig(one_port(fields={"flr": False})).inject(A, COMP_ABORT).settle()
    assert rig.outcome(A) == "unassigned-ok"
    assert rig.resets_of("00:04.0") == ["bus"]
    rig.check()


def test_i15_an_error_after_the_detach_finds_nobody() -> None:
    rig = Rig(one_port(guest("g1", A)))
    assert rig.xl("pci-detach", "g1", A)[0] == 0
    rig.inject(A, COMP_ABORT).settle()
    assert rig.outcome(A) == "unassigned-ok"
    assert rig.alive("g1")
    assert not rig.callbacks()
    rig.check()


def test_the_device_can_be_attached_again_after_everything() -> None:
    """Detach, error, attach, error: the same function in the same guest."""
    rig = Rig(one_port(guest("g1", A)))
    assert rig.xl("pci-detach", "g1", A)[0] == 0
    rig.inject(A, MALF_TLP).settle()
    assert rig.xl("pci-attach", "g1", A)[0] == 0
    rig.settle(1_000).inject(A, COMP_ABORT).settle()
    assert rig.callbacks() == ["ED(1) 2", "MM 5", "RS"]
    assert rig.outcome(A) == "recovered"
    rig.check()


def test_h22_a_bus_reset_restores_every_function_that_nobody_has() -> None:
    """Whoever asks for it: dom0 for a function of nobody without FLR, or the stub for that of a destroyed guest."""
    rig = Rig(one_port(functions=2, fields={"flr": False})).inject(A, COMP_ABORT).settle()
    assert rig.outcome(A) == rig.outcome(B) == "unassigned-ok"
    assert rig.clean(A)
    assert rig.clean(B)
    rig = Rig(one_port(guest("g1", A), functions=2, fields={"flr": False}))
    assert rig.xl("destroy", "g1")[0] == 0
    rig.settle()
    assert rig.clean(A)
    assert rig.clean(B)
    rig.check()
