"""The border: bytes to checked messages and back.

msgpack arrays, the operation first, checked by one compiled strict adapter per operation; a message that
passes is a tuple of valid values, one that does not raises ProtocolError, and its connection is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgpack
from msgpack import unpackb
from pydantic import Field, TypeAdapter, ValidationError

from protocol.messages import U32
from protocol.ports import Message
from protocol.sharedinfo import PAGE_SIZE

Serial = Annotated[int, Field(ge=0, le=2**53)]
MESSAGE_MAX = 1 << 22  # bytes; transports refuse longer ones, so that nothing inside can be longer either


class ProtocolError(Exception):
    """The peer said something that is not in the vocabulary."""


_packer = msgpack.Packer(use_bin_type=True)
encode: Callable[[Message], bytes] = _packer.pack
"""Pack a message that our own code built (its types are checked statically, not again here)."""


_NOT_MSGPACK = (ValueError, msgpack.exceptions.UnpackException)


def _unpack(raw: bytes) -> Any:
    try:
        return unpackb(raw, use_list=False)
    except _NOT_MSGPACK as error:
        raise ProtocolError(f"not a message: {error}") from None


class Decoder:
    """Decodes requests, events and answers of a connection whose vocabulary is ``table``."""

    def __init__(self, *tables: dict[str, tuple[Any, ...]]) -> None:
        self._shapes: dict[str, tuple[Any, ...]] = {"ok": (Any,), "error": (str,)}
        for table in tables:
            self._shapes.update(table)
        self._adapters: dict[str, TypeAdapter[tuple[Any, ...]]] = {}

    def compiled(self) -> Decoder:
        """Itself, with every check made now instead of when it is first needed: processes forked later share them."""
        for op in self._shapes:
            self._compile(op)
        return self

    def decode(self, raw: bytes) -> Message:
        """Bytes to ``(op, serial, argument, ...)``. Raises ProtocolError."""
        message = _unpack(raw)
        if type(message) is not tuple or not message or type(message[0]) is not str:
            raise ProtocolError("a message is an array that begins with an operation")
        adapter = self._adapters.get(message[0]) or self._compile(message[0])
        try:
            return adapter.validate_python(message)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ProtocolError(f"{message[0]}: argument {first['loc']}: {first['msg']}") from None

    def _compile(self, op: str) -> TypeAdapter[tuple[Any, ...]]:
        if op not in self._shapes:
            raise ProtocolError(f"unknown operation {op!r}")
        shape: Any = tuple.__class_getitem__((str, Serial, *self._shapes[op]))
        adapter: TypeAdapter[tuple[Any, ...]] = TypeAdapter(shape, config={"strict": True})
        self._adapters[op] = adapter
        return adapter


_CODE = Annotated[int, Field(ge=0, le=2)]
_OFFSET = Annotated[int, Field(ge=0, lt=PAGE_SIZE)]
_PAGE_OP = tuple[_CODE, _OFFSET, Annotated[bytes, Field(max_length=PAGE_SIZE)]]
_CHANNEL: TypeAdapter[tuple[Any, ...]] = TypeAdapter(
    tuple[U32, U32, bool, Annotated[tuple[_PAGE_OP, ...], Field(max_length=8192)]], config={"strict": True}
)
_check_channel = _CHANNEL.validator.validate_python


def decode_channel(raw: bytes) -> Message:
    """Bytes of the split-driver channel to ``(sequence, acknowledged, doorbell, operations)``."""
    try:
        message: Message = _check_channel(unpackb(raw, use_list=False))
    except ValidationError as error:
        raise ProtocolError(f"channel: {error.errors(include_url=False)[0]['msg']}") from None
    except _NOT_MSGPACK as error:
        raise ProtocolError(f"not a message: {error}") from None
    return message
