"""What is in a request's payload, read as the real daemon reads it. All raise XenStoreError EINVAL."""

from __future__ import annotations

import re

from hypervisor_stub.xenstore.errors import XenStoreError

_NUMBER = re.compile(r"[ \t-\r]*([+-]?[0-9]+)")


def strings(payload: bytes) -> list[str]:
    """All NUL-terminated strings; what comes after the last NUL is ignored."""
    return payload.decode("latin-1").split("\0")[:-1]


def exactly(payload: bytes, *counts: int) -> list[str]:
    """The strings, of which there must be one of ``counts``."""
    found = strings(payload)
    if len(found) not in counts:
        raise XenStoreError("EINVAL", f"{len(found)} strings")
    return found


def only(payload: bytes) -> str:
    """The one string that fills the payload to its last byte."""
    if not payload.endswith(b"\0"):
        raise XenStoreError("EINVAL", "no string")
    return exactly(payload, 1)[0]


def path_and_value(payload: bytes) -> tuple[str, bytes]:
    """A path, and the bytes behind its NUL."""
    path, nul, value = payload.partition(b"\0")
    if not nul:
        raise XenStoreError("EINVAL", "no path")
    return path.decode("latin-1"), value


def number(string: str) -> int:
    """C's ``atoi`` as an unsigned word: the digits that a text begins with, 0 if there are none."""
    match = _NUMBER.match(string)
    return int(match[1][:11]) & 0xFFFFFFFF if match else 0


def depth(words: list[str]) -> int | None:
    """The third string of WATCH, None if there is none."""
    if len(words) < 3:
        return None
    if not words[2].isdecimal() or len(words[2]) > 5:
        raise XenStoreError("EINVAL", f"depth {words[2][:20]!r}")
    return int(words[2])
