"""How the kernel reads what is written to a sysfs file: ``kstrtoint``, ``kstrtoul``, ``sysfs_streq``."""

from __future__ import annotations

import re
from errno import EINVAL, ERANGE

INT = (-(1 << 31), (1 << 31) - 1)
ULONG = (0, (1 << 64) - 1)
# _parse_integer_fixup_radix: 0x before a hexadecimal digit, else 0 is octal; a "+" never follows a "-"
_NUMBER = re.compile(rb"(?P<sign>[-+]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<octal>0[0-7]*)|(?P<decimal>[1-9][0-9]*))\n?")


class StoreError(Exception):
    """A write to a sysfs file is refused; ``errno`` is positive, as in ``errno.EINVAL``."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


def kstrto(data: bytes, limits: tuple[int, int]) -> int:
    """A whole number, base by prefix, at most one newline behind it. Raises StoreError (EINVAL, ERANGE)."""
    match = _NUMBER.fullmatch(data.partition(b"\0")[0])
    if match is None or (match["sign"] == b"-" and limits[0] >= 0):
        raise StoreError(EINVAL)
    if match["hex"]:
        value = int(match["hex"], 16)
    else:
        value = int(match["octal"], 8) if match["octal"] else int(match["decimal"])
    value = -value if match["sign"] == b"-" else value
    if not limits[0] <= value <= limits[1]:
        raise StoreError(ERANGE)
    return value


def kstrtoint(data: bytes) -> int:
    """A C ``int``; what does not fit is EINVAL too, as the callers here see to (6.4)."""
    try:
        return kstrto(data, INT)
    except StoreError:
        raise StoreError(EINVAL) from None


def kstrtoul(data: bytes) -> int:
    """An ``unsigned long``; the same for what does not fit."""
    try:
        return kstrto(data, ULONG)
    except StoreError:
        raise StoreError(EINVAL) from None


def word(data: bytes) -> str:
    """The text that ``sysfs_streq`` compares: without one newline at its end."""
    return data.partition(b"\0")[0].decode("latin-1").removesuffix("\n")
