"""domu_pcifront.pci_op against the real backend: FE-1 to FE-5, 3.3, A.1, and what a slow backend must not break."""

from __future__ import annotations

import pytest

from kernel_stub.kernel import MS
from protocol.ers import Phase
from protocol.sharedinfo import PCIB_ACTIVE, PciErr, PciOp
from tests.dom0_pciback.pciback.pair import DEVFN, ID, Answering, Pair

EINVAL = 22


@pytest.fixture
def pair() -> Pair:
    return Pair()


def mute(pair: Pair) -> None:
    """The backend hears nothing any more."""
    pair.link.on_message = lambda message: None


def test_a_1_config_read(pair: Pair) -> None:
    assert pair.read(0, 4) == ID
    (sent,) = pair.front.link.sent
    assert sent[2] is True
    assert [op[0] for op in sent[3]] == [0, 1], "the request, then the flag"
    assert pair.front.page.data[0] == 0b010
    pair.rest()


@pytest.mark.parametrize(("offset", "size", "value"), [(0, 1, 0xF4), (1, 1, 0x1A), (2, 2, 0x1041), (0, 2, 0x1AF4)])
def test_a_read_gives_the_bytes_that_were_asked_for(pair: Pair, offset: int, size: int, value: int) -> None:
    assert pair.read(offset, size) == value


@pytest.mark.parametrize(("size", "ones"), [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFFFFFF)])
def test_an_absent_device_reads_all_ones(pair: Pair, size: int, ones: int) -> None:
    assert pair.read(0, size, devfn=0x50) == ones
    assert pair.op(PciOp.CONF_READ, 0x50, 0, size)[0] == PciErr.DEV_NOT_FOUND


def test_a_write_takes_effect_and_a_read_sees_it(pair: Pair) -> None:
    pair.world.run(pair.front.ops.write(DEVFN, 4, 2, 0x0006), pair.front.kernel)
    assert pair.read(4, 2) & 0x0006 == 0x0006
    assert pair.psdev.access.read(4, 2) & 0x0006 == 0x0006
    pair.rest()


def test_all_operations_of_all_devices_are_one_after_the_other(pair: Pair) -> None:
    """3.2 step 1: one lock; no operation sees the answer of another."""
    results: dict[int, int] = {}

    async def one(offset: int) -> None:
        results[offset] = await pair.front.ops.read(DEVFN, offset, 1)

    for offset in range(4):
        pair.front.kernel.spawn(one(offset), f"read {offset}")
    pair.world.settle(1)
    assert results == {0: 0xF4, 1: 0x1A, 2: 0x41, 3: 0x10}
    assert pair.worker.served == 4


def test_fe_2_no_answer_within_two_seconds_is_dev_not_found(pair: Pair) -> None:
    mute(pair)
    assert pair.op(PciOp.CONF_READ, DEVFN, 0, 4) == (PciErr.DEV_NOT_FOUND, 0)
    assert 2_000 * MS < pair.world.clock.time <= 3_000 * MS, "one poll lasts up to three seconds (0.4)"
    assert "pcifront pci-0: pciback not responding!!!" in pair.world.log
    assert not pair.front.page.test_bit(0)


def test_fe_4_a_spurious_event_does_not_end_the_operation(pair: Pair) -> None:
    mute(pair)
    task = pair.front.kernel.spawn(pair.front.ops.read(DEVFN, 0, 4), "read")
    for _ in range(5):
        pair.world.settle(100)
        pair.front.channel.on_event()
    pair.world.settle(100)
    assert not task.done
    pair.world.settle(3_000)
    assert task.result == 0xFFFFFFFF


def test_an_operation_on_a_closed_channel_fails_at_once(pair: Pair) -> None:
    task = pair.front.kernel.spawn(pair.front.ops.read(DEVFN, 0, 4), "read")
    pair.front.kernel.run()
    pair.drop()
    pair.link.close()
    pair.world.settle(1)
    assert task.result == 0xFFFFFFFF
    assert pair.read() == 0xFFFFFFFF
    assert pair.world.clock.time < 10 * MS


def test_i1_an_aer_request_whose_event_the_poll_swallowed_is_served(pair: Pair) -> None:
    """Step 6: the answer of the operation and the AER request share one event channel."""
    driver = pair.front.bind(DEVFN, Answering())
    reading = pair.front.kernel.spawn(pair.front.ops.read(DEVFN, 0, 4), "read")
    pair.front.kernel.run()
    asking = pair.asking()
    pair.world.settle(5)
    assert reading.result == ID
    assert asking.result[1] == 2
    assert driver.calls == ["error_detected(1)"]
    pair.rest()


def _swallowed_by_a_timeout(pair: Pair) -> None:
    """An operation that times out while an AER request comes in."""
    pair.front.bind(DEVFN, Answering())
    mute(pair)
    pair.front.kernel.spawn(pair.front.ops.read(DEVFN, 0, 4), "read")
    pair.world.settle(1)
    pair.asking()
    pair.world.settle(4_000)


def test_h7_the_aer_flag_is_looked_at_when_an_operation_times_out(pair: Pair) -> None:
    _swallowed_by_a_timeout(pair)
    assert pair.front.drivers[DEVFN].calls == ["error_detected(1)"]  # type: ignore[attr-defined]


def test_fe_1_with_d7_the_request_waits_for_the_next_event() -> None:
    pair = Pair(recheck_on_timeout=False)
    _swallowed_by_a_timeout(pair)
    assert pair.front.drivers[DEVFN].calls == []  # type: ignore[attr-defined]
    pair.front.channel.on_event()
    pair.world.settle(1)
    assert pair.front.drivers[DEVFN].calls == ["error_detected(1)"]  # type: ignore[attr-defined]


def test_fe_11_i3_a_handler_may_use_configuration_space(pair: Pair) -> None:
    driver = pair.front.bind(DEVFN, Answering())
    seen: list[tuple[int, bool]] = []

    async def look() -> None:
        seen.append((await pair.front.ops.read(DEVFN, 0, 4), pair.front.page.test_bit(PCIB_ACTIVE)))

    driver.inside = look
    assert pair.recover(Phase.ERROR_DETECTED, Phase.MMIO_ENABLED, Phase.RESUME) == [2, 5, 1]
    assert seen == [(ID, True)] * 3, "served while the AER request is there"
    pair.rest()


def test_h6_a_late_answer_does_not_complete_the_next_request(pair: Pair) -> None:
    """I30, D6: op A times out, op B is sent, then A's answer arrives. B must get its own value, and so must C."""
    world, front = pair.world, pair.front
    held: list[bytes | None] = []  # the backend is slow: everything lies on the wire
    pair.link.deliver = held.append  # type: ignore[method-assign,assignment]
    first = front.kernel.spawn(front.ops.read(DEVFN, 0, 4), "A")
    world.settle(3_001)
    assert first.result == 0xFFFFFFFF
    second = front.kernel.spawn(front.ops.read(DEVFN, 4, 2), "B")
    world.settle(10)
    del pair.link.deliver
    world.wire.extend((pair.link, raw) for raw in held)
    world.settle(10)
    assert second.result == pair.psdev.conf.read(4, 2)[1]
    assert pair.read(2, 2) == ID >> 16
    pair.rest()


def test_h6_answers_under_way_while_the_next_request_is_written(pair: Pair) -> None:
    """As above, with A's answer already sent when B is written: only its acknowledgement tells them apart."""
    world, front = pair.world, pair.front
    first = front.kernel.spawn(front.ops.read(DEVFN, 0, 4), "A")
    front.kernel.run()
    end, raw = world.wire.popleft()
    end.deliver(raw)  # the backend serves A, its answer lies on the wire
    pair.dom0.run()
    held = list(world.wire)
    world.wire.clear()
    world.settle(3_001)
    assert first.result == 0xFFFFFFFF
    second = front.kernel.spawn(front.ops.read(DEVFN, 4, 2), "B")
    front.kernel.run()
    world.wire.extendleft(reversed(held))
    world.settle(10)
    assert second.result == pair.psdev.conf.read(4, 2)[1]
    assert pair.read(2, 2) == ID >> 16
    pair.rest()


# -- MSI -----------------------------------------------------------------------------------------
def test_3_3_enable_and_disable_msi(pair: Pair) -> None:
    ops = pair.front.ops
    assert pair.world.run(ops.enable_msi(DEVFN), pair.front.kernel) == pair.psdev.pirq
    assert pair.psdev.msi_enabled
    pair.world.run(ops.disable_msi(DEVFN), pair.front.kernel)
    assert not pair.psdev.msi_enabled
    assert not [line for line in pair.world.log if line.startswith("pcifront")]


def test_x10_enable_msi_twice_is_refused(pair: Pair) -> None:
    ops = pair.front.ops
    pair.world.run(ops.enable_msi(DEVFN), pair.front.kernel)
    assert pair.world.run(ops.enable_msi(DEVFN), pair.front.kernel) == -EINVAL
    assert "pcifront pci-0: pci frontend enable msi failed for dev 0:0" in pair.world.log


@pytest.mark.parametrize("value", [0, 0x80000000])
def test_3_3_an_invalid_vector_is_refused(pair: Pair, value: int) -> None:
    pair.psdev.pirq = value
    assert pair.world.run(pair.front.ops.enable_msi(DEVFN), pair.front.kernel) == -EINVAL
    assert any("MSI entry is invalid" in line for line in pair.world.log)


def test_3_3_disable_msi_logs_what_came_instead_of_an_answer(pair: Pair) -> None:
    ops = pair.front.ops
    pair.world.run(ops.disable_msi(0x50), pair.front.kernel)
    assert "pcifront pci-0: get no response from backend for disable MSI" in pair.world.log
    pair.channel.on_event = lambda: _refuse(pair)
    pair.world.run(ops.disable_msi(DEVFN), pair.front.kernel)
    assert "pcifront pci-0: get fake response from backend" in pair.world.log


def _refuse(pair: Pair) -> None:
    page = pair.channel.page
    page.write_result(PciErr.OP_FAILED, 0)
    page.clear_bit(0)
    pair.channel.notify()


def test_x8_more_than_128_vectors_are_not_sent(pair: Pair) -> None:
    result = pair.world.run(pair.front.ops.enable_msix(DEVFN, list(range(129))), pair.front.kernel)
    assert result == -EINVAL
    assert pair.front.link.sent == []
    text = "pcifront pci-0: too many vectors (0x81) for PCI frontend: Increase SH_INFO_MAX_VEC"
    assert text in pair.world.log


def test_3_3_enable_msix_gives_the_error_of_the_backend(pair: Pair) -> None:
    """The device has memory decoding off at first: -ENXIO comes before everything else (4.4)."""
    pair.core.update(pair.psdev.dev, 4, 2, 0x0006, 0)
    assert pair.world.run(pair.front.ops.enable_msix(DEVFN, [0, 1]), pair.front.kernel) == -6
    assert any(line.startswith("pcifront pci-0: enable msix get err") for line in pair.world.log)


def test_3_3_msix_vectors_come_from_the_entries(pair: Pair) -> None:
    pair.channel.on_event = lambda: _grant(pair)
    assert pair.world.run(pair.front.ops.enable_msix(DEVFN, [0, 1]), pair.front.kernel) == [72, 73]


def test_3_3_an_msix_entry_that_is_no_vector_is_refused(pair: Pair) -> None:
    pair.channel.on_event = lambda: _grant(pair, vectors=(72, 0))
    assert pair.world.run(pair.front.ops.enable_msix(DEVFN, [0, 1]), pair.front.kernel) == -EINVAL
    assert "pcifront pci-0: MSI-X entry 1 is invalid: 0!" in pair.world.log


def _grant(pair: Pair, vectors: tuple[int, int] = (72, 73)) -> None:
    page = pair.channel.page
    assert page.msix_entries(2) == ((0xFFFF, 0), (0xFFFF, 1)), "1.7: -1 in 16 bits"
    page.write_result(0, 0)
    page.write_msix(((vectors[0], 0), (vectors[1], 1)))
    page.clear_bit(0)
    pair.channel.notify()
