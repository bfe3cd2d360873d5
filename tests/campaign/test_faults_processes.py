"""The same faults on real processes, and the same journal where nothing but the fault decides."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from protocol.topology import BootSpec, HostSpec
from tests.campaign.faulty import FATAL, NONFATAL, A, B, Play, booted, nics, script
from tests.processes.running import PATIENCE_S, Running, run_directory, running, started
from xenaer.campaign.steps.play import Runner
from xenaer.control import ControlError
from xenaer.journal import Entry, differences
from xenaer.run_files import all_ended

pytestmark = pytest.mark.processes

ERROR = f"inject: {{device: nic0, errors: [{NONFATAL}]}}"
FATAL_ERROR = f"inject: {{device: nic0, errors: [{FATAL}]}}"
SETTLED = "sleep: {ms: 300}"
LABELS = ("hw.inject", "driver.call", "recovery.outcome")
WITHIN_S = 2.0  # instead of the 30 s of a party that is only slow


def host(**options: Any) -> HostSpec:
    spec = nics(restart_pause_ms=50, reset_ready_ms=400, reset_settle_ms=10, aer_budget_ms=400, **options)
    for function in spec.functions:
        function.ready_ms = 5
    for guest in spec.guests:
        guest.on_crash = "restart"
    return spec


# What leaves the system as it was: played one after the other on one system, and again in virtual time.
LASTING = f"""
    inject: {{devices: [nic0, nic1], errors: [{NONFATAL}]}}
    wait: {{for: {{label: recovery.end}}}}
    {SETTLED}
    inject: {{device: nic0, uncorrectable: 0x10000}}
    wait: {{for: {{label: recovery.end}}}}
    driver: {{guest: g1, device: nic0, phase: mmio_enabled, does: vote, vote: NEED_RESET}}
    {ERROR}
    wait: {{for: {{label: recovery.outcome, subject: nic0}}}}
    {SETTLED}
    driver: {{guest: g1, phase: error_detected, does: late, ms: 60}}
    {ERROR}
    wait: {{for: {{label: recovery.outcome, subject: nic0}}}}
    driver: {{guest: g1, phase: error_detected, does: twice, ms: 150}}
    {ERROR}
    {SETTLED}
    channel: {{guest: g1, does: delay, ms: 40, direction: both}}
    {ERROR}
    wait: {{for: {{label: recovery.outcome, subject: nic0}}}}
    channel: {{guest: g1, does: torn, ms: 5}}
    {ERROR}
    wait: {{for: {{label: recovery.outcome, subject: nic0}}}}
    channel: {{guest: g1, does: torn, ms: 5, direction: out}}
    {ERROR}
    wait: {{for: {{label: recovery.outcome, subject: nic0}}}}
    sysfs-reset: {{device: nic1}}
    reset-fault: {{device: nic0, how: slow, ready_ms: 200}}
    {FATAL_ERROR}
    wait: {{for: {{label: recovery.outcome, subject: nic0}}}}
    {SETTLED}
    reset-fault: {{device: nic0, how: none}}
    storm: {{device: nic0, errors: [BadTLP], count: 5, rate_per_s: 50}}
    workload: {{guest: g1}}
    workload: {{guest: g2}}
"""

# What ends a guest, whose next incarnation is as good as new.
KILLING = f"""
    driver: {{guest: g1, phase: error_detected, does: invalid}}
    {ERROR}
    wait: {{for: {{label: domain.destroy, subject: g1}}}}
    wait: {{connected: g1}}
    driver: {{guest: g1, phase: mmio_enabled, does: exit}}
    {ERROR}
    wait: {{for: {{label: domain.destroy, subject: g1}}}}
    slow-start: {{guest: g1, ms: 200}}
    wait: {{connected: g1}}
    driver: {{guest: g1, phase: error_detected, does: spin}}
    {ERROR}
    wait: {{for: {{label: domain.destroy, subject: g1}}}}
    wait: {{connected: g1}}
    process: {{target: g1, does: kill}}
    wait: {{for: {{label: domain.destroy, subject: g1}}}}
    wait: {{connected: g1}}
    channel: {{guest: g1, does: drop}}
    {ERROR}
    wait: {{for: {{label: domain.destroy, subject: g1}}}}
    wait: {{connected: g1}}
    reset-fault: {{device: nic0, how: other-device}}
    {FATAL_ERROR}
    wait: {{for: {{label: domain.destroy, subject: g1}}}}
    {SETTLED}
    workload: {{guest: g2}}
"""


@pytest.mark.parametrize("steps", [LASTING, KILLING], ids=["lasting", "killing"])
def test_both_worlds_write_the_same_journal(steps: str) -> None:
    """From the first step on: which of two guests is connected first is nobody's decision."""
    spec = host()
    simulated = Play(spec, steps, system=booted(spec), settle_ms=500)
    assert simulated.good, [result.line() for result in simulated.runner.results if not result.good]
    with running(spec) as view:
        real = Runner(view.system, script(spec, steps))
        real.advance(200)
        begin = len(real.entries)
        real.play()
        assert real.settle(500), [result.line() for result in real.results if not result.good]
        items = real.entries[begin:]
    assert [result.text for result in real.results] == simulated.texts
    assert differences(simulated.entries, items) == []


def test_a_hot_plugged_card_in_both_worlds() -> None:
    spec = host(functions=1, boot=BootSpec(hotplug="native"))  # of two guests nobody decides who closes first
    steps = f"""
        gone: {{device: nic0, how: removed}}
        wait: {{for: {{label: pci.remove, subject: nic0}}}}
        {SETTLED}
        back: {{device: nic0}}
        wait: {{for: {{label: pciback.seize, subject: nic0}}}}
        {SETTLED}
    """
    simulated = Play(spec, steps, system=booted(spec), settle_ms=500)
    with running(spec) as view:
        real = Runner(view.system, script(spec, steps))
        real.advance(200)
        begin = len(real.entries)
        real.play()
        assert real.settle(300), [result.line() for result in real.results]
        items = real.entries[begin:]
    assert differences(simulated.entries, items) == []


# -- points and processes ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def view() -> Iterator[Running]:
    with running(host()) as found:
        yield found


def play(view: Running, steps: str, settle_ms: float = 200) -> Runner:
    runner = Runner(view.system, script(host(), steps))
    runner.play()
    runner.settle(settle_ms)
    return runner


def test_points_are_seen_in_the_journals(view: Running) -> None:
    after = "record: {label: recovery.outcome, subject: nic0}, after_ms: 20"
    runner = play(
        view,
        f"""
        inject: {{device: nic1, errors: [BadTLP]}}, at: {{phase: error_detected, device: nic0, when: called}}
        inject: {{device: nic1, errors: [BadDLLP]}}, at: {{{after}}}
        inject: {{device: nic1, errors: [RxErr]}}, at: {{ms: 30}}
        driver: {{guest: g1, phase: error_detected, does: late, ms: 100}}
        {ERROR}
        wait: {{for: {{label: recovery.outcome, subject: nic0}}}}
        """,
    )
    assert all(result.good for result in runner.results), [result.line() for result in runner.results]
    found = {label: [item for item in runner.entries if item["label"] == label] for label in LABELS}
    hits = {item["cor"]: item["t"] for item in found["hw.inject"] if item["subject"] == B and item["cor"]}
    called = next(item["t"] for item in found["driver.call"] if item["party"] == "g1")
    outcome = next(item["t"] for item in found["recovery.outcome"] if item["subject"] == A)
    assert called < hits[1 << 6] < outcome  # while the handler is late
    assert hits[1 << 7] > outcome + 0.02
    assert 1 in hits


def test_a_point_that_does_not_come_and_one_that_cannot(view: Running) -> None:
    runner = play(
        view,
        """
        pause: {guest: g1}, at: {phase: slot_reset}
        pause: {guest: g1}, at: {lock: {name: device_lock}}
    """,
    )
    assert runner.results[0].text == "never reached: phase slot_reset asked"
    assert runner.results[1].text == "a lock is no point in the world of processes: no journal tells of it"


def test_a_process_that_stands_still_for_a_while(view: Running) -> None:
    for target in ("g1", "dom0", "hypervisor"):
        stop = f"process: {{target: {target}, does: stop, for_ms: 150}}, at: {{phase: error_detected, when: called}}"
        runner = play(view, f"{stop}\n{ERROR}\nsleep: {{ms: 300}}")
        assert all(result.good for result in runner.results), [result.line() for result in runner.results]
        ends = [item["outcome"] for item in runner.entries if item["label"] == "recovery.outcome"]
        assert set(ends) == {"recovered"}
    view.use("g1")


def test_commands_race(view: Running) -> None:
    runner = play(
        view,
        """
        detach: {guest: g2, device: nic1}, background: true
        attach: {guest: g2, device: nic1}, may-fail: true
        """,
        settle_ms=500,
    )
    assert runner.results[0].text == f"xl pci-detach g2 {B}"
    assert runner.results[1].text
    play(view, "attach: {guest: g2, device: nic1}, may-fail: true\nwait: {connected: g2}")


def test_a_link_that_comes_back_in_time(view: Running) -> None:
    """When it does decides what is written, so no journals are compared."""
    runner = play(
        view,
        """
        gone: {device: nic0, how: link-down}
        wait: {for: {label: pci.reset, fields: {result: -25}}}
        back: {device: nic0}
        wait: {for: {label: recovery.outcome, subject: nic0, fields: {outcome: recovered}}}
        gone: {device: nic1, how: dead}
        expect: {device: {device: nic1, state: absent}}
        back: {device: nic1}
        """,
    )
    assert all(result.good for result in runner.results), [result.line() for result in runner.results]
    view.use("g1")


def test_a_storm_beside_work(view: Running) -> None:
    runner = play(
        view,
        """
        storm: {device: nic0, errors: [BadTLP], count: 200, rate_per_s: 1000}, background: true
        workload: {guest: g1, count: 8}
    """,
        settle_ms=400,
    )
    assert [result.text for result in runner.results] == ["200 of 200 errors injected", "0000:00:00.0: 8 of 8 verified"]


@pytest.mark.parametrize("target", ["dom0", "hypervisor"])
def test_the_host_ends_alike_in_both_worlds(target: str) -> None:
    """Whoever lives to say something says the same; the guests are killed by whoever is first."""
    kill = f"process: {{target: {target}, does: kill}}, at: {{record: {{label: recovery.begin}}}}"
    spec, steps = host(), f"{kill}\n{ERROR}"
    simulated = Play(spec, steps, settle_ms=1_000)
    with run_directory() as run, started(spec, run) as view:
        runner = Runner(view.system, script(spec, steps))
        runner.play()
        deadline = time.monotonic() + PATIENCE_S
        while not all_ended(run):
            assert time.monotonic() < deadline
            runner.advance(20)
        began = time.monotonic()
        with pytest.raises(ControlError, match="has ended"):
            view.system.ctl("hypervisor", "status", [])
        assert time.monotonic() - began < WITHIN_S
        real = runner.entries
    for party in {"hypervisor", "supervisor-g1", "supervisor-g2", "dom0"} - {target}:
        assert last_words(real, party) == last_words(simulated.entries, party), party


def last_words(items: list[Entry], party: str) -> list[str]:
    """What a party says from its first loss on, without times."""
    own = [{key: item[key] for key in item if key not in ("t", "task")} for item in items if item["party"] == party]
    first = next(n for n, item in enumerate(own) if item["label"] == "party.lost")
    return [json.dumps(item, default=str) for item in own[first:]]
