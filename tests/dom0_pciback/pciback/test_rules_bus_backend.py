"""Rules BUS-* of xen-pci.md 2.3 and 2.4 about the backend, with a scripted frontend."""

from __future__ import annotations

import pytest

from protocol.topology import GuestSpec
from protocol.xenbus import backend_dir, frontend_dir, parse_vdev, vdev_text
from tests.dom0_pciback.pciback.host import CARD, CARD_1, SPARE, Host, connected, make_host

BOTH = pytest.mark.parametrize("profile", ["linux", "hardened"])
RECONFIGURING = "Reconfiguring device ..."


def empty(profile: str) -> Host:
    """A guest without devices: its directories are made by the test, once pciback has seized everything."""
    host = Host(make_host(guests=[GuestSpec("guest1")], profile=profile))
    host.settle(500)
    host.write(f"{frontend_dir(host.guest.domid)}/state", 1)
    return host


def nodes(host: Host, **values: object) -> None:
    """Write nodes of the backend's directory in this order (``dev_0`` is ``dev-0``). Nobody reacts in between."""
    for key, value in values.items():
        name = key.replace("_", "-") if key[-1].isdigit() else key
        host.hypervisor.machine.xs.write(f"{backend_dir(host.guest.domid)}/{name}", str(value))
    host.settle(20)


def count(host: Host, text: str) -> int:
    return sum(line.endswith(text) for line in host.log)


@BOTH
def test_bus_3_its_own_writes_and_every_other_in_its_directory_wake_the_backend(profile: str) -> None:
    host = Host(make_host(profile=profile))
    own = count(host, RECONFIGURING)
    assert own == 6, "synthetic, vdev-0, state-0, root-0, root_num, state"
    nodes(host, opts_0="anything")
    assert count(host, RECONFIGURING) == own + 1
    host.guest.connect()
    nodes(host, opts_0="something else")
    assert count(host, RECONFIGURING) == own + 1, "B6: in state 4 nothing follows"


@BOTH
@pytest.mark.parametrize("online", [1, 0])
def test_bus_9_after_the_removal_the_state_is_closed(profile: str, online: int) -> None:
    """B13 writes no state of its own; the core does, once the driver's remove has run."""
    host = connected(profile=profile)
    nodes(host, online=online)
    host.guest.state(0)
    host.settle(2_000)
    assert host.guest.domid not in host.dom0.pciback.guests
    assert host.be("state") == "6"


@BOTH
def test_bus_9_a_directory_that_has_gone_does_not_come_back(profile: str) -> None:
    host = connected(profile=profile)
    host.hypervisor.machine.xs.remove(backend_dir(host.guest.domid))
    host.guest.call("xs_rm", 0, frontend_dir(host.guest.domid))
    host.settle(2_000)
    assert host.guest.domid not in host.dom0.pciback.guests
    assert host.read(backend_dir(host.guest.domid)) is None


@BOTH
def test_bus_10_the_first_device_that_fails_ends_the_set_up(profile: str) -> None:
    host = empty(profile)
    nodes(
        host, frontend=frontend_dir(host.guest.domid), num_devs=3, dev_0=CARD, state_0=1, dev_1="0000:09:00.0",
        state_1=1, dev_2=SPARE, state_2=1, state=1,
    )  # fmt: skip
    assert host.error() == "22 Couldn't locate PCI device (0000:09:00.0)! perhaps already in-use?"
    assert [host.be(name) for name in ("vdev-0", "vdev-1", "vdev-2")] == ["0000:00:00.00", None, None]
    assert [host.be(name) for name in ("state-0", "state-1", "state-2", "state")] == ["3", "1", "1", "5"]
    assert host.psdev(CARD).pdev is host.pdev
    assert host.psdev(SPARE).pdev is None


@BOTH
def test_bus_13_an_entry_that_names_no_device_of_the_guest_leaves_linux_in_state_7(profile: str) -> None:
    """No error node in either profile; hardened skips the entry, so that the toolstack need not time out."""
    host = connected(CARD, CARD_1, profile=profile)
    nodes(host, vdev_0="0000:00:1f.00", state_0=5, state_1=5, state=7)
    host.guest.state(7)
    host.settle(2_000)
    assert host.error() is None
    assert host.psdev(CARD).pdev is host.pdev
    assert (host.psdev(CARD_1).pdev is None) == (profile == "hardened"), "linux does not try the rest"
    assert host.be("state") == ("8" if profile == "hardened" else "7")


@BOTH
def test_bus_14_devices_are_added_one_at_a_time_before_the_frontend_is_there(profile: str) -> None:
    host = Host(make_host(profile=profile))
    for number, bdf in ((1, CARD_1), (2, SPARE)):
        nodes(host, **{f"dev_{number}": bdf, f"state_{number}": 1}, num_devs=number + 1)
    assert [host.be(f"vdev-{n}") for n in range(3)] == ["0000:00:00.00", "0000:00:00.01", "0000:00:01.00"]
    assert [host.be(f"state-{n}") for n in range(3)] == ["3", "3", "3"]
    assert host.be("state") == "3", "the main state is left alone"
    assert all(host.psdev(bdf).pdev is host.pdev for bdf in (CARD, CARD_1, SPARE))


@BOTH
@pytest.mark.parametrize("passthrough", [False, True])
def test_bus_15_roots_are_only_ever_added_and_each_once(profile: str, passthrough: bool) -> None:
    host = connected(profile=profile, passthrough=passthrough)
    for bdf, state in ((CARD_1, 1), (SPARE, 1), (SPARE, 5), (SPARE, 1)):
        number = 1 if bdf == CARD_1 else 2
        nodes(host, **{f"dev_{number}": bdf, f"state_{number}": state}, num_devs=number + 1, state=7)
        host.guest.state(7)
        host.settle(2_000)
        host.guest.state(4)
    roots = ["0000:01", "0000:02"] if passthrough else ["0000:00"]
    assert host.be("root_num") == str(len(roots))
    assert [host.be(f"root-{n}") for n in range(3)] == [*roots, *[None] * (3 - len(roots))]
    assert count(host, " at 0000:01") == count(host, " at 0000:02") == passthrough


@pytest.mark.parametrize("text", ["0000:03:00.1", "0:3:0.1", "0000:03:00.01", "03:00.01"])
def test_bus_16_vdev_is_parsed_as_numbers(text: str) -> None:
    address = parse_vdev(text)
    assert (*address,) == (0, 3, 0, 1)
    assert vdev_text(address) == "0000:03:00.01"
