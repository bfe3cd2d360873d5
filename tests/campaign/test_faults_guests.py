"""Faults of guests and processes, as steps: drivers that misbehave, SIGKILL, SIGSTOP, a slow start."""

from __future__ import annotations

import pytest

from tests.campaign.faulty import FATAL, HARDENED, LINUX, NONFATAL, A, B, Play, nics, times

ERROR = f"inject: {{device: nic0, errors: [{NONFATAL}]}}"
BOTH = pytest.mark.parametrize("profile", [HARDENED, LINUX])


def driver(does: str, phase: str = "error_detected") -> str:
    """Arm a misbehaviour in g1, then an error."""
    return f"driver: {{guest: g1, phase: {phase}, does: {does}}}\n{ERROR}"


# -- drivers -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("does", "situation", "outcome"),
    [
        ("vote, vote: DISCONNECT", "answer-disconnect", "killed"),
        ("vote, vote: NEED_RESET", "answer-valid", "recovered"),
        ("invalid", "answer-invalid", "killed"),
        ("invalid, vote: -5", "answer-invalid", "killed"),
        ("late, ms: 500", "answer-valid", "recovered"),
        ("late, ms: 5000", "timeout", "killed"),
        ("twice, ms: 0", "answer-valid", "recovered"),
        ("hang", "timeout", "killed"),
        ("spin", "timeout", "killed"),
        ("raise", "timeout", "killed"),
        ("exit", "guest-dead", "killed"),
        ("panic", "guest-dead", "killed"),
    ],
)
@pytest.mark.parametrize("name", ["xnic", "scripted"])
def test_whatever_the_driver_does(does: str, situation: str, outcome: str, name: str) -> None:
    play = Play(nics(driver=name), driver(does), settle_ms=20_000)
    assert play.good, play.texts
    strike = play.one("fault.driver", party="g1")
    assert (strike["phase"], strike["does"]) == ("error_detected", does.split(",", maxsplit=1)[0])
    assert play.situations(A)[0] == ("error_detected", situation)
    assert play.outcomes() == {A: outcome, B: "recovered"}
    if outcome == "killed":
        assert [item["result"] for item in play.find("kill.step", "g1", step="reset")] == ["flr"]
        assert play.xl("list", "g1") != 0


@pytest.mark.parametrize("phase", ["mmio_enabled", "slot_reset", "resume"])
@BOTH
def test_it_strikes_in_its_phase(phase: str, profile: str) -> None:
    votes = (
        "driver: {guest: g1, phase: error_detected, does: vote, vote: NEED_RESET}\n" if phase == "slot_reset" else ""
    )
    play = Play(nics(driver="scripted", profile=profile, functions=1), votes + driver("hang", phase), settle_ms=60_000)
    assert play.find("fault.driver", phase=phase)
    assert [situation for found, situation in play.situations(A) if found == phase] == ["timeout"]


def test_it_strikes_as_often_as_it_is_told_and_no_more() -> None:
    steps = (
        f"driver: {{guest: g1, phase: error_detected, does: late, ms: 50, times: 2}}\n{ERROR}\nsleep: {{ms: 500}}\n" * 1
    )
    play = Play(nics(), steps + f"{ERROR}\nsleep: {{ms: 500}}\n{ERROR}")
    assert len(play.find("fault.driver")) == 2
    assert len(play.find("recovery.begin")) == 3


def test_it_strikes_at_its_device() -> None:
    spec = nics()
    spec.guests[0].devices += spec.guests.pop().devices
    arm = "driver: {guest: g1, device: nic1, phase: error_detected, does: late}"
    play = Play(spec, f"{arm}\ninject: {{device: nic0, errors: [{FATAL}]}}")
    assert play.one("fault.driver")["subject"] == "0000:00:00.1"


def test_a_second_answer_that_lands_in_the_next_phase_is_taken_for_its_answer() -> None:
    """The guest has read the next question by then: on the page nobody can tell which one it has answered (H6)."""
    play = Play(nics(functions=1), driver("twice, ms: 0.05"))
    assert play.find("pciback.answer", A)[1]["answer"] == 2  # CAN_RECOVER again, which mmio_enabled may not say
    assert play.outcomes() == {A: "killed"}


def test_a_second_answer_long_after_the_end_changes_nothing() -> None:
    play = Play(nics(), f"{driver('twice, ms: 200')}\nsleep: {{ms: 1000}}\n{ERROR}")
    assert len(play.find("recovery.outcome", A, outcome="recovered")) == 2
    assert play.workload("g1") == 2


def test_a_driver_without_the_handler_cannot_misbehave() -> None:
    play = Play(nics(driver="silent"), driver("hang"))
    assert play.find("fault.driver") == []


@pytest.mark.parametrize(
    "args", [[], [-1, "resume", "hang", 0, 0], [-1, "nap", "hang", 0, 0, 1], [-1, "resume", "x", 0, 0, 1]]
)
def test_a_wrong_order_to_a_guest_names_what_is_allowed(args: list[object]) -> None:
    play = Play(nics(), "sleep: {ms: 1}")
    with pytest.raises(Exception, match="driver-fault: "):
        play.system.ctl("g1", "driver-fault", list(args))


# -- processes ---------------------------------------------------------------------------------------
def test_a_guest_that_is_killed_while_it_is_asked() -> None:
    steps = f"process: {{target: g1, does: kill}}, at: {{phase: error_detected, device: nic0, when: called}}\n{ERROR}"
    play = Play(nics(), steps)
    assert play.one("domain.died", "g1")["status"] == 9
    assert play.situations(A) == [("error_detected", "guest-dead")]
    assert play.find("driver.callback", party="g1") == []  # it never got to answer
    assert play.outcomes() == {A: "killed", B: "recovered"}


def test_a_guest_that_stands_still_for_a_while_answers_when_it_goes_on() -> None:
    play = Play(nics(), f"process: {{target: g1, does: stop, for_ms: 400}}\n{ERROR}")
    answer = play.find("pciback.answer", A)[0]
    assert 399 < (answer["t"] - play.one("hw.inject")["t"]) * 1000 < 401
    assert play.outcomes() == {A: "recovered", B: "recovered"}


def test_a_guest_that_never_goes_on_is_killed() -> None:
    play = Play(nics(), f"process: {{target: g1, does: stop}}\n{ERROR}", settle_ms=20_000)
    assert play.outcomes() == {A: "killed", B: "recovered"}


def test_dom0_that_stands_still_finishes_what_it_has_begun() -> None:
    play = Play(nics(), f"{ERROR}\nprocess: {{target: dom0, does: stop, for_ms: 300}}")
    begin, end = play.one("recovery.begin"), play.find("recovery.end")[0]
    assert end["t"] - begin["t"] > 0.29
    assert play.outcomes() == {A: "recovered", B: "recovered"}


def test_the_stub_that_stands_still_is_not_needed_by_a_recovery_that_kills_nobody() -> None:
    play = Play(
        nics(), f"process: {{target: hypervisor, does: stop, for_ms: 300}}, at: {{phase: mmio_enabled}}\n{ERROR}"
    )
    assert play.outcomes() == {A: "recovered", B: "recovered"}
    assert play.workload("g1") == 2


def ends(play: Play) -> dict[str, list[str]]:
    """What each party of the host says at its end."""
    return {
        party: [f"{item['label']} {item['subject']}" for item in play.entries if item["party"] == party][-2:]
        for party in ("hypervisor", "dom0", "supervisor-g1", "supervisor-g2")
    }


def test_without_dom0_the_host_ends_as_its_processes_do() -> None:
    play = Play(nics(), "process: {target: dom0, does: kill}")
    found = ends(play)
    assert found["hypervisor"] == ["printk ", "party.end hypervisor"]
    assert play.find("party.lost", "dom0", party="hypervisor", reason="connection lost")
    assert play.log("hypervisor", "dom0 is lost: connection lost")
    for name in ("supervisor-g1", "supervisor-g2"):
        assert found[name] == ["party.lost hypervisor", f"party.end {name}"]
    assert {item["status"] for item in play.find("party.end")} == {3}
    assert play.find("party.end", "dom0") == []  # it was killed: no last word


def test_without_the_stub_everybody_ends() -> None:
    play = Play(nics(), "process: {target: hypervisor, does: kill}\nworkload: {guest: g1}")
    for name in ("dom0", "supervisor-g1", "supervisor-g2"):
        assert ends(play)[name] == ["party.lost hypervisor", f"party.end {name}"]
    assert play.texts[1] == "the hypervisor stub is gone"


def test_the_end_of_the_host_in_the_middle_of_a_recovery() -> None:
    play = Play(nics(), f"process: {{target: dom0, does: kill}}, at: {{phase: mmio_enabled, when: answered}}\n{ERROR}")
    assert play.find("recovery.end") == []
    assert play.find("party.end", "hypervisor")


def test_who_does_not_run_gets_no_signal() -> None:
    steps = "process: {target: g1, does: kill}\nsleep: {ms: 500}\nprocess: {target: g1, does: stop}"
    assert Play(nics(), steps).texts[2] == "g1 is not running"


def test_a_slow_start_of_the_next_incarnation() -> None:
    spec = nics(restart_pause_ms=100)
    spec.guests[0].on_crash = "restart"
    play = Play(spec, "slow-start: {guest: g1, ms: 1500}\nprocess: {target: g1, does: kill}\nwait: {connected: g1}")
    assert play.good, play.texts
    assert 1500 < times([play.one("domain.restart", "g1"), play.one("party.start", "g1")])[1] < 1800
    assert play.workload("g1") == 2


def test_a_slow_start_is_one_start() -> None:
    steps = """
        slow-start: {guest: g1, ms: 1000}
        reboot: {guest: g1}
        wait: {for: {label: party.start, subject: g1}}
        wait: {connected: g1}
        reboot: {guest: g1}
        wait: {for: {label: party.start, subject: g1}}
    """
    play = Play(nics(restart_pause_ms=100), steps)
    created, started = play.find("domain.create", "g1"), play.find("party.start", "g1")
    waits = [start["t"] - create["t"] for create, start in zip(created, started, strict=True)]
    assert waits[0] - waits[1] == pytest.approx(1.0, abs=0.01)
