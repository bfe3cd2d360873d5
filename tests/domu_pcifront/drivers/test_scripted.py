"""scripted and silent, options, and the registry of drivers."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from domu_pcifront.driver import (
    DRIVERS,
    MissingHandlerError,
    PciDriver,
    ProbeError,
    call_handler,
    check_options,
    driver_for_ids,
    load_driver,
)
from domu_pcifront.drivers.scripted import DELAY_OPTION, FAILURES, Scripted, ScriptedFailureError
from domu_pcifront.drivers.silent import Silent
from domu_pcifront.drivers.xblk import XBlk
from domu_pcifront.drivers.xnic import XNic
from protocol.ers import ChannelState, ErsResult, Phase
from protocol.labels_guest import LABELS
from tests.domu_pcifront.drivers.rig import Rig

ARGS: dict[Phase, tuple[Any, ...]] = {Phase.ERROR_DETECTED: (ChannelState.NORMAL,)}
FROZEN, NORMAL, PERM = ChannelState.FROZEN, ChannelState.NORMAL, ChannelState.PERM_FAILURE


def answer(options: dict[str, Any], phase: Phase, *args: Any) -> int:
    rig = Rig()
    driver = rig.bind(Scripted, **options)
    return int(rig.world.do(call_handler(driver, phase, *args)))


@pytest.mark.parametrize(
    ("options", "phase", "state", "vote"),
    [
        ({}, Phase.ERROR_DETECTED, NORMAL, 2),
        ({}, Phase.ERROR_DETECTED, FROZEN, 3),
        ({}, Phase.ERROR_DETECTED, PERM, 2),  # follows ed
        ({"ed": "NO_AER_DRIVER"}, Phase.ERROR_DETECTED, PERM, 6),
        ({"ed": "DISCONNECT"}, Phase.ERROR_DETECTED, NORMAL, 4),
        ({"ed": 0}, Phase.ERROR_DETECTED, NORMAL, 0),
        ({"ed": 99}, Phase.ERROR_DETECTED, NORMAL, 99),
        ({"ed": -5}, Phase.ERROR_DETECTED, NORMAL, -5),
        ({"ed_frozen": "RECOVERED"}, Phase.ERROR_DETECTED, FROZEN, 5),
        ({"ed_perm": "DISCONNECT"}, Phase.ERROR_DETECTED, PERM, 4),
        ({}, Phase.MMIO_ENABLED, None, 5),
        ({"mmio": "NEED_RESET"}, Phase.MMIO_ENABLED, None, 3),
        ({}, Phase.SLOT_RESET, None, 5),
        ({"slot_reset": "NONE"}, Phase.SLOT_RESET, None, 1),
        ({}, Phase.RESUME, None, 1),
    ],
)
def test_votes(options: dict[str, Any], phase: Phase, state: ChannelState | None, vote: int) -> None:
    assert answer(options, phase, *(() if state is None else (state,))) == vote


@pytest.mark.parametrize("phase", Phase)
def test_delays(phase: Phase) -> None:
    rig = Rig()
    driver = rig.bind(Scripted, **{DELAY_OPTION[phase]: 250})
    rig.world.do(call_handler(driver, phase, *ARGS.get(phase, ())))
    assert rig.world.clock.time == 250_000_000


@pytest.mark.parametrize("phase", Phase)
def test_missing_handlers(phase: Phase) -> None:
    rig = Rig()
    driver = rig.bind(Scripted, missing=[phase.value])
    assert [p for p in Phase if driver.handler(p) is None] == [phase]
    assert driver.has_error_handlers
    with pytest.raises(MissingHandlerError, match="NULL pointer"):
        rig.world.do(call_handler(driver, phase, *ARGS.get(phase, ())))


def test_no_err_handler_hides_all() -> None:
    driver = Rig().bind(Scripted, no_err_handler=True)
    assert not driver.has_error_handlers
    assert all(driver.handler(phase) is None for phase in Phase)


def test_all_missing_is_no_err_handler() -> None:
    assert not Rig().bind(Scripted, missing=[phase.value for phase in Phase]).has_error_handlers


@pytest.mark.parametrize(("restore", "command"), [(True, 6), (False, 0)])
def test_restore_brings_the_configuration_back(restore: bool, command: int) -> None:
    rig = Rig()
    driver = rig.bind(Scripted, restore=restore, slot_reset="DISCONNECT")
    rig.hardware.bus_reset()
    assert rig.world.do(call_handler(driver, Phase.SLOT_RESET)) == 4
    assert rig.config.peek(4, 2) == command


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("kind", FAILURES)
def test_failures(phase: Phase, kind: str) -> None:
    rig = Rig()
    driver = rig.bind(Scripted, fail={phase.value: kind}, exit_status=7)
    task = rig.world.kernel.spawn(call_handler(driver, phase, *ARGS.get(phase, ())), "worker")
    rig.world.run()
    expected = {"spin": [("spin",)], "exit": [("exit", 7)], "panic": [("panic", f"{phase.value} panics as scripted")]}
    assert rig.machine.calls == expected.get(kind, [])
    assert task.done == (kind != "hang")
    assert isinstance(task.error, ScriptedFailureError) == (kind == "raise")


def test_breaking_a_guest_without_a_machine_is_an_oops() -> None:
    rig = Rig()
    driver = rig.bind(Scripted, fail={"resume": "spin"})
    rig.dev.machine = None
    with pytest.raises(ScriptedFailureError, match="no machine"):
        rig.world.do(call_handler(driver, Phase.RESUME))


@pytest.mark.parametrize(
    ("driver", "options", "text"),
    [
        ("scripted", {"ed_frozne": 3}, "did you mean 'ed_frozen'"),
        ("scripted", {"zzz": 3}, "allowed: ed, ed_frozen, ed_perm"),
        ("scripted", {"ed": "RECOVERD"}, "CAN_RECOVER, NEED_RESET"),
        ("scripted", {"ed": True}, "32-bit number"),
        ("scripted", {"ed": 1 << 31}, "32-bit number"),
        ("scripted", {"ed_ms": -1}, "a number from 0"),
        ("scripted", {"missing": "resume"}, "a list of error_detected"),
        ("scripted", {"missing": ["probe"]}, "a list of error_detected"),
        ("scripted", {"no_err_handler": 1}, "true or false"),
        ("scripted", {"fail": {"resume": "burn"}}, "raise, exit, spin, hang, panic"),
        ("scripted", {"fail": {"probe": "raise"}}, "error_detected"),
        ("scripted", {"exit_status": 256}, "whole number from 0 to 255"),
        ("xnic", {"payload": 9999}, "whole number from 4"),
        ("xblk", {"payload": 64}, "unknown option 'payload'"),
        ("silent", {"a": 1}, "allowed: none"),
        ("none", {"a": 1}, "without a driver"),
        ("xnci", {}, "allowed: xnic, xblk, scripted, silent, aerprobe, none, module:Class, or program:COMMAND"),
        ("no.such.module:Driver", {}, "ModuleNotFoundError"),
        ("json:JSONDecoder", {}, "no subclass of PciDriver"),
        ("json:", {}, "module:Class"),
    ],
)
def test_mistakes_are_named(driver: str, options: dict[str, Any], text: str) -> None:
    problems = check_options(driver, options)
    assert len(problems) == 1
    assert text in problems[0]


def test_good_options_are_accepted() -> None:
    options = {"ed": "NONE", "missing": ["resume"], "fail": {"slot_reset": "hang"}, "restore": True, "mmio_ms": 0.5}
    assert check_options("scripted", options) == []
    assert check_options("", {}) == check_options("none", {}) == check_options("xnic", {"payload": 64}) == []


def test_an_unknown_option_stops_the_driver() -> None:
    with pytest.raises(ValueError, match="driver silent: unknown option"):
        Silent(Rig().dev, {"nonsense": 1})


def test_every_shipped_driver_loads_under_its_name() -> None:
    for name in DRIVERS:
        cls = load_driver(name)
        assert cls is not None
        assert cls.name == name
        assert all(option.check(option.default) == "" or option.default is None for option in cls.OPTIONS.values())


def test_a_users_driver_loads_by_module_and_class(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("my_driver")
    module.Mine = type("Mine", (PciDriver,), {"name": "mine"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_driver", module)
    assert load_driver("my_driver:Mine") is module.Mine


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "import not_there\n",
            ("ModuleNotFoundError", "mine.py:1 in <module>: import not_there"),
        ),
        ("def f():\n    return 1 / 0\n\nf()\n", ("ZeroDivisionError", "mine.py:4 in <module>: f()", "mine.py:2 in f")),
        ("class Mine(:\n", ("SyntaxError", "mine.py:1: class Mine(:")),
        ("x = 1\n", ("has no subclass of PciDriver called 'Mine'",)),
    ],
)
def test_a_users_module_that_cannot_be_loaded_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: tuple[str, ...]
) -> None:
    """The user's own lines and nobody else's."""
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises(ValueError, match="guest driver 'mine:Mine'") as caught:
        load_driver("mine:Mine")
    assert all(word in str(caught.value) for word in words), caught.value
    assert "importlib" not in str(caught.value)
    assert "driver.py" not in str(caught.value)
    sys.modules.pop("mine", None)


def test_ids_find_a_driver() -> None:
    assert driver_for_ids(0x1AF4, 0x1041) is XNic
    assert driver_for_ids(0x1AF4, 0x1042) is XBlk
    assert driver_for_ids(0x8086, 0x10D3) is None


def test_silent_enables_its_device_and_knows_no_errors() -> None:
    rig = Rig()
    driver = rig.bind(Silent)
    assert rig.config.peek(4, 2) & 6 == 6
    assert not driver.has_error_handlers
    assert rig.world.do(driver.workload(5)) == 0
    rig.world.do(driver.remove())
    assert rig.config.peek(4, 2) & 4 == 0


@pytest.mark.parametrize("cls", [Silent, Scripted])
def test_probe_fails_without_a_device(cls: type[PciDriver]) -> None:
    rig = Rig()
    rig.config.present = False
    with pytest.raises(ProbeError):
        rig.bind(cls)


@pytest.mark.parametrize("value", [None, "RECOVERED", True, 1 << 40])
def test_an_answer_that_is_no_number_is_no_vote(value: Any) -> None:
    class Odd(PciDriver):
        name = "odd"

        def mmio_enabled(self) -> Any:
            return value

    rig = Rig()
    assert rig.world.do(call_handler(rig.bind(Odd), Phase.MMIO_ENABLED)) == 0
    assert any("which is no vote" in line for line in rig.world.log)


def test_every_record_has_its_declared_fields() -> None:
    rig = Rig("nic")
    driver = rig.bind(XNic)
    rig.world.do(driver.workload(1))
    rig.world.do(call_handler(driver, Phase.ERROR_DETECTED, FROZEN))
    rig.world.do(driver.remove())
    seen = {record[2] for record in rig.world.journal.records if record[2].startswith("driver.")}
    assert seen == {"driver.probe", "driver.workload", "driver.call", "driver.callback", "driver.remove"}
    for record in rig.world.journal.records:
        if record[2] in LABELS:
            assert record[3] == "0000:00:00.0"
            assert len(record) - 4 == len(LABELS[record[2]])
    assert rig.world.labels("driver.callback") == [("error_detected", 2, int(ErsResult.NEED_RESET))]
