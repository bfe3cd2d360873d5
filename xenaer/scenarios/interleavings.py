"""Interleavings I1 to I34 of xen-pci.md 7.5: each line one scenario."""

from __future__ import annotations

from functools import partial
from typing import Any

from protocol.topology import HostSpec
from xenaer.scenarios.hosts import guest, host
from xenaer.scenarios.scenario import MakeHost, Scenario

MUTE: dict[str, Any] = {"fail": {"error_detected": "hang"}}
LATER: dict[str, Any] = {"autostart": False}
IGNORE: dict[str, Any] = {"policy": "ignore"}


def one(name: str = "g1", devices: str = "A", **driver: Any) -> MakeHost:
    """A host with one guest."""
    return partial(_one, name, devices, driver)


def _one(name: str, devices: str, driver: dict[str, Any]) -> HostSpec:
    return host(guest(name, devices, **driver))


def two(first: dict[str, Any], second: dict[str, Any], devices: tuple[str, str] = ("A", "C")) -> MakeHost:
    """A host with guests g1 and g2."""
    return lambda: host(guest("g1", devices[0], **first), guest("g2", devices[1], **second))


# fmt: off
ROWS: tuple[Scenario, ...] = (
    Scenario("I1", "request while the frontend polls for a config answer: the poll swallows the event", one(),
        "config g1 0 0 4; inject A nonfatal; run"),
    Scenario("I2", "as I1, and the config operation times out", one(),
        "hold g1.out; config g1 0 0 4; run 2500; inject A nonfatal; run 3000; release g1.out; run"),
    Scenario("I3", "config operations of the guest's handler inside the AER service", one(restore=True),
        "inject A fatal; run"),
    Scenario("I4", "answer and new config request in one coalesced event", one("h1"),
        "inject A nonfatal; until pciback.ask; run 1; poke h1 556 02000000; flag h1 clear 2; votes h1 5 1; "
        "op h1 0 0 0 0 0 0 4; reply h1; run; statistics h1 spurious_events"),
    Scenario("I5", "answer while the end of an event is owed", one("h1"),
        "inject A nonfatal; until pciback.ask; run 1; votes h1 5 1; hold h1.out; op h1 0 0 0 0 0 0 4; answer h1 2; "
        "run 1; release h1.out; reply h1; run"),
    Scenario("I6", "spurious events: nothing is set", one("h1"),
        "bell h1 6; run 1000; statistics h1 events spurious_events jiffies_eoi_delayed"),
    Scenario("I7", "second request between the answer and the end of the service", one(devices="AC"),
        "inject A nonfatal; inject C nonfatal; run"),
    Scenario("I8", "the guest never answers", one(**MUTE),
        "inject A nonfatal; run"),
    Scenario("I9", "answer after the time-out, the next phase is posted", one("h1", spec=IGNORE),
        "inject A nonfatal; until pciback.ask; run 300500; inject A other; run 1000; answer h1 2; run"),
    Scenario("I10", "answer after the time-out, nothing is posted", one("h1", spec=IGNORE),
        "inject A nonfatal; until recovery.end * 1 1300000; run 100; answer h1 2; run 10; op h1 0 0 0 0 0 0 4; "
        "reply h1; op h1 0 0 0 0 0 4 2; reply h1"),
    Scenario("I11", "the guest dies while it is asked", one(**MUTE),
        "inject A nonfatal; until pciback.ask; run 1000; kill g1; run"),
    Scenario("I12", "the frontend closes while it is asked", one("h1"),
        "inject A nonfatal; until pciback.ask; run 1000; node h1 state 6; run"),
    Scenario("I13", "detach asked for, the guest has removed the device, then an error", one(),
        "start pci-detach g1 A; until-node g1 state 7; inject A nonfatal; run"),
    Scenario("I14", "detach: virtual entry gone, device lock not yet taken", one(ed_ms=50),
        "start pci-detach g1 A; until-node g1 state 7; inject A nonfatal; run"),
    Scenario("I15", "detach complete, then an error", one(),
        "xl pci-detach g1 A; inject A nonfatal; run"),
    Scenario("I16", "the guest is asked, then a detach of the same device", one(ed_ms=60_000),
        "inject A nonfatal; until pciback.ask; run 1000; start pci-detach g1 A; run"),
    Scenario("I17", "one guest is mute, then an error of another guest's device", two(MUTE, {}),
        "inject A nonfatal; until pciback.ask; inject C nonfatal; run"),
    Scenario("I18", "one guest is mute, another guest ends", two(MUTE, {}),
        "inject A nonfatal; until pciback.ask; start shutdown g2; run 5000; owner C; run"),
    Scenario("I19", "exported, the frontend not connected, then an error", one(spec=LATER),
        "begin; until pciback.export A; inject A nonfatal; run"),
    Scenario("I20", "error while another function of the card is being seized", one(),
        "xl pci-assignable-remove B; slow-reset B 30000; start pci-assignable-add B; run 1000; inject A nonfatal; "
        "run"),
    Scenario("I21", "reported for killing, a slow toolstack", one(no_err_handler=True, spec={"policy": "poweroff"}),
        "inject A nonfatal; run"),
    Scenario("I22", "reported for killing after the backend's directory is gone", one(ed=4, ed_ms=1_000),
        "inject A nonfatal; until pciback.ask; run 10; store rm {g1}; run; xl destroy g1; run"),
    Scenario("I23", "destroyed while a handler of the guest runs", one(ed_ms=60_000),
        "inject A nonfatal; until pciback.ask; run 1000; xl destroy g1; run"),
    Scenario("I24", "hot attach of a second device while the guest is asked for the first", one(ed_ms=5_000),
        "inject A nonfatal; until pciback.ask; run 100; start pci-attach g1 C; run 1000; remember g1; run"),
    Scenario("I25", "another device is seized while a question sleeps", one(ed_ms=5_000),
        "xl pci-assignable-remove C; inject A nonfatal; until pciback.ask; run 1000; xl pci-assignable-add C; "
        "run"),
    Scenario("I26", "the AER handler bit goes off between phases", one("h1"),
        "inject A nonfatal; until pciback.ask; run 1; flag h1 clear 1; votes h1 5 1; answer h1 2; run"),
    Scenario("I27", "two functions of a card in different guests, error on the link", two({}, {}, ("A", "B")),
        "inject A fatal; run"),
    Scenario("I28", "function 1 is detached while the handler of function 0 runs", one(devices="AB", ed_ms=5_000),
        "inject A nonfatal; until pciback.ask; run 100; start pci-detach g1 B; run"),
    Scenario("I29", "the guest starts anew between phases", one(mmio_ms=1_000),
        "inject A nonfatal; until pciback.answer; run 10; start reboot g1; run"),
    Scenario("I30", "a config operation times out, its answer arrives when the next one waits", one(),
        "hold g1.in; config g1 0 0 4; run 3010; config g1 0 8 4; run 0.005; release g1.in; run 5000"),
    Scenario("I31", "a config operation is served while the frontend closes", one("h1"),
        "op h1 0 0 0 0 0 0 4; node h1 state 6; reply h1; run"),
    Scenario("I32", "the report meets a transaction of the toolstack", one(ed=4, spec=IGNORE),
        "inject A nonfatal; until pciback.kill; run 0.06; conflict g1 40; run"),
    Scenario("I33", "XenStore does not answer while the guest is asked", one(**MUTE),
        "inject A nonfatal; until pciback.ask; hold dom0.in; run 310000; release dom0.in; run"),
    Scenario("I34", "one guest gives up, the other goes on", two({"ed_frozen": 4}, {}, ("A", "B")),
        "inject A fatal; run"),
)
# fmt: on
