"""dom0_pciback.pciback.backend with the real stub and a scripted frontend: B1 to B14, BUS-*, X25 to X35, H2, H13."""

from __future__ import annotations

from typing import Any

import pytest

from kernel_stub.kernel import MS
from kernel_stub.rpc import RpcError
from protocol.xenbus import backend_dir, frontend_dir
from tests.dom0_pciback.pciback.host import CARD, CARD_1, Host, connected, make_host


@pytest.fixture
def host() -> Host:
    return Host()


def alive(host: Host) -> None:
    """dom0 still works: it answers the operator, and no task of it has died."""
    assert host.ctl("dom0", "stats", CARD)
    assert not host.world.traced("kernel.oops")


# -- connect -------------------------------------------------------------------------------------
def test_b1_b3_what_stands_in_the_directory_before_the_frontend(host: Host) -> None:
    nodes = ("state", "num_devs", "dev-0", "vdev-0", "state-0", "root_num", "root-0")
    assert [host.be(name) for name in nodes] == ["3", "1", CARD, "0000:00:00.00", "3", "1", "0000:00"]
    assert host.psdev().pdev is host.pdev


def test_b4_b9_both_ends_connect(host: Host) -> None:
    host.guest.offer()
    assert host.be("state") == "4"
    assert host.pdev.channel is not None
    assert host.pdev.aer_handler
    host.guest.state(4)
    assert (host.be("state"), host.fe("state")) == ("4", "4")
    assert len(host.world.traced("pciback.connect")) == 1


def test_h13_a_frontend_that_has_to_wait_for_a_reset_connects_once(host: Host) -> None:
    """Its state 3 may be seen by two watches while we are still 3 ourselves."""
    kernel, lock = host.dom0.kernel, host.dom0.pciback.reset_lock(host.psdev().dev)

    async def reset() -> None:
        async with lock:
            await kernel.sleep(100 * MS)

    kernel.spawn(reset(), "reset")
    host.settle(0)
    host.guest.offer()
    host.guest.state(3)
    assert (host.be("state"), host.error()) == ("3", None)
    host.settle(200)
    assert host.be("state") == "4"
    assert len(host.world.traced("pciback.connect")) == 1


def test_b3_two_devices_of_one_card_share_a_virtual_slot() -> None:
    host = Host(make_host(CARD, CARD_1))
    assert [host.be(f"vdev-{n}") for n in (0, 1)] == ["0000:00:00.00", "0000:00:00.01"]
    assert [host.be(f"state-{n}") for n in (0, 1)] == ["3", "3"]
    assert host.be("root_num") == "1", "BUS-15: a root is published once"


def test_bus_2_every_state_may_be_written_twice(host: Host) -> None:
    host.guest.connect()
    for _ in range(3):
        host.guest.state(4)
    assert host.be("state") == "4"
    assert len(host.world.traced("pciback.connect")) == 1
    alive(host)


def test_bus_11_b5_a_repeated_reconfigure_changes_nothing(host: Host) -> None:
    host.write(f"{backend_dir(host.guest.domid)}/vdevfn-0", "100")
    assert [host.be(name) for name in ("state", "state-0", "vdev-0")] == ["3", "3", "0000:00:00.00"]
    assert len(host.world.traced("pciback.export")) == 1


# -- wrong offers (X25 to X28, X32) ----------------------------------------------------------------
def refused(host: Host, text: str) -> None:
    assert host.error() == text
    assert host.be("state") == "5"
    assert host.pdev.channel is None
    alive(host)


@pytest.mark.parametrize("gref", ["9999", "0", "1", "4294967295"])
def test_x25_a_wrong_grant(host: Host, gref: str) -> None:
    host.guest.offer(gref=gref)
    refused(host, "22 Error mapping other domain page in ours.")


def test_x25_a_grant_for_another_domain(host: Host) -> None:
    host.guest.offer(gref=host.guest.call("grant", 3, False, bytes(572)))
    refused(host, "22 Error mapping other domain page in ours.")


def test_x25_a_read_only_grant(host: Host) -> None:
    host.guest.offer(gref=host.guest.call("grant", 0, True, bytes(572)))
    refused(host, "22 Error mapping other domain page in ours.")


@pytest.mark.parametrize("port", ["0", "4095", "4294967295"])
def test_x26_a_port_that_cannot_be_bound(host: Host, port: str) -> None:
    host.guest.offer(port=port)
    refused(host, "22 Error binding event channel to IRQ")
    host.guest.call("grant_end", host.guest.nodes["gref"])


def test_x26_a_port_reserved_for_another_domain(host: Host) -> None:
    host.guest.offer(port=host.guest.call("evtchn_alloc", 3))
    refused(host, "22 Error binding event channel to IRQ")


@pytest.mark.parametrize("magic", ["6", "7x", "", " 7", "x" * 2000, b"\xb2\x00\xff"])
def test_x27_a_wrong_magic(host: Host, magic: Any) -> None:
    host.guest.offer(magic=magic)
    error = host.error() or ""
    assert error.startswith("14 version mismatch (")
    assert error.endswith("/7) with pcifront - halting xen-pciback")
    assert len(error) < 200
    refused(host, error)


@pytest.mark.parametrize("name", ["gref", "port", "magic"])
def test_x27_x28_a_missing_node(host: Host, name: str) -> None:
    host.guest.offer(**{name: None})
    refused(host, "22 Error reading configuration from frontend")


@pytest.mark.parametrize("name", ["gref", "port"])
@pytest.mark.parametrize("value", ["", "abc", "-1", "4294967296", "8x", " 8", "9" * 2000, b"\xb2", b"\xb9\xb3", "0x8"])
def test_x28_what_is_no_32_bit_number(host: Host, name: str, value: Any) -> None:
    host.guest.offer(**{name: value})
    refused(host, "22 Error reading configuration from frontend")


def test_x32_connected_without_a_page_is_ignored(host: Host) -> None:
    host.guest.state(4)
    assert host.be("state") == "3"
    assert host.pdev.channel is None
    host.guest.connect()
    assert host.be("state") == "4"


# -- strange states (X29 to X31) -------------------------------------------------------------------
@pytest.mark.parametrize("state", ["99", "-1", "abc", "9", "\xb2", "2", "8", "1"])
def test_x29_states_that_mean_nothing_are_ignored(host: Host, state: str) -> None:
    host.guest.connect()
    host.guest.state(state)
    assert host.be("state") == "4"
    assert host.pdev.channel is not None
    host.guest.state(4)
    alive(host)


def test_x30_flapping_between_3_and_6(host: Host) -> None:
    host.guest.connect()
    for _ in range(20):
        host.guest.state(6)
        host.guest.state(3)
    assert host.be("state") == "6"
    assert host.psdev().pdev is host.pdev, "B11: the device object stays while online"
    alive(host)


def test_b8_x31_a_reconfiguration_that_nobody_asked_for_is_ignored(host: Host) -> None:
    host.guest.connect()
    host.guest.state(7)
    assert host.be("state") == "4"
    assert host.pdev.channel is not None


# -- reconfiguration (B7) --------------------------------------------------------------------------
def test_b7_bus_12_a_device_is_taken_away(host: Host) -> None:
    host = connected(CARD, CARD_1)
    directory = backend_dir(host.guest.domid)
    host.write(f"{directory}/state-1", 5)
    host.write(f"{directory}/state", 7)
    assert host.psdev(CARD_1).detaching, "H11: marked before anybody waits for the guest"
    assert host.psdev(CARD_1).pdev is host.pdev
    host.guest.state(7)
    host.settle(500)
    assert host.be("state") == "8"
    assert host.psdev(CARD_1).pdev is None
    assert not host.psdev(CARD_1).detaching
    assert host.be("state-1") == "5", "the toolstack removes the nodes"
    assert host.psdev(CARD).pdev is host.pdev
    host.guest.state(4)
    assert host.be("state") == "4"


def test_b7_a_device_is_added(host: Host) -> None:
    host.guest.connect()
    directory = backend_dir(host.guest.domid)
    for name, value in (("dev-1", CARD_1), ("state-1", 1), ("num_devs", 2), ("state", 7)):
        host.write(f"{directory}/{name}", value)
    host.guest.state(7)
    assert [host.be(name) for name in ("vdev-1", "state-1", "state")] == ["0000:00:00.01", "3", "8"]
    assert host.psdev(CARD_1).pdev is host.pdev


@pytest.mark.parametrize("dev", ["nonsense", "0000:09:00.0", "0000:00:01.0"])
def test_b14_a_device_that_cannot_be_exported_is_fatal(host: Host, dev: str) -> None:
    host.guest.connect()
    directory = backend_dir(host.guest.domid)
    for name, value in (("dev-1", dev), ("state-1", 1), ("num_devs", 2), ("state", 7)):
        host.write(f"{directory}/{name}", value)
    host.guest.state(7)
    assert host.be("state") == "5"
    located = f"22 Couldn't locate PCI device ({dev})! perhaps already in-use?"
    assert host.error() in ("22 Error parsing pci device configuration", located)
    alive(host)


def test_d12_a_device_that_the_guest_has_already_is_not_exported_again(host: Host) -> None:
    host.guest.connect()
    directory = backend_dir(host.guest.domid)
    for name, value in (("dev-1", CARD), ("state-1", 1), ("num_devs", 2), ("state", 7)):
        host.write(f"{directory}/{name}", value)
    host.guest.state(7)
    assert host.error() == f"22 Couldn't locate PCI device ({CARD})! perhaps already in-use?"
    assert host.pdev.vbus.guest_address(host.psdev().dev.sbdf) == (0, 0, 0)


@pytest.mark.parametrize(("profile", "in_use"), [("hardened", False), ("linux", True)])
def test_d12_a_device_for_which_there_is_no_room(profile: str, in_use: bool) -> None:
    host = Host(make_host(profile=profile))
    host.guest.connect()
    host.pdev.vbus.add = lambda *args, **options: -12
    directory = backend_dir(host.guest.domid)
    for name, value in (("dev-1", CARD_1), ("state-1", 1), ("num_devs", 2), ("state", 7)):
        host.write(f"{directory}/{name}", value)
    host.guest.state(7)
    assert host.error() == "12 No more space on root virtual PCI bus"
    assert (host.psdev(CARD_1).pdev is not None) is in_use
    host.guest.state(0)
    host.settle(1_000)
    assert host.psdev(CARD_1).pdev is None


def test_b14_num_devs_that_is_no_number_is_fatal(host: Host) -> None:
    host.guest.connect()
    directory = backend_dir(host.guest.domid)
    host.write(f"{directory}/num_devs", "\xb2")
    host.write(f"{directory}/state", 7)
    host.guest.state(7)
    assert host.error() == "22 Error reading number of devices"
    alive(host)


def test_a_directory_that_goes_during_a_detach_hurts_nobody(host: Host) -> None:
    host.guest.connect()
    directory = backend_dir(host.guest.domid)
    host.hypervisor.machine.xs.write(f"{directory}/state", "7")
    host.hypervisor.machine.xs.remove(f"{directory}/num_devs")
    host.settle(20)
    alive(host)


# -- the end ---------------------------------------------------------------------------------------
def test_b10_closing_disconnects(host: Host) -> None:
    host.guest.connect()
    host.guest.state(5)
    assert host.be("state") == "5"
    assert host.pdev.channel is None
    assert host.world.traced("pciback.disconnect")
    host.guest.call("grant_end", host.guest.nodes["gref"])


def test_b11_closed_while_online_keeps_the_devices(host: Host) -> None:
    host.guest.connect()
    host.guest.state(6)
    assert host.be("state") == "6"
    assert host.psdev().pdev is host.pdev


def test_b12_closed_and_not_online_gives_the_devices_back(host: Host) -> None:
    host.guest.connect()
    host.write(f"{backend_dir(host.guest.domid)}/online", 0)
    host.guest.state(6)
    host.settle(500)
    assert host.psdev().pdev is None
    assert host.guest.domid not in host.dom0.pciback.guests
    assert host.be("state") == "6"


@pytest.mark.parametrize("how", ["remove", "zero"])
def test_b13_x35_a_frontend_that_is_gone_gives_the_devices_back(host: Host, how: str) -> None:
    host.guest.connect()
    if how == "remove":
        host.guest.call("xs_rm", 0, frontend_dir(host.guest.domid))
    else:
        host.guest.state(0)
    host.settle(500)
    assert host.psdev().pdev is None
    assert host.guest.domid not in host.dom0.pciback.guests
    alive(host)


def test_h2_x33_closing_while_a_question_waits(host: Host) -> None:
    host.guest.connect()
    host.ctl("dom0", "inject", CARD, 0, 1 << 20)
    host.settle(20)
    assert host.guest.page.test_bit(2), "the question is there"
    host.guest.state(6)
    host.settle(200)
    answers = [fields[3] for fields in host.world.traced("pciback.answer")]
    assert answers == ["channel-lost"]
    assert host.world.clock.time < 4_000_000_000
    alive(host)


def test_i31_an_operation_in_the_worker_is_finished_before_the_page_goes(host: Host) -> None:
    channel = host.guest.connect()
    host.guest.page.write_op((0, 0, 0, 0, 0, 0, 4, 0, 0))
    host.guest.page.set_bit(0)
    channel.notify()
    host.guest.state(6)
    assert host.guest.page.op().value == 0x10411AF4
    assert host.pdev.channel is None
    alive(host)


def test_x34_connecting_again_and_again_maps_one_page_at_a_time(host: Host) -> None:
    """B11 then a new guest kernel: the toolstack starts the backend again from Initialising."""
    host.guest.connect()
    first = host.guest.nodes["gref"]
    with pytest.raises(RpcError):
        host.guest.call("grant_end", first)
    host.guest.state(6)
    host.guest.call("grant_end", first)
    alive(host)


def test_x48_garbage_on_the_channel_is_a_disconnect(host: Host) -> None:
    channel = host.guest.connect()
    channel.link.send_raw(b"\xc1")
    host.settle(20)
    assert host.pdev.lost
    alive(host)
    host.ctl("dom0", "inject", CARD, 0, 1 << 20)
    host.settle(6_000)
    assert len(host.world.traced("pciback.kill")) == 1, "it lives on with the device and cannot be asked"
    alive(host)
