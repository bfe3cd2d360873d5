"""machine, image: a machine that has played gives the journals of one that was just booted, or is not used again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.campaign.files import NOTHING, ONCE, one_case, play_one, player, read, tasks
from xenaer.campaign.case import CaseResult, Outcome, Task
from xenaer.campaign.worlds import play_simulated
from xenaer.campaign.worlds.machine import SimMachine
from xenaer.campaign.worlds.play_simulated import SimulatedPlayer

EVERY_KIND = """
    faults: [{inject: {device: $device, errors: [$error]}}]
    explore: {matrix: {axes: {device: {devices: all}, error: [RxErr, AdvNonFatalErr, CmpltTO, UnsupReq, DLP, MalfTLP]}}}
    """


@pytest.fixture(name="boots")
def fixture_boots(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the hosts that were booted."""
    booted: list[str] = []

    class Counted(SimMachine):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            booted.append(self.host.name)

    monkeypatch.setattr(play_simulated, "SimMachine", Counted)
    return booted


def told(result: CaseResult) -> dict[str, Any]:
    """All that a result says."""
    return {name: getattr(result, name) for name in result.__slots__ if name != "wall_s"}


@pytest.mark.parametrize("name", ["pair", "switch", "shared", "twins"])
def test_a_used_machine_is_as_good_as_a_new_one(name: str, tmp_path: Path, boots: list[str]) -> None:
    campaign = read(tmp_path, EVERY_KIND, on=name)
    worn = SimulatedPlayer(campaign)
    cases = list(tasks(campaign))
    order = cases[::2] + cases[1::2]  # neighbours of a case are others than in the campaign
    played = {task.number: told(worn.play(task)) for task in order}
    assert len(boots) < len(cases) / 3, "machines are used again at all"
    assert len({result["outcome"] for result in played.values()}) > 2
    for task in cases[:: 1 + len(cases) // 12]:
        assert told(SimulatedPlayer(campaign).play(task)) == played[task.number], task


def test_times_do_not_depend_on_how_long_a_machine_has_run(tmp_path: Path, boots: list[str]) -> None:
    """After thirty years of virtual time a number of seconds has no nanoseconds any more."""
    steps = """[{at: {ms: 900}, touch: {device: nic1}}, {inject: {device: nic0, errors: [CmpltTO]}},
        {wait: {for: {label: kill.step}, within_s: 0.7}, may-fail: true}, {inject: {device: nic1, errors: [RxErr]}}]"""
    playing = player(tmp_path, one_case(steps))
    first = playing.play(Task(0, ONCE))
    playing._machines[""].system.advance(1e12)
    assert playing.play(Task(0, ONCE)).digest == first.digest
    assert len(boots) == 1


LEFT = {
    "killed guest": "[{kill: {guest: left}}]",
    "detached device": "[{detach: {guest: left, device: nic0}}]",
    "paused guest": "[{pause: {guest: left}}]",
    "armed driver": "[{driver: {guest: left, phase: resume, does: late}}]",
    "faulty link": "[{channel: {guest: left, which: channel, does: delay, ms: 1}}]",
    "gone device": "[{gone: {device: nic0, how: dead}}]",
    "broken link": "[{gone: {device: nic0, how: link-down}}]",
    "broken reset": "[{reset-fault: {device: nic0, how: fails}}]",
}


@pytest.mark.parametrize("name", LEFT)
def test_a_machine_on_which_something_is_left_is_not_used_again(name: str, tmp_path: Path, boots: list[str]) -> None:
    playing = player(tmp_path, one_case(LEFT[name]))
    first = playing.play(Task(0, ONCE))
    assert first.outcome is not Outcome.HARNESS_ERROR, first.text
    again = playing.play(Task(0, ONCE))
    assert len(boots) == 2
    assert (first.outcome, first.digest) == (again.outcome, again.digest)


def test_a_machine_on_which_nothing_is_left_is_used_again(tmp_path: Path, boots: list[str]) -> None:
    playing = player(tmp_path, NOTHING)
    assert playing.play(Task(0, ONCE)).digest == playing.play(Task(0, ONCE)).digest
    assert len(boots) == 1


# -- drivers of users ------------------------------------------------------------------------------
DRIVERS = """
from domu_pcifront.drivers.xnic import XNic

class Register:
    value = 0

class Opaque(XNic):
    async def error_detected(self, state):
        self.register.value += 1
        self.dev.printk(6, f"error {self.register.value}")
        return await super().error_detected(state)

    def __init__(self, dev, options):
        super().__init__(dev, options)
        self.register = Register()

class Plain(XNic):
    errors = 0

    async def error_detected(self, state):
        self.errors += 1
        self.dev.printk(6, f"error {self.errors}")
        return await super().error_detected(state)

class Nested(XNic):
    async def error_detected(self, state):
        self.seen["states"].append(state)
        self.dev.printk(6, f"error {len(self.seen['states'])}")
        return await super().error_detected(state)

    def __init__(self, dev, options):
        super().__init__(dev, options)
        self.seen = {"states": []}

class Listing(XNic):
    async def error_detected(self, state):
        self.seen.append(state)
        self.dev.printk(6, f"error {len(self.seen)}")
        return await super().error_detected(state)

    def __init__(self, dev, options):
        super().__init__(dev, options)
        self.seen = []

seen = []

class Remembering(XNic):
    async def error_detected(self, state):
        seen.append(state)
        self.dev.printk(6, f"error {len(seen)}")
        return await super().error_detected(state)
"""


def with_driver(folder: Path, name: str) -> str:
    """A campaign of one error at a device with a driver of a user."""
    (folder / "reuse_drivers.py").write_text(DRIVERS)
    driver = f'drivers: [{{guest: left, device: nic0, driver: "reuse_drivers:{name}"}}]\n'
    return driver + one_case("[{inject: {device: nic0, errors: [CmpltTO]}}]")


@pytest.mark.parametrize(("name", "boots_wanted"), [("Opaque", 3), ("Nested", 3), ("Plain", 1), ("Listing", 1)])
def test_state_of_a_driver_is_put_back_or_the_machine_is_given_up(
    name: str, boots_wanted: int, tmp_path: Path, boots: list[str]
) -> None:
    playing = player(tmp_path, with_driver(tmp_path, name))
    results = [playing.play(Task(0, ONCE)) for _ in range(3)]
    assert {result.outcome for result in results} == {Outcome.RECOVERED}
    assert len({result.digest for result in results}) == 1
    assert len(boots) == boots_wanted


def test_a_driver_that_keeps_state_in_its_module_is_found(tmp_path: Path) -> None:
    text = with_driver(tmp_path, "Remembering")
    assert play_one(tmp_path, text).good
    result = player(tmp_path, text).play(Task(0, ONCE, twice=True))
    assert (result.outcome, result.good) == (Outcome.HARNESS_ERROR, False)
    assert "a driver that keeps state in its module" in result.text
    assert result.problems[0] == result.text
