"""Limits per second of one guest in pciback: X13, X23, X30, X34; ``linux`` has none, as Linux has none."""

from __future__ import annotations

import pytest

from protocol.limits import CONNECTS, SPURIOUS_EVENTS, STATE_CHANGES
from protocol.sharedinfo import PCIB_AERHANDLER
from tests.dom0_pciback.pciback.host import CARD, Host, connected, make_host
from tests.dom0_pciback.pciback.pair import Pair


def counts(host: Host) -> dict[str, int]:
    found: dict[str, int] = host.ctl("dom0", "refusals")
    return found


def test_x13_a_guest_that_goes_on_ringing_is_not_read_for_a_while() -> None:
    pair = Pair()
    pauses: list[int] = []
    pair.link.pause = pauses.append  # type: ignore[method-assign, assignment]
    for _ in range(SPURIOUS_EVENTS.burst + 100):
        pair.events.handle_event()
        pair.events.handle_event()
        pair.world.settle(0)
    assert pauses
    assert max(pauses) <= 1_000_000_000 / SPURIOUS_EVENTS.rate
    refusals = pair.pdev.pciback.refusals
    assert refusals.counts["spurious"] >= SPURIOUS_EVENTS.burst
    assert refusals.lines < 50, "and the log has its own limit"


def test_x23_a_handler_flag_that_changes_while_connected_is_counted_and_changes_nothing() -> None:
    host = connected()
    page, channel = host.guest.page, host.guest.channel
    for on in (False, True, False):
        (page.set_bit if on else page.clear_bit)(PCIB_AERHANDLER)
        channel.notify()
        host.settle(2_000)
    assert counts(host)["handler-flag"] == 3
    assert host.pdev.aer_handler, "latched at connect"
    assert any("AER handler flag is 0 while connected" in line for line in host.log)


def flap(host: Host, times: int) -> None:
    """States 3 and 6 as fast as they can be written; nobody waits for a reaction."""
    path = f"/local/domain/{host.guest.domid}/device/pci/0/state"
    for number in range(times):
        host.guest.rpc.link.send(("xs_write", 1000 + number, 0, path, b"36"[number & 1 :][:1]))
    host.settle(1)


def follows(host: Host) -> int:
    """How often the backend has looked at the frontend's state."""
    return sum("fe state changed" in line for line in host.log)


def test_x30_states_that_flap_are_followed_at_a_limited_rate() -> None:
    host = connected()
    before = follows(host)
    flap(host, 500)
    assert follows(host) - before <= STATE_CHANGES.burst + 1
    assert counts(host)["state"] > 300
    host.settle(1_000)
    assert follows(host) - before <= STATE_CHANGES.burst + 1 + STATE_CHANGES.rate


def test_x30_the_last_state_counts_in_the_end() -> None:
    host = connected()
    flap(host, 501)
    host.settle(5_000)
    assert host.fe("state") == "3"
    before = follows(host)
    host.guest.state(5)
    host.settle(5_000)
    assert follows(host) == before + 1
    assert host.be("state") == "5"


def test_x30_other_guests_are_served_meanwhile() -> None:
    host = connected()
    flap(host, 2000)
    code, _, _ = host.xl("pci-list guest1")
    assert code == 0
    assert len(host.dom0.pciback.xenbus._events) == 0, "xenwatch has nothing left to do"


def test_x30_linux_follows_every_change() -> None:
    host = Host(make_host(CARD, profile="linux"))
    host.guest.connect()
    before = follows(host)
    flap(host, 100)
    host.settle(100)
    assert follows(host) - before == 100
    assert "state" not in counts(host)


@pytest.mark.parametrize(("profile", "limited"), [("hardened", True), ("linux", False)])
def test_x34_a_frontend_that_connects_again_and_again_is_refused_in_the_end(profile: str, limited: bool) -> None:
    host = Host(make_host(CARD, profile=profile))
    pdev = host.pdev
    share = pdev.share
    allowed = [share.may_connect() for _ in range(CONNECTS.burst + 5)]
    assert allowed.count(False) == (5 if limited else 0)
    host.settle(1000 * 5 // CONNECTS.rate)
    assert share.may_connect()


def test_x34_the_refusal_is_a_fatal_error_of_that_frontend() -> None:
    host = Host(make_host(CARD))
    while host.pdev.share.may_connect():
        continue
    host.guest.offer()
    host.settle(100)
    assert "Too many connections" in (host.error() or "")
    assert host.be("state") == "5"
    assert counts(host)["reconnect"] >= 1
