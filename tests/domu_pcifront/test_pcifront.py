"""domu_pcifront.pcifront with the real stub and the real dom0: F1 to F14, BUS-20 to BUS-25, attach and detach."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.topology import GuestSpec
from protocol.xenbus import backend_dir, parse_vdev
from tests.dom0_pciback.pciback.host import CARD, CARD_1, SPARE, Host, assign, make_host


@pytest.fixture
def host() -> Host:
    return Host(make_host(CARD, CARD_1), real=True)


def devices(host: Host) -> Any:
    return host.guest.domu.bus.devices


def front_writes(host: Host, name: str) -> int:
    """How often the guest wrote a node of its directory."""
    return sum(message[0] == "xs_write" and message[3].endswith(f"/{name}") for message in host.guest.link.sent)


def alive(host: Host) -> None:
    assert host.ctl("guest1", "status") is not None
    assert not host.world.traced("kernel.oops")


def test_f1_f3_connect(host: Host) -> None:
    assert (host.fe("state"), host.be("state")) == ("4", "4")
    assert host.fe("magic") == "7"
    assert (host.fe("pci-op-ref") or "").isdigit()
    assert (host.fe("event-channel") or "").isdigit()
    assert sorted(devices(host)) == [0, 1]


def test_f1_the_three_nodes_are_one_transaction_before_the_state(host: Host) -> None:
    writes = [message[2:] for message in host.guest.link.sent if message[0] == "xs_write"]
    (tx,) = {tx for tx, path, _ in writes if path.endswith(("pci-op-ref", "event-channel", "magic"))}
    assert tx
    names = [path.rsplit("/", 1)[1] for _, path, _ in writes]
    assert names.index("state") > names.index("magic")


def test_wire_4_the_page_says_that_there_is_aer_code(host: Host) -> None:
    (page,) = [message[4] for message in host.guest.link.sent if message[0] == "grant"]
    assert page[0] == 2
    assert len(page) == 572
    assert not any(page[4:])


def test_bus_22_a_scan_costs_at_least_256_operations(host: Host) -> None:
    assert host.pdev.worker.served >= 256


def test_bus_21_without_root_num_bus_0_is_scanned_all_the_same() -> None:
    host = Host(make_host(CARD), real=True, boot=False)
    host.ctl("hypervisor", "boot")
    host.write(f"{backend_dir(host.guest.domid)}/root_num", "1")
    host.hypervisor.machine.xs.remove(f"{backend_dir(host.guest.domid)}/root_num")
    host.settle(50)
    host.world.run(host.guest.domu.pcifront._scan(), host.guest.kernel)
    assert "pcifront pci-0: No PCI Roots found, trying 0000:00" in host.log
    assert list(devices(host)) == [0]


def test_f5_f8_detach_and_attach(host: Host) -> None:
    assert host.xl(f"pci-detach guest1 {CARD_1}")[0] == 0
    assert list(devices(host)) == [0]
    assert (host.fe("state"), host.be("state")) == ("4", "4")
    assert host.xl(f"pci-attach guest1 {CARD_1}")[0] == 0
    assert sorted(devices(host)) == [0, 1]
    alive(host)


def test_f13_the_last_device_takes_the_frontend_with_it_and_a_new_one_comes(host: Host) -> None:
    for bdf in (CARD, CARD_1):
        assert host.xl(f"pci-detach guest1 {bdf}")[0] == 0
    host.settle(3_000)
    assert devices(host) == {}
    assert host.be("state") is None
    for bdf in (SPARE, CARD):
        assert host.xl(f"pci-attach guest1 {bdf}")[0] == 0
    host.settle(100)
    assert len(devices(host)) == 2
    assert (host.fe("state"), host.be("state")) == ("4", "4")
    assert host.board.connected.count(host.board.connected[-1]) == 1
    alive(host)


def test_f13_the_old_frontend_does_not_listen_any_more(host: Host) -> None:
    """A watch of the first connection must not answer for the second: one channel, one scan per connection."""
    for _ in range(3):
        for bdf in (CARD, CARD_1):
            host.xl(f"pci-detach guest1 {bdf}")
        host.settle(3_000)
        for bdf in (CARD, CARD_1):
            assert host.xl(f"pci-attach guest1 {bdf}")[0] == 0
    channels = [address for address in host.board.connected if "channel" in address]
    assert len(channels) == len(set(channels)) == 4
    host.ctl("dom0", "inject", CARD, 0, 1 << 15)
    host.settle(3_000)
    assert host.dom0.recoveries == 1
    alive(host)


def test_f2_f4_f7_states_that_change_nothing(host: Host) -> None:
    path = f"{backend_dir(host.guest.domid)}/state"
    before = front_writes(host, "state")
    for state in (0, 1, 3, 4, 99, "x"):
        host.hypervisor.machine.xs.write(path, str(state))
        host.settle(5)
    assert front_writes(host, "state") == before
    assert sorted(devices(host)) == [0, 1]


@pytest.mark.parametrize("state", [5, 6])
def test_f9_f11_the_backend_closes(host: Host, state: int) -> None:
    host.write(f"{backend_dir(host.guest.domid)}/state", state)
    host.settle(50)
    assert host.fe("state") == "6"
    assert devices(host) == {}
    for text in ("backend going away!", "Disconnecting PCI Frontend Buses"):
        assert host.log.count(f"pcifront pci-0: {text}") == 1, "F10: once"


def test_f12_hardened_a_backend_that_closes_during_a_reconfiguration_is_noticed(host: Host) -> None:
    front = host.guest.domu.pcifront
    host.write(f"{backend_dir(host.guest.domid)}/state", 7)
    front.dev.state = 7
    host.write(f"{backend_dir(host.guest.domid)}/state", 5)
    host.settle(50)
    assert devices(host) == {}


def test_f12_d26_in_linux_it_is_not() -> None:
    host = Host(make_host(CARD, defects=["D26"]), real=True)
    host.guest.domu.pcifront.dev.state = 7
    host.write(f"{backend_dir(host.guest.domid)}/state", 5)
    host.settle(50)
    assert len(devices(host)) == 1


def test_drivers_are_those_of_the_host_file() -> None:
    guest = GuestSpec("guest1", devices=[assign(CARD), assign(CARD_1, "none")])
    host = Host(make_host(guests=[guest]), real=True)
    assert host.ctl("guest1", "status") == {"0000:00:00.0": "scripted", "0000:00:00.1": ""}


def test_a_lost_channel_makes_operations_fail_and_not_hang(host: Host) -> None:
    host.pdev.channel.close()
    host.settle(5)
    front = host.guest.domu.pcifront
    begin = host.world.clock.time
    assert host.world.run(front.ops.read(0, 0, 4), host.guest.kernel) == 0xFFFFFFFF
    assert host.world.clock.time == begin


@pytest.mark.parametrize(
    ("text", "devfn"), [("0000:00:00.00", 0), ("0000:00:01.00", 8), ("0000:00:1f.07", 0xFF), ("0000:00:01.3", 11)]
)
def test_2_2_vdev_has_two_digits_for_the_function(text: str, devfn: int) -> None:
    assert parse_vdev(text).number == devfn
