"""Device models by themselves: registers, hostile rings, abandoned work."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dom0_pciback.pcie.devices import MODELS, make_model
from kernel_stub.kernel import Kernel
from protocol import block, nic
from protocol.device_regs import ALL_ONES, BAR_SIZE, Cause, Control, Reg, RingReg, Status

BASE = 0x1000


class Clock:
    def __init__(self) -> None:
        self.time = 0

    def now(self) -> int:
        return self.time


class Journal:
    def append(self, record: tuple[Any, ...]) -> None: ...

    def flush(self) -> None: ...


class Bus:
    """64 KiB of memory at BASE that answers at once."""

    def __init__(self) -> None:
        self.memory = bytearray(0x10000)
        self.interrupts: list[int] = []
        self.writes = 0

    async def read(self, address: int, length: int) -> bytes | None:
        offset = address - BASE
        return bytes(self.memory[offset : offset + length]) if 0 <= offset <= len(self.memory) - length else None

    def write(self, address: int, data: bytes) -> bool:
        offset = address - BASE
        if not 0 <= offset <= len(self.memory) - len(data):
            return False
        self.memory[offset : offset + len(data)] = data
        self.writes += 1
        return True

    def msi(self, vector: int) -> None:
        self.interrupts.append(vector)


def device(name: str, **options: Any) -> tuple[Any, Bus, Kernel]:
    kernel, bus = Kernel("dom0", Clock(), Journal()), Bus()
    return make_model(name, kernel, bus, **options), bus, kernel


def program(model: Any, at: int, base: int = BASE, size: int = 8) -> None:
    for reg, value in ((RingReg.BASE_LO, base & ALL_ONES), (RingReg.BASE_HI, base >> 32), (RingReg.SIZE, size)):
        model.mmio_write(0, at + reg, 4, value)
    model.mmio_write(0, Reg.MASK, 4, 0xF)
    model.mmio_write(0, Reg.CONTROL, 4, Control.ENABLE)


@pytest.mark.parametrize("name", MODELS)
def test_identity_by_any_size_and_all_ones_outside(name: str) -> None:
    model, _, _ = device(name)
    value = model.mmio_read(0, 0, 4)
    assert value not in (0, ALL_ONES)
    assert model.mmio_read(0, 0, 2) == value & 0xFFFF
    assert model.mmio_read(0, 3, 1) == value >> 24
    assert model.mmio_read(0, 0, 8) & ALL_ONES == value
    for offset, size in ((BAR_SIZE, 4), (2, 4), (0, 3), (-4, 4), (BAR_SIZE - 4, 8)):
        assert model.mmio_read(0, offset, size) == (1 << 8 * size) - 1
        model.mmio_write(0, offset, size, 0)
    model.mmio_write(0, 0, 4, 0)
    assert model.mmio_read(0, 0, 4) == value


@pytest.mark.parametrize(("name", "layout"), [("nic", nic.LAYOUT), ("block", block.LAYOUT)])
def test_registers_keep_what_their_layout_allows_until_a_reset(name: str, layout: dict[int, tuple[int, int]]) -> None:
    model, _, _ = device(name)
    before = {offset: model.mmio_read(0, offset, 4) for offset in layout}
    assert before == {offset: value for offset, (value, _) in layout.items()}
    for offset, (value, writable) in layout.items():
        if offset != Reg.CONTROL:
            model.mmio_write(0, offset, 4, ALL_ONES)
            assert model.mmio_read(0, offset, 4) == value | writable
    model.mmio_write(0, Reg.CONTROL, 4, Control.RESET)
    assert {offset: model.mmio_read(0, offset, 4) for offset in layout} == before


def test_plain_keeps_scratch_until_a_reset() -> None:
    model, _, _ = device("plain")
    model.mmio_write(0, 8, 4, 77)
    assert model.mmio_read(0, 8, 4) == 77
    model.reset()
    assert model.mmio_read(0, 8, 4) == 0
    assert model.mmio_read(4, 4, 4) == 0x30BF8024


def test_unknown_models_and_options_are_named() -> None:
    with pytest.raises(ValueError, match="allowed: block, nic, plain"):
        device("nick")
    with pytest.raises(ValueError, match="allowed: wire_ns"):
        device("nic", speed=3)


@pytest.mark.parametrize(("name", "at"), [("nic", nic.TX_RING), ("block", block.QUEUE)])
@pytest.mark.parametrize(("size", "tail"), [(1, 0), (8, 8), (8, ALL_ONES), (257, 3), (ALL_ONES, 3)])
def test_a_ring_that_makes_no_sense_halts_the_device(name: str, at: int, size: int, tail: int) -> None:
    model, bus, kernel = device(name)
    program(model, at, size=size)
    model.mmio_write(0, at + RingReg.TAIL, 4, tail)
    kernel.run()
    assert model.mmio_read(0, Reg.STATUS, 4) & Status.HALTED
    assert model.mmio_read(0, Reg.CAUSE, 4) == Cause.BAD_RING
    assert bus.interrupts == [0]
    model.mmio_write(0, Reg.CAUSE, 4, Cause.BAD_RING)
    assert model.mmio_read(0, Reg.CAUSE, 4) == 0


@pytest.mark.parametrize(("name", "at"), [("nic", nic.TX_RING), ("block", block.QUEUE)])
@pytest.mark.parametrize("base", [0, 1 << 40, (1 << 64) - 16])
def test_a_ring_outside_of_memory_halts_the_device(name: str, at: int, base: int) -> None:
    model, bus, kernel = device(name)
    program(model, at, base=base)
    model.mmio_write(0, at + RingReg.TAIL, 4, 3)
    kernel.run()
    assert model.mmio_read(0, Reg.CAUSE, 4) == Cause.DMA_ERROR
    assert bus.writes == 0
    model.mmio_write(0, at + RingReg.TAIL, 4, 4)
    kernel.run()
    assert bus.interrupts == [0]  # a halted device does nothing more


def test_a_disabled_device_does_nothing() -> None:
    model, bus, kernel = device("block")
    program(model, block.QUEUE)
    model.mmio_write(0, Reg.CONTROL, 4, 0)
    model.mmio_write(0, block.QUEUE + RingReg.TAIL, 4, 2)
    kernel.run()
    assert bus.writes == 0


def command(op: int, lba: int = 0, sectors: int = 1, address: int = BASE + 0x800, tag: int = 9) -> bytes:
    return block.COMMAND.pack(op, 0, sectors, lba, address, 0, tag)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (command(block.Op.READ), block.Result.OK),
        (command(block.Op.READ, lba=2047), block.Result.OK),
        (command(block.Op.READ, lba=2048), block.Result.BAD_RANGE),
        (command(block.Op.WRITE, lba=2040, sectors=9), block.Result.BAD_RANGE),
        (command(block.Op.WRITE, lba=(1 << 64) - 1), block.Result.BAD_RANGE),
        (command(block.Op.READ, sectors=0), block.Result.BAD_RANGE),
        (command(block.Op.READ, sectors=129), block.Result.BAD_RANGE),
        (command(0), block.Result.BAD_COMMAND),
        (command(999), block.Result.BAD_COMMAND),
        (command(block.Op.FLUSH, lba=1 << 63, sectors=0), block.Result.OK),
    ],
)
def test_block_commands_are_checked(data: bytes, status: int) -> None:
    model, bus, kernel = device("block")
    bus.memory[: len(data)] = data
    program(model, block.QUEUE)
    model.mmio_write(0, block.QUEUE + RingReg.TAIL, 4, 1)
    kernel.run()
    assert block.COMPLETION.unpack_from(bus.memory, block.COMPLETION_OFFSET) == (status, 9)
    assert bus.interrupts == [0]


@pytest.mark.parametrize(
    ("name", "at", "option"), [("nic", nic.TX_RING, "wire_ns"), ("block", block.QUEUE, "access_ns")]
)
def test_work_from_before_a_reset_does_not_use_the_ring_of_after(name: str, at: int, option: str) -> None:
    clock, bus = Clock(), Bus()
    kernel = Kernel("dom0", clock, Journal())
    options: dict[str, Any] = {option: 1000}
    model: Any = make_model(name, kernel, bus, **options)
    bus.memory[:32] = (
        command(block.Op.READ) if name == "block" else nic.DESCRIPTOR.pack(BASE + 0x100, 64, 1, 0) + bytes(16)
    )
    program(model, at)
    model.mmio_write(0, at + RingReg.TAIL, 4, 1)
    kernel.run()
    model.reset()
    program(model, at)
    clock.time = 5000
    kernel.run()
    assert bus.writes == 0
    assert not model.mmio_read(0, Reg.STATUS, 4) & Status.HALTED
    model.mmio_write(0, at + RingReg.TAIL, 4, 1)
    kernel.run()
    clock.time = 9000
    kernel.run()
    assert model.mmio_read(0, at + RingReg.HEAD, 4) == 1


def test_large_transfers_move_everything() -> None:
    model, bus, kernel = device("block")
    content = bytes(range(250)) * 100
    content = content[: 45 * block.SECTOR_SIZE]  # five bursts of eight sectors, and five sectors
    bus.memory[0x1000 : 0x1000 + len(content)] = content
    write = command(block.Op.WRITE, 5, 45, BASE + 0x1000)
    bus.memory[:64] = write + command(block.Op.READ, 5, 45, BASE + 0x8000)
    program(model, block.QUEUE)
    model.mmio_write(0, block.QUEUE + RingReg.TAIL, 4, 2)
    kernel.run()
    assert bus.memory[0x8000 : 0x8000 + len(content)] == content
    assert model.mmio_read(0, block.BlockReg.WRITES, 4) == model.mmio_read(0, block.BlockReg.READS, 4) == 1


def test_a_frame_without_a_receive_buffer_is_dropped_and_counted() -> None:
    model, bus, kernel = device("nic")
    frame = nic.Frame(nic.PEER_MAC, nic.MAC, 1, b"data").encode()
    bus.memory[0x100 : 0x100 + len(frame)] = frame
    bus.memory[:16] = nic.DESCRIPTOR.pack(BASE + 0x100, len(frame), 1, 0)
    program(model, nic.TX_RING)
    model.mmio_write(0, nic.TX_RING + RingReg.TAIL, 4, 1)
    kernel.run()
    assert model.mmio_read(0, nic.NicReg.DROPPED, 4) == 1
    assert model.mmio_read(0, Reg.CAUSE, 4) == Cause.OVERRUN | Cause.DONE
    assert bus.memory[14:16] == nic.DONE


@pytest.mark.parametrize("length", [0, 1, 20, nic.MAX_FRAME, nic.MAX_FRAME + 1, ALL_ONES])
def test_frames_of_any_length_are_survived(length: int) -> None:
    model, bus, kernel = device("nic")
    bus.memory[:16] = nic.DESCRIPTOR.pack(BASE + 0x100, length, 1, 0)
    program(model, nic.TX_RING)
    model.mmio_write(0, nic.TX_RING + RingReg.TAIL, 4, 1)
    kernel.run()
    assert model.mmio_read(0, nic.NicReg.DROPPED, 4) == 1
    assert not model.mmio_read(0, Reg.STATUS, 4) & Status.HALTED


def test_the_peer_swaps_counts_and_signs() -> None:
    frame = nic.Frame(nic.PEER_MAC, nic.MAC, 0xFFFFFFFF, b"payload")
    assert nic.decode(nic.echo(frame.encode()) or b"") == nic.Frame(nic.MAC, nic.PEER_MAC, 0, b"payload")


@given(st.binary(max_size=80), st.integers(0, 40), st.integers(1, 255))
def test_a_damaged_frame_gets_no_answer(payload: bytes, where: int, flip: int) -> None:
    data = bytearray(nic.Frame(nic.PEER_MAC, nic.MAC, 5, payload).encode())
    data[where % len(data)] ^= flip
    assert nic.echo(bytes(data)) is None
    assert nic.echo(bytes(data[:-1])) is None


WRITES = st.lists(
    st.tuples(
        st.sampled_from([*Reg, *(at + r for at in (0x40, 0x60) for r in RingReg)]),
        st.one_of(st.integers(0, 9), st.sampled_from([BASE, ALL_ONES]), st.integers(0, ALL_ONES)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["nic", "block"]), st.binary(max_size=256), WRITES)
def test_no_guest_can_crash_a_model(name: str, content: bytes, writes: list[tuple[int, int]]) -> None:
    model, bus, kernel = device(name)
    bus.memory[: len(content)] = content
    program(model, 0x60)
    program(model, 0x40)
    for offset, value in writes:
        model.mmio_write(0, offset, 4, value)
        kernel.run()
    model.mmio_write(0, Reg.CONTROL, 4, Control.RESET)
    assert model.mmio_read(0, Reg.STATUS, 4) == Status.LINK_UP
