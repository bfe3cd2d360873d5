"""Program points: when a step strikes that waits for one, what a run passes, what is told of one that never came."""

from __future__ import annotations

import pytest
import yaml

from protocol.labels import LABELS
from protocol.ports import Record
from tests.campaign.faulty import FATAL, NONFATAL, PORT, A, B, Play, booted, nics, script
from xenaer.campaign.steps.later import owners_of
from xenaer.campaign.steps.play import Runner
from xenaer.campaign.steps.point_form import PointForm
from xenaer.campaign.steps.points import (
    LockPoint,
    Owners,
    PhasePoint,
    Point,
    RecordPoint,
    TimePoint,
    Watch,
    passed,
    point_of,
    show,
)
from xenaer.journal import entry
from xenaer.simulation.lock_log import LockLog
from xenaer.simulation.locks import LockOrder
from xenaer.simulation.system import SimSystem

PHASES = ("error_detected", "mmio_enabled", "resume")
ERROR = f"inject: {{device: nic0, errors: [{NONFATAL}]}}"
FREEZE = "inject: {device: nic1, errors: [BadTLP]}"  # something that leaves a record, hw.inject of nic1
AT_LOCK = f"{FREEZE}, at: {{lock: {{name: device_lock}}}}"


def strike(at: str, *more: str, step: str = FREEZE) -> Play:
    """A fault at a point, then an error of nic0."""
    return Play(nics(), "\n".join((f"{step}, at: {{{at}}}", *more, ERROR)))


def before_and_after(play: Play) -> tuple[tuple[str, str], tuple[str, str]]:
    """The records around the one that the fault leaves, log lines left out."""
    told = [item for item in play.entries if item["label"] != "printk"]
    index = told.index(play.one("hw.inject", B))
    return tuple((told[n]["label"], told[n]["subject"]) for n in (index - 1, index + 1))  # type: ignore[return-value]


# -- each kind ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("when", "label"), [("asked", "pciback.ask"), ("called", "driver.call"), ("answered", "pciback.answer")]
)
@pytest.mark.parametrize("phase", ["error_detected", "mmio_enabled", "resume"])
def test_a_phase(when: str, label: str, phase: str) -> None:
    play = strike(f"phase: {phase}, device: nic0, when: {when}")
    reached = play.find(label, "0000:00:00.0" if when == "called" else A, phase=phase)[0]
    assert play.one("hw.inject", B)["t"] == reached["t"]  # at that very instant
    assert play.entries.index(play.one("hw.inject", B)) > play.entries.index(reached)
    assert play.texts[0].startswith(f"at phase {phase} of {A} {when}: ")


def test_a_phase_of_another_device_is_another_point() -> None:
    play = strike("phase: mmio_enabled, device: nic1, when: called")
    assert play.one("hw.inject", B)["t"] == play.find("driver.call", party="g2", phase="mmio_enabled")[0]["t"]


def test_a_record_and_nothing_happens_in_between() -> None:
    play = strike("record: {label: recovery.phase, fields: {phase: mmio_enabled}}")
    assert play.one("hw.inject", B)["t"] == play.find("recovery.phase", phase="mmio_enabled")[0]["t"]


def test_the_next_task_is_the_fault() -> None:
    """dom0 has two tasks ready, one for each group; what was armed goes before both."""
    play = strike("record: {label: aer.irq}")
    assert before_and_after(play)[0] == ("aer.irq", PORT)


def test_a_record_of_a_party_with_fields_and_patterns() -> None:
    play = strike("record: {label: 'driver.*', party: g2, fields: {phase: mmio_enabled, answer: 5}}")
    reached = play.find("driver.callback", party="g2", phase="mmio_enabled")[0]
    assert play.one("hw.inject", B)["t"] == reached["t"]


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_the_nth_time(nth: int) -> None:
    armed = f"{FREEZE}, at: {{record: {{label: recovery.begin}}, nth: {nth}}}\n"
    play = Play(nics(), armed + f"{ERROR}\nsleep: {{ms: 10}}\n" * 3)
    assert play.one("hw.inject", B)["t"] == play.find("recovery.begin")[nth - 1]["t"]


def test_some_time_after_the_point() -> None:
    play = strike("phase: resume, device: nic0, after_ms: 12.5")
    asked = next(item for item in play.find("pciback.ask", A) if item["phase"] == "resume")
    assert play.one("hw.inject", B)["t"] - asked["t"] == pytest.approx(0.0125)


def test_a_time_since_the_case_began() -> None:
    play = Play(nics(), f"sleep: {{ms: 5}}\n{FREEZE}, at: {{ms: 7.5}}\n{ERROR}\nsleep: {{ms: 20}}")
    assert play.one("hw.inject", B)["t"] - (play.one("hw.inject", A)["t"] - 0.005) == pytest.approx(0.0075, abs=1e-4)


def test_a_time_that_has_passed_is_now() -> None:
    play = Play(nics(), f"sleep: {{ms: 50}}\n{FREEZE}, at: {{ms: 10}}\nsleep: {{ms: 1}}")
    assert play.find("hw.inject", B)


@pytest.mark.parametrize("when", ["taken", "released"])
def test_a_lock(when: str) -> None:
    armed = f"{FREEZE}, at: {{lock: {{name: device_lock, party: dom0, when: {when}}}}}"
    play = Play(nics(), f"{armed}\nsysfs-reset: {{device: nic0}}")
    assert play.texts[0].endswith("BadTLP at 0000:01:00.1")
    reset = play.one("pci.reset", A)
    assert (play.one("hw.inject", B)["t"] < reset["t"]) == (when == "taken")


def test_a_lock_that_somebody_waits_for() -> None:
    steps = f"""
        {FREEZE}, at: {{lock: {{name: 'device_lock of {PORT}', when: waiting}}}}
        sysfs-reset: {{device: nic0}}, background: true
        sysfs-reset: {{device: nic1}}, background: true
    """
    play = Play(nics(), steps)
    assert play.good, play.texts
    assert play.one("hw.inject", B)["t"] < play.one("pci.reset", A)["t"]


def test_a_lock_of_a_guest() -> None:
    armed = f"{FREEZE}, at: {{lock: {{name: sh_info_lock, party: g1}}}}"
    play = Play(nics(), f"{armed}\ninject: {{device: nic0, errors: [{FATAL}]}}")
    assert play.find("hw.inject", B), play.texts


def test_a_point_in_a_guest_that_is_not_there_yet() -> None:
    spec = nics(restart_pause_ms=100)
    spec.guests[0].on_crash = "restart"
    steps = """
        process: {target: g1, does: kill}, at: {record: {label: driver.probe, party: g1}}
        process: {target: g1, does: kill}
        wait: {connected: g1}
    """
    play = Play(spec, steps)
    assert play.good, play.texts
    assert len(play.find("domain.died", "g1")) == 2


def test_a_process_that_is_stopped_at_a_point_goes_on_where_it_was() -> None:
    stop = "process: {target: g1, does: stop, for_ms: 200}"
    play = strike("phase: mmio_enabled, device: nic0, when: called", step=stop)
    called = play.find("driver.call", party="g1", phase="mmio_enabled")[0]
    answered = play.find("pciback.answer", A, phase="mmio_enabled")[0]
    assert 0.19 < answered["t"] - called["t"] < 0.21


def test_dom0_killed_at_one_of_its_own_records_writes_no_other() -> None:
    play = strike("record: {label: recovery.begin}", step="process: {target: dom0, does: kill}")
    assert [item["label"] for item in play.entries if item["party"] == "dom0"][-1] == "recovery.begin"


def test_two_faults_at_one_point_strike_in_their_order() -> None:
    steps = f"{FREEZE}, at: {{phase: resume}}\ngone: {{device: nic1, how: dead}}, at: {{phase: resume}}\n{ERROR}"
    play = Play(nics(), steps)
    assert play.entries.index(play.one("hw.inject", B)) != play.entries.index(play.one("hw.gone", B))
    assert play.one("hw.inject", B)["t"] == play.one("hw.gone", B)["t"]


def test_the_toolstack_at_a_point() -> None:
    """A detach that begins in the middle of a conversation: H11."""
    play = strike("phase: mmio_enabled, device: nic0", step="detach: {guest: g1, device: nic0}")
    assert play.good, play.texts
    assert play.texts[0].endswith("xl pci-detach g1 0000:01:00.0")
    assert play.outcomes()[A] == "detached"


# -- results -----------------------------------------------------------------------------------------
def test_a_point_that_was_never_reached_is_told() -> None:
    play = strike(f"phase: slot_reset, device: '{A}'")
    result = play.runner.results[0]
    assert (result.good, result.reached) == (False, False)
    assert result.text == f"never reached: phase slot_reset of {A} asked"
    assert not play.good


def test_unless_the_step_may_fail() -> None:
    play = strike("phase: slot_reset", step=f"{FREEZE}, may-fail: true")
    assert play.good
    assert play.runner.results[0].text.startswith("never reached: ")


def test_what_is_refused_at_a_point_is_told() -> None:
    play = strike("phase: resume", step="back: {device: nic1}")
    assert play.texts[0] == f"at phase resume asked: {B} is not gone"
    assert not play.good


def test_a_command_in_the_background_is_judged_at_the_end() -> None:
    steps = "detach: {guest: g1, device: nic1}, background: true\ndetach: {guest: g1, device: nic0}, background: true"
    play = Play(nics(), steps)
    assert [result.good for result in play.runner.results] == [False, True]
    assert "nic1" in play.texts[0] or B in play.texts[0] or "not" in play.texts[0]


def test_a_race_of_two_commands() -> None:
    steps = "detach: {guest: g1, device: nic0}, background: true\nattach: {guest: g2, device: nic0}, may-fail: true"
    play = Play(nics(), steps)
    assert play.good, play.texts
    assert "not assignable" in play.texts[1]


def test_settling_disarms() -> None:
    play = strike("record: {label: domain.destroy}")
    system = play.system
    assert isinstance(system, SimSystem)
    assert play.texts[0] == "never reached: record domain.destroy"
    assert play.xl("destroy", "g1") == 0
    assert len(play.find("hw.inject")) == 1


def test_run_leaves_points_armed_for_a_settling_that_follows() -> None:
    system = booted(nics())
    runner = Runner(system, script(nics(), f"{FREEZE}, at: {{record: {{label: hw.inject}}, nth: 2}}\n{ERROR}"))
    assert not runner.run()
    system.ctl("dom0", "inject", [A, 0x40, 0])
    assert runner.settle(100)
    assert runner.results[0].reached


def test_nothing_is_watched_without_points() -> None:
    system = booted(nics())
    kernel = system.dom0.kernel
    journal, append = kernel.journal, kernel._append
    Runner(system, script(nics(), ERROR)).run()
    assert kernel.journal is journal
    assert kernel._append is append
    runner = Runner(system, script(nics(), f"{FREEZE}, at: {{phase: resume}}\n{AT_LOCK}\n{ERROR}"))
    runner.play()
    assert kernel.locks is not None
    runner.settle(1_000)
    assert kernel._append is append
    assert kernel.locks is None


def test_who_watched_locks_before_still_does() -> None:
    system, order = booted(nics()), LockOrder()
    system.dom0.kernel.locks = order
    runner = Runner(system, script(nics(), f"{AT_LOCK}\ndetach: {{guest: g1, device: nic0}}"))
    runner.play()
    runner.settle(1_000)
    assert order.pairs
    assert system.dom0.kernel.locks is order


def test_armed_and_not_reached_the_journal_is_the_same() -> None:
    def journal(steps: str) -> list[tuple[str, Record]]:
        system = Play(nics(), steps).system
        assert isinstance(system, SimSystem)
        return system.raw_records()

    never = f"{FREEZE}, at: {{phase: slot_reset, when: asked}}\n{FREEZE}, at: {{lock: {{name: 'no such lock*'}}}}\n"
    assert journal(ERROR) == journal(never + ERROR)


def test_with_every_order_of_events_a_point_is_where_it_is() -> None:
    """The explorer may put anything off, but not what was armed."""
    for way in range(4):
        system = booted(nics(), seed=way)
        system.world.pick, system.world.window = (lambda lanes, way=way: way % len(lanes)), 100_000
        begin = len(system.parts.records)
        runner = Runner(system, script(nics(), f"{FREEZE}, at: {{phase: mmio_enabled, device: nic0}}\n{ERROR}"))
        runner.play()
        runner.settle(1_000)
        system.world.pick = None
        records = [record for _, record in system.parts.records[begin:] if record[2] != "printk"]
        reached = next(n for n, r in enumerate(records) if r[2:5] == ("pciback.ask", A, "mmio_enabled"))
        assert records[reached + 1][2:4] == ("hw.inject", B)


# -- all points of a run -------------------------------------------------------------------------------
def recovered() -> tuple[SimSystem, int, Owners, LockLog]:
    system = booted(nics())
    owners = owners_of(system.ctl("hypervisor", "status", []))
    begin, log = len(system.parts.records), LockLog(system.parts)
    runner = Runner(system, script(nics(), ERROR))
    runner.play()
    runner.settle(1_000)
    log.close()
    return system, begin, owners, log


def test_all_points_of_a_run() -> None:
    system, begin, owners, log = recovered()
    points = passed(system.parts.records[begin:], log.events, owners)
    phases = [point for point in points if isinstance(point, PhasePoint)]
    order = [f"{phase} {when}" for phase in PHASES for when in ("asked", "called", "answered")]
    assert [f"{p.phase} {p.when}" for p in phases if p.device == A] == order
    assert {p.device for p in phases} == {A, B}
    labels = {p.label for p in points if isinstance(p, RecordPoint)}
    assert {"hw.inject", "aer.irq", "recovery.begin", "recovery.outcome", "driver.callback"} <= labels
    assert "printk" not in labels
    locks = {(p.name, p.when) for p in points if isinstance(p, LockPoint) and p.party == "dom0"}
    assert locks == {(f"aer_op slot of guest {n}", when) for n in (1, 2) for when in ("taken", "released")}
    kinds = [(PhasePoint, RecordPoint, LockPoint).index(type(point)) for point in points]
    assert kinds == sorted(kinds)
    assert len(set(points)) == len(points)


def test_the_same_run_passes_the_same_points_in_the_same_order() -> None:
    first, second = recovered(), recovered()
    assert passed(first[0].parts.records[first[1] :]) == passed(second[0].parts.records[second[1] :])


def test_the_second_time_of_a_point() -> None:
    system, begin, owners, log = recovered()
    every = passed(system.parts.records[begin:], log.events, owners, every=True)
    assert RecordPoint("pciback.ask", A, "dom0", nth=3) in every
    assert len(every) > len(passed(system.parts.records[begin:], log.events, owners))


def test_every_point_of_a_run_can_be_struck_at() -> None:
    """Exhaustive: each of them, as the file would write it, is reached in the same run."""
    system, begin, owners, log = recovered()
    points = passed(system.parts.records[begin:], log.events, owners)
    assert len(points) > 40
    for point in points:
        written = yaml.safe_dump({"at": point.to_form()}, default_flow_style=True, width=1000).strip()[1:-1]
        play = Play(nics(), f"{FREEZE}, {written}\n{ERROR}", settle_ms=1_000)
        assert play.runner.results[0].reached, show(point)
        assert len(play.find("hw.inject", B)) == 1, show(point)


@pytest.mark.parametrize(
    ("point", "text"),
    [
        (TimePoint(12.5), "12.5 ms"),
        (PhasePoint("resume"), "phase resume asked"),
        (PhasePoint("resume", A, "answered", 2), f"phase resume of {A} answered, no. 2"),
        (RecordPoint("hw.inject", A, "dom0", fields=(("cor", 1),)), f"record hw.inject {A} cor=1 of dom0"),
        (LockPoint("device_lock", "dom0", "waiting", 3), "lock device_lock of dom0 waiting, no. 3"),
    ],
)
def test_points_are_written_as_they_are_read(point: Point, text: str) -> None:
    form = PointForm.model_validate(point.to_form())
    subject = form.record.subject if form.record is not None else None
    assert point_of(form, form.device, subject) == point
    assert show(point) == text


def test_a_watch_sees_records_in_either_form() -> None:
    record = (5, "task", "pciback.ask", A, "resume", 1)
    exact, pattern = RecordPoint("pciback.ask", A), RecordPoint("pciback.*", None, "dom0", "ta*")
    for point in (exact, pattern, PhasePoint("resume", A)):
        assert Watch(point).record("dom0", record)
        assert Watch(point).entry(entry("dom0", record))
        assert not Watch(point).record("dom0", (5, "task", "hw.inject", A, 0, 0))
    assert not Watch(RecordPoint("pciback.ask", B)).record("dom0", record)
    assert not Watch(PhasePoint("slot_reset")).record("dom0", record)


def test_the_labels_of_phases_exist() -> None:
    assert all(LABELS[label][0] == "phase" for label in ("pciback.ask", "driver.call", "pciback.answer"))
