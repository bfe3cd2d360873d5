"""domu_pcifront.domu: boot, shutdown requests, control verbs; BUS-5, BUS-7."""

from __future__ import annotations

from typing import Any

import pytest

from domu_pcifront.domu import driver_name
from protocol.topology import GuestSpec
from tests.dom0_pciback.pciback.host import CARD, CARD_1, Host, assign, make_host


@pytest.fixture
def host() -> Host:
    return Host(make_host(guests=[GuestSpec("guest1", devices=[assign(CARD, "xnic"), assign(CARD_1)])]), real=True)


def test_boot_says_who_it_is(host: Host) -> None:
    assert ("guest1", 0) in host.world.traced("party.start")
    assert "Linux version (xenaer) domain guest1" in host.log
    assert host.guest.domu.domid == host.guest.domid


@pytest.mark.parametrize("options", [{"type": "hvm"}, {"front": False}])
def test_bus_7_pcifront_runs_in_pv_guests_only(options: dict[str, Any]) -> None:
    host = Host(make_host(guests=[GuestSpec("guest1", devices=[assign(CARD)], **options)]), real=True)
    assert host.guest.domu.pcifront is None
    assert host.fe("state") in ("1", None)
    assert not any("Installing PCI frontend" in line for line in host.log)


def test_bus_5_one_frontend_for_all_devices(host: Host) -> None:
    assert host.log.count("pcifront pci-0: Installing PCI frontend") == 1
    assert len(host.guest.domu.bus.devices) == 2


@pytest.mark.parametrize(("word", "reason"), [("poweroff", 0), ("halt", 0), ("reboot", 1)])
def test_shutdown_requests_are_obeyed(host: Host, word: str, reason: int) -> None:
    guest = host.guest
    host.write(f"/local/domain/{guest.domid}/control/shutdown", word)
    host.settle(20)
    assert f"xen:manage: shutdown request: {word}" in host.log
    assert ("shutdown", 0, reason) in guest.link.sent
    assert ("halt",) in guest.machine.calls
    assert guest.domu.bus.devices == {}, "drivers are stopped first"


@pytest.mark.parametrize("word", ["", "suspend", "nonsense", "\xb2"])
def test_other_words_are_ignored(host: Host, word: str) -> None:
    host.hypervisor.machine.xs.write(f"/local/domain/{host.guest.domid}/control/shutdown", word)
    host.settle(20)
    assert host.guest.machine.calls == []
    assert len(host.guest.domu.bus.devices) == 2


def test_status_names_the_drivers(host: Host) -> None:
    assert host.ctl("guest1", "status") == {"0000:00:00.0": "xnic", "0000:00:00.1": "scripted"}
    assert driver_name(None) == ""


def test_workload_of_one_device_and_of_all(host: Host) -> None:
    assert set(host.ctl("guest1", "workload", -1, 1)) == {"0000:00:00.0", "0000:00:00.1"}
    assert set(host.ctl("guest1", "workload", 1, 1)) == {"0000:00:00.1"}
    assert host.ctl("guest1", "workload", 0x50, 1) == {}


@pytest.mark.parametrize(
    "request_",
    [("workload",), ("workload", 1), ("workload", "x", 1), ("workload", 1, 2, 3), ("workload", 1, True), ("dance",)],
)
def test_a_wrong_request_is_refused_and_the_guest_lives_on(host: Host, request_: tuple[Any, ...]) -> None:
    assert host.fails("guest1", *request_)
    assert host.ctl("guest1", "status")
    assert not host.world.traced("kernel.oops")


def test_a_device_that_fails_its_workload_is_named(host: Host) -> None:
    host.dom0_call("hw_block_dma", CARD)
    assert host.fails("guest1", "workload", 0, 4).startswith("0000:00:00.0: ")
