"""The arguments of dom0's control verbs, checked at the border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

_Text = Annotated[str, Field(strict=True)]
_Word = Annotated[int, Field(strict=True, ge=0, le=0xFFFFFFFF)]
_Plain = tuple[_Text, _Word, _Word]
_WithHeader = tuple[_Text, _Word, _Word, tuple[_Word, _Word, _Word, _Word]]
ARGUMENTS: dict[str, TypeAdapter[tuple[Any, ...]]] = {
    "inject": TypeAdapter(_Plain | _WithHeader),  # function, correctable and uncorrectable bits, TLP header
    "inject-repeat": TypeAdapter(tuple[_Text, _Word, _Word, _Word]),
    "touch": TypeAdapter(tuple[_Text]),
    "aer-inject": TypeAdapter(tuple[_Text, _Text] | tuple[_Text, _Text, bool]),  # contents, file name, software
    "dpc-trigger": TypeAdapter(tuple[_Text]),
    "rp-pio": TypeAdapter(tuple[_Text, _Word] | tuple[_Text, _Word, tuple[_Word, _Word, _Word, _Word]]),
    "ghes": TypeAdapter(tuple[_Text] | tuple[_Text, Literal["recoverable", "fatal", "corrected", "informational"]]),
    "stats": TypeAdapter(tuple[_Text]),
    "functions": TypeAdapter(tuple[()]),
    "config": TypeAdapter(tuple[_Text]),
    "channel-stats": TypeAdapter(tuple[_Word]),  # domain
    "refusals": TypeAdapter(tuple[()]),
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
