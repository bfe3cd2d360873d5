"""dom0_pciback.pciback.pciback: seize, put back, release, who owns what, and the kill request (4.2, 4.6, 4.7, H23)."""

from __future__ import annotations

from typing import Any

import pytest

from kernel_stub.kernel import MS
from protocol.ids import Sbdf
from protocol.topology import GuestSpec
from protocol.xenbus import backend_dir
from tests.dom0_pciback.pciback.host import CARD, CARD_1, SPARE, Host, assign, make_host

COMP_ABORT = 1 << 15


@pytest.fixture
def host() -> Host:
    return Host()


def run(host: Host, coro: Any) -> Any:
    return host.world.run(coro, host.dom0.kernel)


def kill(host: Host, incident: int = 1) -> None:
    run(host, host.dom0.pciback.kill_domain_by_device(host.psdev(), incident))


def aer_state(host: Host) -> list[Any]:
    return host.world.traced("pciback.kill")


def test_4_2_a_function_is_reset_and_restored_when_it_is_seized(host: Host) -> None:
    assert host.world.traced("pciback.seize")
    assert any(line.endswith("seizing device") for line in host.log)
    assert host.dom0_call("hw_check", CARD_1) == (True, "")


def test_4_6_the_kill_request_is_one_node(host: Host) -> None:
    policy = GuestSpec("guest1", devices=[assign(CARD)], policy="ignore")
    host = Host(make_host(guests=[policy]))
    host.guest.connect()
    kill(host)
    assert host.be("aerState") == "aerfail"
    assert host.be("state") == "4", "nothing else happens here"


def test_h23_one_report_per_incident() -> None:
    host = Host(make_host(guests=[GuestSpec("guest1", devices=[assign(CARD)], policy="ignore")]))
    kill(host, 1)
    kill(host, 1)
    assert len(aer_state(host)) == 1
    kill(host, 2)
    assert len(aer_state(host)) == 2


def test_i22_a_directory_that_has_gone_is_not_created_again() -> None:
    host = Host(make_host(guests=[GuestSpec("guest1", devices=[assign(CARD)], policy="ignore")]))
    domid = host.guest.domid
    host.hypervisor.machine.xs.remove(backend_dir(domid))
    kill(host)
    assert host.read(f"{backend_dir(domid)}/aerState") is None
    assert host.read(backend_dir(domid)) is None


def test_4_7_put_back_forgets_the_guest(host: Host) -> None:
    psdev = host.psdev()
    psdev.conf.permissive = True
    psdev.conf.write(4, 2, 0x0006)
    psdev.warnings = 5
    host.guest.state(0)
    host.settle(500)
    assert psdev.pdev is None
    assert not psdev.conf.permissive, "D24: the next guest must ask for itself"
    assert psdev.warnings == 0
    assert host.dom0_call("hw_check", CARD) == (True, "")


def test_d24_permissive_survives_in_the_linux_profile() -> None:
    host = Host(make_host(profile="linux"))
    host.psdev().conf.permissive = True
    host.guest.state(0)
    host.settle(500)
    assert host.psdev().conf.permissive


@pytest.mark.parametrize(("profile", "faulty"), [("hardened", "reset failed (-25)"), ("linux", "")])
def test_be_21_d25_what_fails_its_reset_is_assignable_in_linux_only(profile: str, faulty: str) -> None:
    host = Host(make_host(profile=profile))
    psdev = host.psdev()
    assert host.dom0.hierarchy is not None
    host.dom0.hierarchy.functions[Sbdf.parse(CARD)].spec.ready_ms = -1
    host.guest.state(0)
    host.settle(120_000)
    assert psdev.pdev is None
    assert psdev.faulty == faulty
    assert host.read("/libxl/pci/0000-01-00-0/fault") == (faulty or None)


def test_guest_addresses_and_back(host: Host) -> None:
    pciback, domid = host.dom0.pciback, host.guest.domid
    assert pciback.resolve(domid, 0) == Sbdf.parse(CARD)
    assert pciback.guest_devfn(Sbdf.parse(CARD)) == 0
    assert pciback.resolve(domid, 1) is None
    assert pciback.resolve(99, 0) is None
    assert pciback.guest_devfn(Sbdf.parse(CARD_1)) is None
    assert pciback.guest_devfn(Sbdf.parse("0000:09:00.0")) is None


def test_h15_who_owns_what(host: Host) -> None:
    pciback, devices = host.dom0.pciback, host.dom0.core.devices
    domid = host.guest.domid
    card, free = devices[Sbdf.parse(CARD)], devices[Sbdf.parse(CARD_1)]
    assert pciback.owned_by(card, domid)
    assert not pciback.owned_by(card, None)
    assert not pciback.owned_by(card, domid + 1)
    assert pciback.owned_by(free, None)
    assert pciback.owned_by(free, domid)


def test_h11_only_devices_of_a_guest_can_be_marked(host: Host) -> None:
    for bdf in (CARD_1, SPARE, "0000:09:00.0"):
        host.dom0.pciback.mark_detaching(Sbdf.parse(bdf))
    assert not host.psdev(CARD_1).detaching
    host.dom0.pciback.mark_detaching(Sbdf.parse(CARD))
    assert host.psdev().detaching


def test_events_about_unknown_domains_are_ignored(host: Host) -> None:
    pciback = host.dom0.pciback
    pciback.domain_stopped(99, "kill")
    pciback.domain_paused(99, True)
    pciback.withdraw(99)
    assert pciback.guest_name(99) == "domain 99"
    assert pciback.guest_name(host.guest.domid) == "guest1"


def test_h22_wait_stopped(host: Host) -> None:
    pciback, domid = host.dom0.pciback, host.guest.domid
    assert run(host, pciback.wait_stopped(domid, 100)) is False
    host.dom0.kernel.call_at(host.world.clock.time + 50 * MS, lambda: pciback.domain_stopped(domid, "kill"))
    begin = host.world.clock.time
    assert run(host, pciback.wait_stopped(domid, 1_000)) is True
    assert host.world.clock.time - begin == 50 * MS
    assert run(host, pciback.wait_stopped(99, 1_000)) is True


def test_bus_7_an_hvm_guest_can_never_connect() -> None:
    host = Host(make_host(guests=[GuestSpec("guest1", type="hvm", devices=[assign(CARD)])]))
    assert not host.dom0.pciback.may_connect(host.guest.domid)


def test_bus_5_other_directories_are_no_devices(host: Host) -> None:
    before = dict(host.dom0.pciback.guests)
    for path in ("backend/pci", "backend/pci/x/0/state", "backend/pci/77/0/state", "backend/pci/\xb2/0/state"):
        host.write(f"/local/domain/0/{path}", "4") if "\xb2" not in path else None
    assert host.dom0.pciback.guests == before


def test_h16_a_guest_that_is_reported_is_condemned_unless_it_lives_on(host: Host) -> None:
    kill(host)
    assert host.dom0.pciback.lives_on(host.guest.domid) is False


def test_a_killed_guest_gives_everything_back_and_the_device_is_assignable(host: Host) -> None:
    host.guest.connect()
    domid = host.guest.domid
    host.ctl("dom0", "inject", CARD, 0, COMP_ABORT)
    host.settle(10_000)
    assert domid not in host.dom0.pciback.guests
    assert host.psdev().pdev is None
    assert CARD in host.xl("pci-assignable-list")[1]
    assert len(aer_state(host)) == 1
