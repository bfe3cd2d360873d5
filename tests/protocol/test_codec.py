"""protocol.codec: every message of every table passes, and nothing that is wrong does (X48)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import msgpack
import pytest
from annotated_types import Ge, Le, MaxLen
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import messages
from protocol.codec import Decoder, ProtocolError, decode_channel, encode
from protocol.sharedinfo import PAGE_SIZE

TABLES: dict[str, dict[str, tuple[Any, ...]]] = {
    name: getattr(messages, name)
    for name in ("TO_HYPERVISOR", "TO_DOM0", "TO_DOMU", "TO_SUPERVISOR", "TO_CONTROL", "DEVBUS")
}
DECODERS = {name: Decoder(table).decode for name, table in TABLES.items()}
DECODERS["channel"] = decode_channel
ALL = [(name, op) for name, table in TABLES.items() for op in table]
ARGUMENTS = [(name, op, place) for name, op in ALL for place in range(len(TABLES[name][op]))]


def limits(shape: Any) -> dict[type, int]:
    """Bounds of an annotated type: Ge, Le, MaxLen."""
    found: dict[type, int] = {}
    for field in get_args(shape)[1:]:
        for item in field.metadata:
            kind = type(item)
            found[kind] = item.ge if kind is Ge else item.le if kind is Le else item.max_length
    return found


def good(shape: Any) -> list[Any]:
    """Values that a shape must accept: the smallest and the largest."""
    if get_origin(shape) is Annotated:
        bounds, base = limits(shape), get_args(shape)[0]
        if base is int:
            return [bounds[Ge], bounds[Le]]
        unit = "x" if base is str else b"x"
        return [unit * 0, unit * bounds[MaxLen]]
    if get_origin(shape) is tuple:
        return [(), tuple(good(get_args(shape)[0]) * 3)]
    plain: dict[Any, list[Any]] = {int: [-5, 0, 7], bool: [True, False], Any: [None, 1, ("a", {"b": b"c"})], str: ["t"]}
    return plain[shape]


def bad(shape: Any) -> list[Any]:
    """Values that a shape must refuse: wrong types, and one step outside each bound."""
    if get_origin(shape) is Annotated:
        bounds, base = limits(shape), get_args(shape)[0]
        if base is int:
            top = bounds[Le]
            return [-1, True, 1.0, "1", b"1", None, (1,), *([top + 1] if top < 2**64 - 1 else [])]
        unit, other = ("x", b"x") if base is str else (b"x", "x")
        return [unit * (bounds[MaxLen] + 1), other, 1, None, True]
    if get_origin(shape) is tuple:
        return ["text", 1, None, {}, *((value,) for value in bad(get_args(shape)[0]) if value is not Any)]
    plain: dict[Any, list[Any]] = {int: [True, 1.0, "1", None], bool: [0, 1, "true", None], Any: [], str: [b"t", 1]}
    return plain[shape]


def samples(shapes: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    choices = [good(shape) for shape in shapes]
    for number in range(max(map(len, choices), default=1)):
        yield tuple(values[number % len(values)] for values in choices)


@pytest.mark.parametrize(("name", "op"), ALL)
def test_every_message_passes_unchanged(name: str, op: str) -> None:
    for serial in (0, 1, 2**53):
        for arguments in samples(TABLES[name][op]):
            message = (op, serial, *arguments)
            assert DECODERS[name](encode(message)) == message


@pytest.mark.parametrize(("name", "op", "place"), ARGUMENTS)
def test_every_wrong_argument_is_refused(name: str, op: str, place: int) -> None:
    shapes = TABLES[name][op]
    right = [good(shape)[0] for shape in shapes]
    for value in bad(shapes[place]):
        wrong = [*right[:place], value, *right[place + 1 :]]
        with pytest.raises(ProtocolError, match=op):
            DECODERS[name](encode((op, 1, *wrong)))


@pytest.mark.parametrize(("name", "op"), ALL)
def test_a_message_with_an_argument_too_many_or_too_few_is_refused(name: str, op: str) -> None:
    right = [good(shape)[0] for shape in TABLES[name][op]]
    for wrong in ((op, 1, *right, 0), (op, 1, *right)[:-1]):
        with pytest.raises(ProtocolError):
            DECODERS[name](encode(wrong))


@pytest.mark.parametrize("name", TABLES)
def test_answers_are_part_of_every_vocabulary(name: str) -> None:
    decode = DECODERS[name]
    for message in (("ok", 1, None), ("ok", 2, {"a": (1, b"x")}), ("error", 3, "ENOENT")):
        assert decode(encode(message)) == message
    for wrong in (("ok", 1), ("error", 1, b"bytes"), ("error", 1, None), ("ok", 1, 2, 3)):
        with pytest.raises(ProtocolError):
            decode(encode(wrong))


@pytest.mark.parametrize("serial", [-1, 2**53 + 1, True, "1", None, 1.0])
def test_wrong_serials_are_refused(serial: Any) -> None:
    with pytest.raises(ProtocolError):
        DECODERS["TO_DOM0"](encode(("pci_slots", serial)))


@pytest.mark.parametrize("op", ["", "pci_slots ", "PCI_SLOTS", "__class__", "xs_read", "x" * 10_000])
def test_an_unknown_operation_is_refused(op: str) -> None:
    with pytest.raises(ProtocolError, match="unknown operation"):
        DECODERS["TO_DOM0"](encode((op, 1)))


@pytest.mark.parametrize("message", [(), 5, "pci_slots", None, {"pci_slots": 1}, (5, 1), (None,), (b"pci_slots", 1)])
def test_what_does_not_begin_with_an_operation_is_refused(message: Any) -> None:
    with pytest.raises(ProtocolError, match="begins with an operation"):
        DECODERS["TO_DOM0"](msgpack.packb(message))


def test_a_vocabulary_does_not_contain_that_of_another_party() -> None:
    """A guest can neither speak as the hypervisor to dom0 nor as dom0's hardware to the device bus."""
    for op in ("hw_assign", "domain_stopped", "stop"):
        with pytest.raises(ProtocolError):
            DECODERS["DEVBUS"](encode((op, 0)))
        with pytest.raises(ProtocolError):
            DECODERS["TO_HYPERVISOR"](encode((op, 0)))


CHANNEL = (5, 4, True, ((0, 4, bytes(36)), (1, 0, b""), (2, 31, b"")))


def test_a_channel_message_passes_unchanged() -> None:
    for message in (CHANNEL, (0, 0, False, ()), (1, 0, True, ((0, PAGE_SIZE - 1, b"x"),))):
        assert decode_channel(encode(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        (), (1, 2, True), (1, 2, True, (), 0), (-1, 0, True, ()), (1, 2**32 + 2**63, True, ()), (1, 0, 1, ()),
        (True, 0, True, ()), (1, 0, True, None), (1, 0, True, {}), (1, 0, True, ((3, 0, b""),)),
        (1, 0, True, ((0, PAGE_SIZE, b""),)), (1, 0, True, ((0, -1, b""),)), (1, 0, True, ((0, 0, "text"),)),
        (1, 0, True, ((0, 0, bytes(PAGE_SIZE + 1)),)), (1, 0, True, ((0, 0),)), (1, 0, True, ((0, 0, b"", 0),)),
        (1, 0, True, ((True, 0, b""),)), (1.0, 0, True, ()), (1, 0, True, ((0, 0, b""),) * 8193),
    ],
)  # fmt: skip
def test_x48_a_wrong_channel_message_is_refused(message: Any) -> None:
    with pytest.raises(ProtocolError):
        decode_channel(encode(message))


def test_x48_every_truncation_is_refused() -> None:
    for name, message in (("channel", CHANNEL), ("DEVBUS", ("dma_write", 0, 8, 2**40, b"data"))):
        raw = encode(message)
        assert DECODERS[name](raw) == message
        for end in range(len(raw)):
            with pytest.raises(ProtocolError):
                DECODERS[name](raw[:end])
        with pytest.raises(ProtocolError):
            DECODERS[name](raw + b"\xc0")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\xc1", b"\x81\x80\xc0", b"\x93\xa2ok\x01\x81\x90\xc0", b"\x93\xa2\xff\xfe\x01\xc0",
        b"\x91" * 3000 + b"\xc0", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff", b"\x93\xa2ok\x01\xc7\x0c\xff" + b"\xff" * 12,
        b"\x93\xa2ok\x01" + b"\x81\x81" * 700 + b"\xc0",
    ],
)  # fmt: skip
def test_x48_bytes_that_are_hard_to_read_raise_nothing_else(raw: bytes) -> None:
    for decode in DECODERS.values():
        try:
            decode(raw)
        except ProtocolError:
            continue


def _decode_all(raw: bytes) -> None:
    for decode in DECODERS.values():
        try:
            assert type(decode(raw)) is tuple
        except ProtocolError:
            continue


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_x48_random_bytes_raise_nothing_but_protocol_error(raw: bytes) -> None:
    _decode_all(raw)


_NUMBERS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
_VALUES = st.recursive(
    _NUMBERS | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
_OPS = st.sampled_from(["ok", "error", *sorted({op for _, op in ALL})])


@given(_OPS, _VALUES, st.lists(_VALUES, max_size=5))
@settings(max_examples=400)
def test_x48_well_packed_nonsense_raises_nothing_but_protocol_error(op: str, serial: Any, arguments: list[Any]) -> None:
    _decode_all(msgpack.packb([op, serial, *arguments]))


@given(st.integers(0, 40), st.integers(0, 255))
@settings(max_examples=300)
def test_x48_a_changed_byte_raises_nothing_but_protocol_error(place: int, byte: int) -> None:
    raw = bytearray(encode(CHANNEL))
    raw[place % len(raw)] = byte
    _decode_all(bytes(raw))


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(ProtocolError):
        DECODERS["DEVBUS"](encode(("mmio_read", 1, 0, 0, math.nan, 4)))
