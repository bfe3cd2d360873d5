"""Rules BE-* of xen-pci.md 4.4 to 4.7 that no other test is named after, with a scripted frontend."""

from __future__ import annotations

from typing import Any

import pytest

from hypervisor_stub.kill import WATCH_TOKEN
from kernel_stub.sync import Future, Mutex
from protocol.ers import Phase
from protocol.layout_header import COMMAND_MASTER, COMMAND_MEMORY, HEADER
from protocol.layout_msi import MSI
from protocol.sharedinfo import PCIB_ACTIVE, PCIF_ACTIVE, PciErr, PciOp
from protocol.topology import GuestSpec
from protocol.xenbus import BACKEND_ROOT
from tests.dom0_pciback.pciback.host import CARD, SPARE, Host, assign, connected, make_host

COMP_ABORT = 1 << 15
BOTH = pytest.mark.parametrize("profile", ["linux", "hardened"])
READ_IDS = (PciOp.CONF_READ, 0, 0, 0, 0, 0, 4, 0, 0)
ID = 0x10411AF4


def hold(host: Host, *locks: Mutex) -> None:
    """Somebody in dom0 has these locks and keeps them."""

    async def body() -> None:
        for lock in locks:
            await lock.acquire()
        await Future(host.dom0.kernel, "the end of the test").wait()

    host.dom0.kernel.spawn(body(), "holder")
    host.settle(1)
    assert all(lock.owner is not None for lock in locks)


def request(host: Host, op: tuple[int, ...]) -> tuple[int, int]:
    """An operation of the guest that is served at once."""
    guest = host.guest
    guest.page.write_op(op)
    guest.page.set_bit(PCIF_ACTIVE)
    guest.channel.notify()
    host.settle(1)
    assert not guest.page.test_bit(PCIF_ACTIVE)
    result: tuple[int, int] = guest.page.op_result()
    return result


def answer(guest: Any, value: int) -> None:
    """The guest answers the question that stands in its page."""
    assert guest.page.test_bit(PCIB_ACTIVE)
    guest.page.write_aer_err(value)
    guest.page.clear_bit(PCIB_ACTIVE)
    guest.channel.notify()


@BOTH
def test_be_1_operations_take_no_lock(profile: str) -> None:
    """A question to the same guest waits (with ``pcistub_sem`` held in linux), and all locks are taken."""
    host = connected(profile=profile)
    host.ctl("dom0", "inject", CARD, 0, COMP_ABORT)
    host.settle(20)
    assert host.guest.page.test_bit(PCIB_ACTIVE)
    lock = host.psdev().dev.device_lock
    hold(host, host.pdev.dev_lock, *([] if lock.owner is not None else [lock]))
    assert request(host, READ_IDS) == (0, ID)
    assert host.guest.page.test_bit(PCIB_ACTIVE)


@BOTH
def test_be_2_a_request_that_was_taken_back_is_executed_in_linux_only(profile: str) -> None:
    """The event is there, the worker has not run yet: the frontend's time-out clears the flag."""
    host = connected(profile=profile)
    page = host.pdev.channel.page
    page.write_op((PciOp.CONF_WRITE, 0, 0, 0, 0, HEADER.CACHE_LINE_SIZE, 1, 0x10, 0))
    page.set_bit(PCIF_ACTIVE)
    host.pdev.worker.events.handle_event()
    page.clear_bit(PCIF_ACTIVE)
    host.settle(1)
    written = host.psdev().access.read(HEADER.CACHE_LINE_SIZE, 1)
    assert (written == 0x10) == (profile == "linux")
    assert request(host, READ_IDS) == (0, ID), "the worker works on"


@BOTH
def test_be_10_d1_one_question_in_all_of_dom0_in_linux_one_per_guest_in_hardened(profile: str) -> None:
    guests = [GuestSpec(f"guest{n}", devices=[assign(bdf)]) for n, bdf in ((1, CARD), (2, SPARE))]
    host = Host(make_host(guests=guests, profile=profile))
    for guest in host.guests.values():
        guest.connect()
    for bdf in (CARD, SPARE):
        host.ctl("dom0", "inject", bdf, 0, COMP_ABORT)
    host.settle(100)
    asked = [guest for guest in host.guests.values() if guest.page.test_bit(PCIB_ACTIVE)]
    assert len(asked) == (1 if profile == "linux" else 2)
    answer(asked[0], 2)
    host.settle(100)
    assert asked[0].page.test_bit(PCIB_ACTIVE) == (profile == "hardened"), "in linux it is the other's turn"


@BOTH
def test_be_11_a_guest_that_was_reported_is_asked_on_in_linux_only(profile: str) -> None:
    """The stub has not seen ``aerfail`` yet, so the guest lives while the recovery goes on."""
    host = connected(profile=profile)
    host.hypervisor.machine.xs.unwatch(BACKEND_ROOT, WATCH_TOKEN)
    host.ctl("dom0", "inject", CARD, 0, COMP_ABORT)
    host.settle(20)
    for _ in range(4):
        if host.guest.page.test_bit(PCIB_ACTIVE):
            answer(host.guest, 1)
        host.settle(20)
    if profile == "hardened":  # nor about anything that comes later
        host.settle(20_000)
        host.ctl("dom0", "inject", CARD, 0, COMP_ABORT)
        host.settle(100)
        assert host.dom0.recoveries == 2
        assert host.guest.domid in host.dom0.pciback.guests
    asked = [fields[1] for fields in host.world.traced("pciback.ask")]
    kills = len(host.world.traced("pciback.kill"))
    linux = [Phase.ERROR_DETECTED, Phase.MMIO_ENABLED, Phase.RESUME]
    assert (asked, kills) == ((linux, 2) if profile == "linux" else (linux[:1], 1))


def test_be_12_msi_stays_on_in_dom0s_view_across_a_reset() -> None:
    """The guest must disable before it enables again; the register itself has lost the bit."""
    host = connected()
    psdev = host.psdev()
    enable, disable = ((cmd, *READ_IDS[1:]) for cmd in (PciOp.ENABLE_MSI, PciOp.DISABLE_MSI))
    assert request(host, enable) == (0, psdev.pirq)
    psdev.access.write(psdev.dev.msi + MSI.FLAGS, 2, 0)
    assert not psdev.msi_enabled
    assert request(host, enable) == (PciErr.OP_FAILED, 0)
    assert request(host, disable) == (0, psdev.gsi)
    assert request(host, enable) == (0, psdev.pirq)
    assert psdev.msi_enabled


@BOTH
def test_be_22_no_tear_down_switches_decoding_off(profile: str) -> None:
    """Neither the guest that disables its device nor the put back: only bus mastering goes."""
    host = connected(profile=profile)
    access = host.psdev().access
    assert request(host, (PciOp.CONF_WRITE, 0, 0, 0, 0, HEADER.COMMAND, 2, 0x0006, 0))[0] == 0
    assert request(host, (PciOp.CONF_WRITE, 0, 0, 0, 0, HEADER.COMMAND, 2, 0x0000, 0))[0] == 0
    assert access.read(HEADER.COMMAND, 2) & (COMMAND_MEMORY | COMMAND_MASTER) == COMMAND_MEMORY
    seized = host.psdev().seized
    host.psdev().seized = seized._replace(header=(seized.header[0], seized.header[1] | 2, *seized.header[2:]))
    host.guest.state(0)
    host.settle(2_000)
    assert host.psdev().pdev is None
    assert access.read(HEADER.COMMAND, 2) & (COMMAND_MEMORY | COMMAND_MASTER) == COMMAND_MEMORY
