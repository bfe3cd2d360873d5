"""What may happen while a phase runs: detach, attach, destroy, shutdown, errors (7.5, H11, 9.2 no. 13, 14, 18)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.kit import BAD_TLP, COMP_ABORT, MALF_TLP, UNX_COMP, Rig, endpoint, guest, host, root_port

A, B = "01:00.0", "02:00.0"
SECOND_MS = 1_000
SLOW: dict[str, Any] = {"ed_ms": SECOND_MS, "mmio_ms": SECOND_MS, "slot_reset_ms": SECOND_MS, "resume_ms": SECOND_MS}
# phase -> (error, driver options that lead there, when it is half over)
PHASES: dict[str, tuple[int, dict[str, Any], float]] = {
    "error_detected": (COMP_ABORT, {}, 500),
    "mmio_enabled": (COMP_ABORT, {}, 1_500),
    "resume": (COMP_ABORT, {}, 2_500),
    "frozen error_detected": (MALF_TLP, {}, 500),
    "the bus reset": (MALF_TLP, {}, 1_050),
    "slot_reset": (MALF_TLP, {}, 1_650),
    "frozen resume": (MALF_TLP, {}, 2_650),
    "the reset that mmio_enabled wants": (COMP_ABORT, {"mmio": 3}, 2_050),
}
EVERY_PHASE = pytest.mark.parametrize("phase", PHASES)


def system(*devices: str, seed: int = 1, **options: Any) -> Rig:
    """Two ports with a function each; one guest has ``devices``."""
    functions = [root_port("00:04.0", 1), root_port("00:05.0", 2), endpoint(A, "00:04.0"), endpoint(B, "00:05.0")]
    return Rig(host(functions, [guest("g1", *devices, **SLOW, **options)]), seed)


def in_phase(phase: str, *devices: str, seed: int = 1) -> Rig:
    """A recovery of A that stands in the middle of ``phase``."""
    error, options, when = PHASES[phase]
    return system(*(devices or (A,)), seed=seed, **options).inject(A, error).settle(when)


def without_second(**options: Any) -> Rig:
    """The guest has a driver for B, but B has been detached."""
    rig = system(A, B, **options)
    assert rig.xl("pci-detach", "g1", B)[0] == 0
    return rig


@EVERY_PHASE
def test_h11_detach(phase: str) -> None:
    rig = in_phase(phase)
    assert rig.xl("pci-detach", "g1", A)[0] == 0
    rig.settle()
    assert rig.alive("g1")
    assert not rig.aerfail
    assert rig.clean(A)
    assert rig.verdicts() == ["abandoned"]
    assert rig.outcome(A) == "detached"
    assert rig.resets_of(A) == ["flr"]
    rig.check()


@EVERY_PHASE
def test_detach_of_another_device(phase: str) -> None:
    rig = in_phase(phase, A, B)
    assert rig.xl("pci-detach", "g1", B)[0] == 0
    rig.settle()
    assert rig.alive("g1")
    assert rig.outcome(A) == "recovered"
    assert rig.same(A)
    assert rig.clean(B)
    rig.check()


@EVERY_PHASE
def test_i24_attach_of_another_device(phase: str) -> None:
    error, options, when = PHASES[phase]
    rig = without_second(**options).inject(A, error).settle(when)
    assert rig.xl("pci-attach", "g1", B)[0] == 0
    rig.settle()
    assert rig.alive("g1")
    assert rig.outcome(A) == "recovered"
    assert rig.same(A)
    rig.inject(B, COMP_ABORT).settle()
    assert rig.outcome(B) == "recovered"
    assert rig.same(B)
    rig.check()


@EVERY_PHASE
def test_no_18_destroy(phase: str) -> None:
    rig = in_phase(phase)
    assert rig.xl("destroy", "g1")[0] == 0
    rig.settle()
    assert not rig.alive("g1")
    assert not rig.aerfail
    assert rig.clean(A)
    assert rig.verdicts() == ["abandoned"]
    assert rig.outcome(A) == "detached"
    rig.check()


@EVERY_PHASE
@pytest.mark.parametrize("word", ["shutdown", "reboot"])
def test_shutdown(phase: str, word: str) -> None:
    """The guest goes by itself: no kill is needed, nothing of it is left, the device is clean (KILL-8)."""
    rig = in_phase(phase)
    assert rig.xl(word, "g1")[0] == 0
    rig.settle()
    assert rig.alive("g1") is (word == "reboot")
    assert not rig.aerfail
    assert rig.same(A) if word == "reboot" else rig.clean(A)
    rig.check()


@EVERY_PHASE
def test_the_process_dies(phase: str) -> None:
    """I11, X42: the guest's process ends without a word."""
    rig = in_phase(phase)
    runner: Any = rig.system.supervisors[0].runner
    runner.kill(max(runner._guests))
    rig.settle()
    assert not rig.alive("g1")
    assert rig.clean(A)
    assert rig.verdicts() == ["failed"]
    assert rig.outcome(A) == "killed"
    rig.check()


@EVERY_PHASE
@pytest.mark.parametrize("error", [UNX_COMP, MALF_TLP, 1 << 4], ids=["nonfatal", "fatal", "other-fatal"])
def test_no_14_second_error_of_the_same_function(phase: str, error: int) -> None:
    rig = in_phase(phase).inject(A, error).settle(60_000)
    assert rig.alive("g1")
    assert not rig.aerfail
    assert rig.same(A)
    assert set(rig.verdicts()) == {"successful"}
    assert rig.outcome(A) == "recovered"
    rig.check()


@EVERY_PHASE
@pytest.mark.parametrize("error", [COMP_ABORT, MALF_TLP], ids=["nonfatal", "fatal"])
def test_no_14_error_of_another_device(phase: str, error: int) -> None:
    """One page: the phases of the two devices alternate, both recover (ORD-7)."""
    rig = in_phase(phase, A, B).inject(B, error).settle(60_000)
    assert rig.outcome(A) == rig.outcome(B) == "recovered"
    assert rig.same(A)
    assert rig.same(B)
    rig.check()


@EVERY_PHASE
def test_no_8_correctable_error(phase: str) -> None:
    rig = in_phase(phase)
    rig.inject(A, 0, BAD_TLP).settle(60_000)
    assert rig.outcome(A) == "recovered"
    assert rig.same(A)
    rig.check()


@EVERY_PHASE
def test_no_15_pause(phase: str) -> None:
    rig = in_phase(phase)
    assert rig.xl("pause", "g1")[0] == 0
    rig.settle(60_000)
    assert rig.xl("unpause", "g1")[0] == 0
    rig.settle()
    assert rig.outcome(A) == "recovered"
    assert rig.same(A)
    assert not rig.aerfail
    rig.check()


def test_detach_at_every_moment() -> None:
    """I13 to I16: wherever the detach falls, the guest lives and the device ends clean."""
    for step in range(40):
        rig = system(A, seed=step)
        rig.inject(A, MALF_TLP if step % 2 else COMP_ABORT)
        rig.start_xl("pci-detach", "g1", A)
        rig.settle(step * 0.1)
        rig.settle(30_000)
        lives_without(rig, step)


def lives_without(rig: Rig, step: int) -> None:
    """The guest goes on, the device is clean."""
    assert rig.alive("g1"), step
    assert not rig.aerfail, step
    assert rig.clean(A), step
    rig.check()


def test_error_at_every_moment_of_a_detach() -> None:
    for step in range(60):
        rig = system(A)
        rig.start_xl("pci-detach", "g1", A)
        rig.settle(step * 0.1 if step < 40 else step * 5 - 190)
        rig.inject(A, MALF_TLP if step % 2 else COMP_ABORT).settle(30_000)
        lives_without(rig, step)


def test_error_at_every_moment_of_an_attach() -> None:
    """H13 for a hot attached device: the guest is not killed for one that it is just finding."""
    for step in range(60):
        rig = without_second()
        rig.start_xl("pci-attach", "g1", B)
        rig.settle(step * 5 if step < 20 else 100 + (step - 20) * 0.1)
        rig.inject(B, MALF_TLP if step % 2 else COMP_ABORT).settle(30_000)
        assert rig.alive("g1"), step
        assert not rig.aerfail, step
        assert rig.same(B), step
        rig.check()
