"""dom0_pciback.pciback.ops: the operations of 4.4 and what hostile guests do to them (X1, X2, X8 to X15, X41)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dom0_pciback.pciback.ops import FAIR_SHARE, OpWorker
from kernel_stub.kernel import Task
from protocol.channel import CREDIT, Channel
from protocol.codec import decode_channel
from protocol.sharedinfo import OP_HEAD, PCIF_ACTIVE, PciErr, PciOp, SharedPage
from tests.dom0_pciback.pciback.pair import CARD_1, DEVFN, ID, Hostile, Pair

EALREADY, EINVAL, ENXIO = 114, 22, 6
MEMORY = 0x0002


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.fixture
def guest(pair: Pair) -> Hostile:
    return Hostile(pair)


def serve(pair: Pair, guest: Hostile, *op: int) -> tuple[int, int]:
    """Post an op as it is and return (err, value) as the guest finds them."""
    guest.request(*op)
    pair.world.settle(2_000)
    assert not guest.page.test_bit(PCIF_ACTIVE)
    answer = guest.page.op()
    return answer.err, answer.value


def simple(pair: Pair, guest: Hostile, cmd: int, value: int = 0, devfn: int = DEVFN) -> tuple[int, int]:
    return serve(pair, guest, cmd, 0, 0, 0, devfn, 0, 4, value, 0)


@pytest.mark.parametrize("cmd", [6, 7, 8, 9, 10, 0x80000000, 0xFFFFFFFF])
def test_x1_unknown_commands(pair: Pair, guest: Hostile, cmd: int) -> None:
    assert simple(pair, guest, cmd, 0x1234) == (PciErr.NOT_IMPLEMENTED, 0x1234)


@pytest.mark.parametrize(
    ("domain", "bus", "devfn"),
    [(1, 0, DEVFN), (0, 1, DEVFN), (0, 0, 0x50), (0xFFFFFFFF, 0, 0), (0, 0xFFFFFFFF, 0), (0, 0, 0xFFFFFFFF)],
)
def test_x2_unknown_devices(pair: Pair, guest: Hostile, domain: int, bus: int, devfn: int) -> None:
    assert serve(pair, guest, PciOp.CONF_READ, 0, domain, bus, devfn, 0, 4, 77, 0) == (PciErr.DEV_NOT_FOUND, 77)


def test_x3_devfn_bits_above_7_name_nobody(pair: Pair, guest: Hostile) -> None:
    assert simple(pair, guest, PciOp.CONF_READ, devfn=0x100 | DEVFN)[0] == PciErr.DEV_NOT_FOUND


@pytest.mark.parametrize("size", [0, 3, 8, -1, -(2**31)])
def test_x4_sizes(pair: Pair, guest: Hostile, size: int) -> None:
    for cmd in (PciOp.CONF_READ, PciOp.CONF_WRITE):
        assert serve(pair, guest, cmd, 0, 0, 0, DEVFN, 0, size, 0, 0)[0] == PciErr.INVALID_OFFSET


@pytest.mark.parametrize(("offset", "size"), [(1, 2), (2, 4), (5, 4), (-4, 4), (-1, 1), (4096, 4), (2**31 - 4, 4)])
def test_x5_x6_x7_offsets(pair: Pair, guest: Hostile, offset: int, size: int) -> None:
    for cmd in (PciOp.CONF_READ, PciOp.CONF_WRITE):
        assert serve(pair, guest, cmd, 0, 0, 0, DEVFN, offset, size, 0, 0)[0] == PciErr.INVALID_OFFSET


def test_a_write_leaves_the_value_as_it_was(pair: Pair, guest: Hostile) -> None:
    assert serve(pair, guest, PciOp.CONF_WRITE, 0, 0, 0, DEVFN, 4, 2, 0x0006, 0) == (0, 0x0006)


def test_an_answer_changes_err_and_value_only(pair: Pair, guest: Hostile) -> None:
    guest.request(PciOp.CONF_READ, -3, 0, 0, DEVFN, 0, 4, 9, 0x55)
    pair.world.settle()
    assert guest.page.op() == (PciOp.CONF_READ, 0, 0, 0, DEVFN, 0, 4, ID, 0x55)


@pytest.mark.parametrize("count", [129, 0xFFFFFFFF, 0x80000000])
def test_x8_too_many_vectors(pair: Pair, guest: Hostile, count: int) -> None:
    pair.core.update(pair.psdev.dev, 4, 2, 0, MEMORY)
    assert simple(pair, guest, PciOp.ENABLE_MSIX, count) == (-EINVAL, count)


@pytest.mark.parametrize("count", [0, 1, 128])
def test_x9_be_4_vectors_that_no_device_has(pair: Pair, guest: Hostile, count: int) -> None:
    pair.core.update(pair.psdev.dev, 4, 2, 0, MEMORY)
    assert simple(pair, guest, PciOp.ENABLE_MSIX, count)[0] == -EINVAL


def test_x10_msi_in_the_wrong_order(pair: Pair, guest: Hostile) -> None:
    pair.core.update(pair.psdev.dev, 4, 2, MEMORY, 0)
    assert simple(pair, guest, PciOp.DISABLE_MSI) == (0, pair.psdev.gsi)
    assert simple(pair, guest, PciOp.DISABLE_MSIX) == (0, pair.psdev.gsi)
    assert simple(pair, guest, PciOp.ENABLE_MSIX, 1)[0] == -ENXIO, "memory decoding is off"
    pair.core.update(pair.psdev.dev, 4, 2, 0, MEMORY)
    assert simple(pair, guest, PciOp.ENABLE_MSI) == (0, pair.psdev.pirq)
    assert simple(pair, guest, PciOp.ENABLE_MSI) == (PciErr.OP_FAILED, 0)
    assert simple(pair, guest, PciOp.ENABLE_MSIX, 1)[0] == -ENXIO, "MSI is on"
    assert simple(pair, guest, PciOp.DISABLE_MSI)[0] == 0
    assert not pair.psdev.msi_enabled


def test_x10_warnings_that_a_guest_provokes_are_limited(pair: Pair, guest: Hostile) -> None:
    simple(pair, guest, PciOp.ENABLE_MSI)
    for _ in range(100):
        simple(pair, guest, PciOp.ENABLE_MSI)
    warnings = [line for line in pair.world.log if "error enabling MSI" in line]
    assert 1 <= len(warnings) <= 10
    assert warnings[0].endswith(f"error enabling MSI for guest 7: err {-EALREADY}")


def test_x11_the_request_is_copied_once(pair: Pair, guest: Hostile) -> None:
    """What changes in the page while the operation runs changes neither the operation nor where it goes."""
    page = pair.channel.page
    original = pair.worker.lookup

    def lookup(domain: int, bus: int, devfn: int) -> object:
        page.apply(((0, 4, b"\xff" * OP_HEAD),))
        return original(domain, bus, devfn)

    pair.worker.lookup = lookup  # type: ignore[assignment]
    guest.request(PciOp.CONF_READ, 0, 0, 0, DEVFN, 0, 4, 0, 0)
    pair.world.settle(2_000)
    assert pair.worker.served <= 1
    assert not any("RIP" in line for line in pair.world.log)


def test_h6_a_result_is_not_stored_over_a_request_that_has_changed(pair: Pair, guest: Hostile) -> None:
    page = pair.channel.page
    original = pair.worker.lookup
    changed: list[int] = []

    def lookup(domain: int, bus: int, devfn: int) -> object:
        if not changed:
            changed.append(1)
            page.apply(((0, 20, bytes([CARD_1.function, 0, 0, 0])),))
        return original(domain, bus, devfn)

    pair.worker.lookup = lookup  # type: ignore[assignment]
    guest.request(PciOp.CONF_READ, 0, 0, 0, DEVFN, 8, 4, 0x77, 0)
    pair.world.settle(1)
    assert page.op().value != pair.slots[CARD_1].conf.read(0, 4)[1]
    assert guest.page.op().value in (0x77, pair.slots[CARD_1].conf.read(8, 4)[1])


def test_x15_h6_a_request_given_up_before_it_was_served_is_not_executed(pair: Pair, guest: Hostile) -> None:
    before = pair.psdev.access.read(4, 2)
    guest.page.write_op((PciOp.CONF_WRITE, 0, 0, 0, DEVFN, 4, 2, before ^ 0x0006, 0))
    guest.page.set_bit(PCIF_ACTIVE)
    guest.channel.notify()
    guest.page.clear_bit(PCIF_ACTIVE)
    guest.channel.flush()
    while pair.world.wire:  # both are there before the worker runs
        end, raw = pair.world.wire.popleft()
        end.deliver(raw)
    pair.world.settle(1)
    assert pair.worker.served == 0
    assert pair.psdev.access.read(4, 2) == before
    pair.rest()


def test_x14_a_guest_that_asks_without_end_lets_others_run(pair: Pair, guest: Hostile) -> None:
    """The flag is set again the moment it is cleared: a run of the worker serves so many and no more."""
    page, served_at = pair.channel.page, []
    clear = pair.worker.channel

    class Again:
        """The channel as the worker sees it: the guest is quicker than ``notify``."""

        def __init__(self) -> None:
            self.page = page

        def notify(self) -> None:
            clear.flush()
            page.apply(((1, PCIF_ACTIVE, b""),))

    async def other() -> None:
        for _ in range(3):
            served_at.append(pair.worker.served)
            await pair.dom0.cond_resched()

    pair.worker.channel = Again()  # type: ignore[assignment]
    page.apply(((1, PCIF_ACTIVE, b""),))
    pair.events.handle_event()
    task = pair.dom0.spawn(other(), "other")
    steps = 0
    while not task.done and steps < 100:
        steps += 1
        item = pair.dom0._ready.popleft()
        pair.dom0._step(item) if isinstance(item, Task) else item()
    assert served_at[0] <= FAIR_SHARE
    assert task.done
    assert all(after - before <= FAIR_SHARE for before, after in pairwise(served_at))


def test_x41_endless_reads_of_one_guest_do_not_delay_another(pair: Pair, guest: Hostile) -> None:
    """Two guests on one dom0: a guest can be ahead of another by its credit and no more."""
    left, right = pair.world.pair(decode_channel)
    worker = OpWorker(pair.dom0, Channel(right, SharedPage()), pair.pdev._lookup, "of guest 2")
    other = Channel(left, SharedPage())
    for number in range(500):
        guest.request(PciOp.CONF_READ, 0, 0, 0, number % 256, 0, 4, 0, 0)
    other.page.write_op((PciOp.CONF_READ, 0, 0, 0, DEVFN, 0, 4, 0, 0))
    other.page.set_bit(PCIF_ACTIVE)
    other.notify()
    while not worker.served:
        assert pair.world.step(pair.world.clock.time)
    assert pair.worker.served <= CREDIT
    pair.world.settle(5_000)
    assert not pair.channel.closed


def test_four_thousand_requests_in_a_row_leave_nothing_behind(pair: Pair) -> None:
    for offset in range(0, 4000, 4):
        pair.read(offset % 256, 4)
    pair.rest()
    assert pair.worker.served == 1000
    assert pair.events.spurious_events == 0


@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x80, 0x7F])
def test_any_bytes_in_the_slot_are_answered(pair: Pair, guest: Hostile, fill: int) -> None:
    guest.page.write(4, bytes([fill]) * 548)
    guest.page.set_bit(PCIF_ACTIVE)
    guest.channel.notify()
    pair.world.settle(2_000)
    assert not guest.page.test_bit(PCIF_ACTIVE)
    assert pair.worker.served == 1
