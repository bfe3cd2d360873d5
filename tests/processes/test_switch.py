"""One switch, three guests: what an error of each function concerns, and that groups end each by themselves.

Source: linux-aer.md 4.3 (which devices are walked), xen-pci-errata.md 9.3 (two guests under one port).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes.hosts import shipped
from tests.processes.running import TRANSPORTS, Running, running

pytestmark = pytest.mark.processes

MALFORMED_TLP, DATA_LINK, COMPLETER_ABORT = 1 << 18, 1 << 4, 1 << 15
ROOT, UPSTREAM = "0000:00:1c.0", "0000:01:00.0"
PORT0, PORT1, PORT2 = "0000:02:00.0", "0000:02:01.0", "0000:02:02.0"
NIC0, DISK0, NIC1, CARD1 = "0000:03:00.0", "0000:04:00.0", "0000:05:00.0", "0000:05:00.1"
ENDPOINTS = (NIC0, DISK0, NIC1, CARD1)

# function with the fatal error, error -> port whose secondary bus is reset, endpoints that are concerned
SCOPES = {
    "endpoint": (NIC0, MALFORMED_TLP, PORT0, (NIC0,)),
    "other-endpoint": (DISK0, MALFORMED_TLP, PORT1, (DISK0,)),
    "downstream-port": (PORT0, DATA_LINK, PORT0, (NIC0,)),
    "upstream-port": (UPSTREAM, DATA_LINK, ROOT, ENDPOINTS),
    "root-port": (ROOT, DATA_LINK, ROOT, ENDPOINTS),
}
GUEST_OF = {NIC0: "net1", DISK0: "net1", NIC1: "win1", CARD1: "lab1"}


@pytest.fixture(scope="module", params=TRANSPORTS)
def view(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(shipped("switch"), request.param) as view:
        yield view


def bring_back(view: Running) -> None:
    """Every guest of the host runs, pciback has exported all devices."""
    mark = 0.0
    if view.status("win1") is None:
        mark = view.mark()
        view.xl_good("create", "win1")
        view.wait(mark, "pciback.export", NIC1)
    view.wait(0.0, "pciback.export", NIC1)
    view.wait_up("net1")
    view.wait_up("lab1")


@pytest.mark.parametrize("name", SCOPES)
def test_a_fatal_error_concerns_what_is_below_the_port_that_resets_the_link(view: Running, name: str) -> None:
    source, error, port, scope = SCOPES[name]
    bring_back(view)
    mark = view.mark()
    view.dom0("inject", source, 0, error)
    outcomes = {bdf: view.outcome(mark, bdf) for bdf in scope}
    # The HVM guest cannot be asked: a frozen device of its costs it (H15). All others come back.
    assert outcomes == {bdf: "killed" if bdf == NIC1 else "recovered" for bdf in scope}
    resets = view.find(mark, "pci.reset", method="bus")
    assert [(item["subject"], item["result"]) for item in resets] == [(port, 0)]
    assert {item["subject"] for item in view.find(mark, "recovery.outcome")} & set(ENDPOINTS) == set(scope)
    asked = [bdf for bdf in ENDPOINTS if view.asked(mark, bdf)]
    assert asked == [bdf for bdf in scope if bdf != NIC1]
    assert all(view.asked(mark, bdf) == ["error_detected", "slot_reset", "resume"] for bdf in asked)
    if NIC1 in scope:
        assert view.steps(mark, "win1", NIC1)["check"] == "ok"
    view.use("net1")
    assert view.system.ctl("lab1", "status", []) == {"0000:00:00.1": "scripted"}


def test_ports_are_restored_after_a_reset_of_the_link_above_them(view: Running) -> None:
    bring_back(view)
    before = {bdf: view.config(bdf) for bdf in (UPSTREAM, PORT0, PORT1, PORT2, NIC0, DISK0, CARD1)}
    mark = view.mark()
    view.dom0("inject", ROOT, 0, DATA_LINK)
    view.outcome(mark, CARD1)
    assert {bdf: view.config(bdf) for bdf in before} == before


# -- two guests, one fails, one recovers -----------------------------------------------------------
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_one_of_two_guests_below_a_switch_fails_and_the_other_recovers(transport: str) -> None:
    host = shipped("switch")
    lab = next(guest for guest in host.guests if guest.name == "lab1")
    lab.devices[0].driver.options = {"ed_frozen": "DISCONNECT"}
    host.guests = [guest for guest in host.guests if guest.name != "win1"]
    with running(host, transport) as view:
        seized = view.config(NIC1)
        mark = view.mark()
        view.dom0("inject", UPSTREAM, 0, DATA_LINK)
        outcomes = {bdf: view.outcome(mark, bdf) for bdf in ENDPOINTS}
        assert outcomes == {NIC0: "recovered", DISK0: "recovered", NIC1: "unassigned-ok", CARD1: "killed"}
        ends = {item["subject"]: item["verdict"] for item in view.find(mark, "recovery.end")}
        assert (ends[NIC0], ends[CARD1]) == ("successful", "failed")
        # condemned guests are stopped before the bus is reset (H22)
        reset = view.wait(mark, "pci.reset", ROOT)
        assert view.wait(mark, "domain.died", "lab1")["t"] <= reset["t"]
        view.wait(mark, "domain.destroy", "lab1")
        assert view.config(NIC1) == seized
        view.use("net1")
        assert view.find(mark, "domain.died", "net1") == []


def test_a_mute_guest_is_waited_for_once_and_the_other_recovers() -> None:
    host = shipped("switch")
    lab = next(guest for guest in host.guests if guest.name == "lab1")
    lab.devices[0].driver.options = {"fail": {"error_detected": "hang"}}
    with running(host) as view:
        mark = view.mark()
        view.dom0("inject", UPSTREAM, 0, DATA_LINK)
        assert view.outcome(mark, CARD1) == "killed"
        assert view.outcome(mark, NIC0) == view.outcome(mark, DISK0) == "recovered"
        assert view.find(mark, "pciback.answer", CARD1)[0]["situation"] == "timeout"
        view.use("net1")


def test_a_non_fatal_error_of_one_guest_s_device_concerns_no_other_port() -> None:
    with running(shipped("switch")) as view:
        mark = view.mark()
        view.dom0("inject", NIC0, 0, COMPLETER_ABORT)
        assert view.outcome(mark, NIC0) == "recovered"
        assert {item["subject"] for item in view.find(mark, "recovery.outcome")} == {NIC0}
        view.use("net1")
