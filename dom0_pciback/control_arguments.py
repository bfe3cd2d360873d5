"""The arguments of dom0's control verbs, checked at the border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from kernel_stub.faulty_link import Direction, Does

_Text = Annotated[str, Field(strict=True)]
_Word = Annotated[int, Field(strict=True, ge=0, le=0xFFFFFFFF)]
_Header = tuple[_Word, _Word, _Word, _Word]
_Errors = Annotated[tuple[tuple[_Text, _Word, _Word, _Header], ...], Field(min_length=1, max_length=256)]
_Ms = Annotated[float, Field(ge=0, le=3_600_000)]
_Id = Annotated[int, Field(strict=True, ge=0, le=0xFFFF)]
_Plain = tuple[_Text, _Word, _Word]
_WithHeader = tuple[_Text, _Word, _Word, _Header]
_Count = Annotated[int, Field(strict=True, ge=1, le=100_000)]
STORM_MAX = 10_000  # errors of one storm
ARGUMENTS: dict[str, TypeAdapter[tuple[Any, ...]]] = {
    "inject": TypeAdapter(_Plain | _WithHeader),  # function, correctable and uncorrectable bits, TLP header
    "inject-repeat": TypeAdapter(tuple[_Text, _Word, _Word, _Word]),
    "touch": TypeAdapter(tuple[_Text]),
    "aer-inject": TypeAdapter(tuple[_Text, _Text] | tuple[_Text, _Text, bool]),  # contents, file name, software
    "dpc-trigger": TypeAdapter(tuple[_Text]),
    "rp-pio": TypeAdapter(tuple[_Text, _Word] | tuple[_Text, _Word, _Header]),
    "ghes": TypeAdapter(tuple[_Text] | tuple[_Text, Literal["recoverable", "fatal", "corrected", "informational"]]),
    "stats": TypeAdapter(tuple[_Text]),
    "functions": TypeAdapter(tuple[()]),
    "config": TypeAdapter(tuple[_Text]),
    "channel-stats": TypeAdapter(tuple[_Word]),  # domain
    "refusals": TypeAdapter(tuple[()]),
    "inject-all": TypeAdapter(tuple[_Errors] | tuple[_Errors, bool]),  # (function, bits, bits, header), ...; masked
    "storm": TypeAdapter(
        tuple[_Errors, Annotated[bytes, Field(min_length=1, max_length=STORM_MAX)], Annotated[int, Field(ge=0)]]
    ),  # which errors there are, which one comes when, ns between two
    "gone": TypeAdapter(tuple[_Text, Literal["dead", "link-down", "removed"]]),
    "back": TypeAdapter(tuple[_Text]),
    "reset-fault": TypeAdapter(
        tuple[_Text, Literal["slow", "fails", "other-device", "none"], _Word, tuple[_Id, _Id]]
    ),  # function, how, ms until it is ready, vendor and device of the other one
    "hotplug": TypeAdapter(tuple[_Text, Literal["eject", "insert"]]),
    "channel-fault": TypeAdapter(
        tuple[_Text, Literal["channel"], Does, Direction, _Ms, _Count]
        | tuple[_Text, Literal["devbus"], Literal["delay", "drop", "duplicate", "reorder"], Direction, _Ms, _Count]
    ),  # guest, which link, what happens, direction at dom0's end, ms, messages
    "sysfs": TypeAdapter(tuple[_Word]),  # number of the first file wanted
    "sysfs-read": TypeAdapter(tuple[_Text]),
    "sysfs-write": TypeAdapter(tuple[_Text, _Text]),  # path, what is written
    "sysfs-mount": TypeAdapter(tuple[_Text]),  # directory of dom0's file system
}


def check_arguments(verb: str, args: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments of a control verb. Raises ValueError that says which one is wrong, and why."""
    try:
        return ARGUMENTS[verb].validate_python(tuple(args))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{verb}: argument {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
