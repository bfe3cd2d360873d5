"""Rules BUS-* and WIRE-5 of xen-pci.md about the frontend, with the real stub and the real dom0."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.topology import GuestSpec
from protocol.xenbus import backend_dir, frontend_dir
from tests.dom0_pciback.pciback.host import CARD, CARD_1, Host, assign, make_host

BOTH = pytest.mark.parametrize("profile", ["linux", "hardened"])
COMP_ABORT = 1 << 15
AER_CODE = 0b010


def states(host: Host) -> list[str]:
    """What the guest has written to its own state node, in order."""
    writes = [message for message in host.guest.link.sent if message[0] == "xs_write"]
    return [bytes(message[4]).decode() for message in writes if message[3] == f"{frontend_dir(host.guest.domid)}/state"]


def quick_toolstack(host: Host, seen: str, **nodes: object) -> None:
    """Once the backend's state is ``seen`` the toolstack writes ``nodes``, before anybody has read that state."""
    xs = host.hypervisor.machine.xs

    def changed(path: str) -> None:
        directory, _, name = path.rpartition("/")
        if name == "state" and xs.read(path) == seen and nodes:
            todo = dict(nodes)
            nodes.clear()
            for key, value in todo.items():
                xs.write(f"{directory}/{key.replace('_', '-') if key[-1].isdigit() else key}", str(value))

    xs.watch("/local/domain/0/backend/pci", "quick toolstack", changed)


@BOTH
@pytest.mark.parametrize("driver", ["none", "silent"])
def test_wire_5_the_page_says_aer_code_whatever_the_drivers_have(profile: str, driver: str) -> None:
    """The bit is about pcifront: it is there before any driver is, and in a guest whose driver has no handlers."""
    guest = GuestSpec("guest1", devices=[assign(CARD, driver)])
    host = Host(make_host(guests=[guest], profile=profile), real=True)
    (page,) = [message[4] for message in host.guest.link.sent if message[0] == "grant"]
    assert page[0] == AER_CODE
    assert host.pdev.aer_handler
    host.ctl("dom0", "inject", CARD, 0, COMP_ABORT)
    host.settle(100)
    assert host.world.traced("pciback.ask"), "so it is asked"


def shutting_down(profile: str) -> Host:
    """A guest that powers off and has let go of its devices; the stub has not heard of it yet."""
    host = Host(make_host(CARD, profile=profile), real=True)
    host.hypervisor.machine.xs.write(f"/local/domain/{host.guest.domid}/control/shutdown", "poweroff")
    while not host.guest.machine.calls:
        host.world.step(host.world.clock.time)
    messages = [(end, raw) for end, raw in host.world.wire if raw is None or end.decode(raw)[0] != "shutdown"]
    host.world.wire.clear()
    host.world.wire.extend(messages)
    return host


@BOTH
@pytest.mark.parametrize("state", [7, 8, 4])
def test_bus_8_a_kernel_that_goes_down_takes_part_in_nothing(profile: str, state: int) -> None:
    host = shutting_down(profile)
    before = states(host)
    host.guest.domu.pcifront.dev.state = {7: 4, 8: 7, 4: 3}[state]
    host.hypervisor.machine.xs.write(f"{backend_dir(host.guest.domid)}/state", str(state))
    host.settle(5)
    assert states(host) == before
    assert host.guest.domu.bus.devices == {}


@BOTH
@pytest.mark.parametrize("state", [5, 6])
def test_bus_8_a_backend_that_closes_is_told_closed_and_no_more(profile: str, state: int) -> None:
    host = shutting_down(profile)
    host.hypervisor.machine.xs.write(f"{backend_dir(host.guest.domid)}/state", str(state))
    host.settle(5)
    assert states(host)[-1] == "6"
    assert "pcifront pci-0: backend going away!" not in host.log


@BOTH
@pytest.mark.parametrize("state", [5, 6])
def test_bus_20_the_normal_way_down_is_from_4_to_6(profile: str, state: int) -> None:
    host = Host(make_host(CARD, profile=profile), real=True)
    host.write(f"{backend_dir(host.guest.domid)}/state", state)
    host.settle(50)
    assert states(host) == ["3", "4", "6"]


@BOTH
def test_bus_20_only_a_fatal_error_writes_5(profile: str) -> None:
    """F14: a backend that says 4 and has bound no event channel."""
    host = Host(make_host(CARD, profile=profile), real=True, boot=False)
    quick_toolstack(host, "2", state=4)
    host.ctl("hypervisor", "boot")
    host.settle(11_000)
    assert states(host) == ["3", "5"]
    error = host.read(f"/local/domain/{host.guest.domid}/error/device/pci/0/error")
    assert error == "19 backend connected without binding the event channel"


@BOTH
def test_bus_25_a_guest_that_missed_the_4_connects_with_the_8(profile: str) -> None:
    host = Host(make_host(CARD, profile=profile), real=True, boot=False)
    quick_toolstack(host, "4", dev_1=CARD_1, state_1=1, num_devs=2, state=7)
    host.ctl("hypervisor", "boot")
    host.settle(500)
    assert "pcifront pci-0: Skipping connect" in host.log
    assert states(host) == ["3", "7", "4"]
    assert (host.be("state"), host.be("vdev-1")) == ("4", "0000:00:00.01")
    devices: Any = host.guest.domu.bus.devices
    # What no toolstack has assigned a guest of hardened cannot reach, whatever the nodes say.
    assert sorted(devices) == ([0, 1] if profile == "linux" else [0])
    host.ctl("dom0", "inject", CARD, 0, COMP_ABORT)
    host.settle(3_000)
    answers = [fields[1:] for fields in host.world.traced("pciback.answer")]
    assert ("error_detected", 2, "answer-valid") in answers, "the channel works"
