"""Faults of messages, as steps: what both ends make of a message that is late, lost, doubled, swapped or torn."""

from __future__ import annotations

import pytest

from tests.campaign.faulty import HARDENED, LINUX, NONFATAL, A, B, Play, nics

ERROR = f"inject: {{device: nic0, errors: [{NONFATAL}]}}"
BOTH = pytest.mark.parametrize("profile", [HARDENED, LINUX])
WAYS = pytest.mark.parametrize("way", ["in", "out"])


def channel(does: str, way: str, **more: object) -> str:
    given = "".join(f", {key}: {value}" for key, value in more.items())
    return f"channel: {{guest: g1, does: {does}, direction: {way}{given}}}\n{ERROR}"


@WAYS
@pytest.mark.parametrize("does", ["delay", "reorder", "torn"])
def test_what_only_comes_later_is_recovered_from(does: str, way: str) -> None:
    """A question waits for its answer, so that nothing overtakes it; a torn batch rings once, at its end."""
    play = Play(nics(), channel(does, way, ms=30))
    struck = play.one("fault.message", "g1")
    assert (struck["which"], struck["does"], struck["direction"]) == ("channel", does, way)
    answer = play.find("pciback.answer", A)[0]
    assert 29 < (answer["t"] - struck["t"]) * 1000 < 31
    assert play.outcomes() == {A: "recovered", B: "recovered"}


@WAYS
def test_torn_again_and_again_the_numbers_stay_right(way: str) -> None:
    """Both ends go on counting: more messages than there is credit."""
    play = Play(nics(), channel("torn", way, ms=0, count=300) + f"\nsleep: {{ms: 50}}\n{ERROR}\nsleep: {{ms: 50}}" * 40)
    assert len(play.find("recovery.outcome", A, outcome="recovered")) == 41
    assert len(play.find("fault.message")) > 80
    assert play.workload("g1") == 2


@WAYS
@BOTH
def test_a_lost_message_is_never_sent_again(way: str, profile: str) -> None:
    """In ``linux`` a time-out counts as the vote that stood there before, and nobody is killed (xen-pci.md 4.4)."""
    play = Play(nics(functions=1, profile=profile), channel("drop", way), settle_ms=20_000)
    assert play.situations(A)[0] == ("error_detected", "timeout")
    assert bool(play.find("pciback.kill", A)) == (profile == HARDENED)


def test_the_message_after_a_lost_one_ends_the_channel() -> None:
    """Messages are numbered: a gap is a breach (X48), noticed when the next one comes."""
    play = Play(nics(functions=1, profile=LINUX), channel("drop", "in"), settle_ms=20_000)
    assert play.log("dom0", "refused bad-message: g1: message ")
    assert [situation for _, situation in play.situations(A)] == ["timeout"] * 3


@WAYS
def test_a_doubled_message_is_a_breach(way: str) -> None:
    play = Play(nics(), channel("duplicate", way, ms=1))
    assert play.situations(A)[0] == ("error_detected", "answer-valid")
    assert play.situations(A)[-1][1] == "channel-lost"
    assert play.outcomes() == {A: "killed", B: "recovered"}
    if way == "in":
        assert play.system.ctl("dom0", "refusals", [])["bad-message"] == 1


@WAYS
def test_also_of_a_bystander_whose_driver_waits_for_the_end(way: str) -> None:
    """X33: it has been told of the error, and cannot be told of its end."""
    fault = channel("duplicate", way, ms=1).replace("g1", "g2")
    play = Play(nics(), f"driver: {{guest: g1, phase: mmio_enabled, does: late, ms: 50}}\n{fault}")
    assert play.outcomes() == {A: "recovered", B: "killed"}
    assert play.workload("g1") == 2


@WAYS
@pytest.mark.parametrize("does", ["delay", "duplicate", "reorder"])
def test_the_device_bus_bears_late_and_doubled_messages(does: str, way: str) -> None:
    steps = f"channel: {{guest: g1, which: devbus, does: {does}, direction: {way}}}\nworkload: {{guest: g1, count: 4}}"
    play = Play(nics(), steps)
    assert play.good, play.texts
    assert play.one("fault.message")["which"] == "devbus"


@WAYS
def test_a_lost_message_of_the_device_bus_is_a_completion_that_never_comes(way: str) -> None:
    steps = f"""
        channel: {{guest: g1, which: devbus, does: drop, direction: {way}}}
        workload: {{guest: g1, count: 4}}, may-fail: true
        workload: {{guest: g2, count: 4}}
    """
    play = Play(nics(), steps)
    assert play.good, play.texts
    assert "no answer" in play.texts[1]


def test_faults_strike_so_many_messages_of_both_directions() -> None:
    play = Play(nics(), channel("delay", "both", count=2, ms=5))
    assert [item["direction"] for item in play.find("fault.message")] == ["out", "in", "out", "in"]


def test_who_is_not_connected_has_no_link() -> None:
    play = Play(nics(), "destroy: {guest: g1}\nsleep: {ms: 100}\nchannel: {guest: g1, does: drop}")
    assert play.texts[2] == "g1 is not connected to pciback; connected: g2"


def test_a_new_incarnation_has_a_healthy_link() -> None:
    spec = nics(restart_pause_ms=100)
    spec.guests[0].on_crash = "restart"
    steps = f"""
        channel: {{guest: g1, does: drop, count: 1000}}
        process: {{target: g1, does: kill}}
        wait: {{connected: g1}}
        {ERROR}
    """
    play = Play(spec, steps)
    assert play.good, play.texts
    assert play.outcomes() == {A: "recovered", B: "recovered"}
