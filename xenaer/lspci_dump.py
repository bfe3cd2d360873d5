"""Dumps of ``lspci -x``, ``-xxx``, ``-xxxx``, with or without ``-v``: text in, bytes of each function out.

The form is what ``lspci -F`` reads (pciutils, ``lib/dump.c``): a line that begins with an address, then rows of
16 bytes; other lines are descriptions and are passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from protocol.ids import Sbdf
from protocol.layout_header import CONFIG_SIZE
from xenaer.yaml_lines import InputError

ROW = 16
HEADER_BYTES, CONVENTIONAL_BYTES = 64, 256  # what "lspci -x" shows, and what a user without privileges sees at most
HOW = "make the dump with: sudo lspci -xxxx"

_ADDRESS = re.compile(r"(?:([0-9a-fA-F]{4,8}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-9a-fA-F])(?:\s+(.*))?")
_HEX_LINE = re.compile(r"([0-9a-fA-F]{2,8}):((?:\s+[0-9a-fA-F]{2})*)\s*")
_LIKE_HEX = re.compile(r"[0-9a-fA-F]{2,8}:\s")


class DumpError(InputError):
    """A dump is wrong; ``problems`` has one ``file:line: BDF: text`` for each mistake."""


@dataclass(slots=True)
class Dumped:
    """One function of a dump: its address, the line where it begins, its description and its bytes."""

    address: Sbdf
    line: int
    title: str
    data: bytearray = field(default_factory=bytearray)
    rows: list[int] = field(default_factory=list)  # line of each row

    @property
    def bdf(self) -> str:
        """Its address as text."""
        return str(self.address)

    def line_of(self, offset: int) -> int:
        """The line that shows the byte at ``offset``."""
        return self.rows[offset // ROW] if offset // ROW < len(self.rows) else self.line


def parse_dump(text: str, filename: str) -> list[Dumped]:
    """The functions of a dump in the order of their addresses. Raises DumpError with everything that is wrong."""
    reader = _Reader(filename)
    for number, line in enumerate(text.splitlines(), 1):
        reader.take(number, line.rstrip())
    found = reader.finish()
    if reader.problems:
        raise DumpError(reader.problems)
    if not found:
        raise DumpError([f"{filename}: no function with a configuration space in it; {HOW}"])
    return sorted(found, key=lambda dumped: dumped.address)


class _Reader:
    """Takes line after line; collects ``problems`` and goes on."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.problems: list[str] = []
        self.all: list[Dumped] = []
        self.current: Dumped | None = None

    def problem(self, line: int, text: str, dumped: Dumped | None) -> None:
        bdf = f"{dumped.bdf}: " if dumped is not None else ""
        self.problems.append(f"{self.filename}:{line}: {bdf}{text}")

    def take(self, number: int, line: str) -> None:
        """One line, without its end."""
        if not line:
            self.current = None
        elif (match := _ADDRESS.fullmatch(line)) is not None:
            self._begin(number, match)
        elif (match := _HEX_LINE.fullmatch(line)) is not None:
            self._row(number, match)
        elif self.current is not None and _LIKE_HEX.match(line):
            self.problem(number, f"not a row of bytes: {line[:60]!r}; allowed: an offset and {ROW} bytes", self.current)

    def _begin(self, number: int, match: re.Match[str]) -> None:
        segment, bus, device, function = (int(part or "0", 16) for part in match.groups()[:4])
        if device > 0x1F or function > 7:
            text = f"{match[2]}:{match[3]}.{match[4]}: allowed: device 00 to 1f, function 0 to 7"
            self.problem(number, text, None)
        self.current = Dumped(Sbdf(segment, bus, device & 0x1F, function & 7), number, match[5] or "")
        self.all.append(self.current)

    def _row(self, number: int, match: re.Match[str]) -> None:
        if self.current is None:
            self.problem(number, f"a row of bytes ({match[1]}:) without the address of a function above it", None)
            return
        offset, row, data = int(match[1], 16), bytes.fromhex(match[2]), self.current.data
        text = _wrong_row(offset, len(row), len(data))
        if text:
            self.problem(number, text, self.current)
        if len(data) <= offset < CONFIG_SIZE:  # rows that are missing are told once
            data.extend(bytes(offset // ROW * ROW - len(data)) + row[:ROW].ljust(ROW, b"\0"))
            self.current.rows.extend([number] * (len(data) // ROW - len(self.current.rows)))

    def finish(self) -> list[Dumped]:
        """The functions that have bytes; one that is only described must have its bytes elsewhere."""
        shown: dict[Sbdf, Dumped] = {}
        for dumped in (dumped for dumped in self.all if dumped.data):
            first = shown.setdefault(dumped.address, dumped)
            if first is not dumped:
                self.problem(dumped.line, f"two functions at one address, the first in line {first.line}", dumped)
        for dumped in self.all:
            if not dumped.data and dumped.address not in shown:
                self.problem(dumped.line, f"no configuration space is shown; {HOW}", dumped)
        for dumped in shown.values():
            self._check_size(dumped)
        return list(shown.values())

    def _check_size(self, dumped: Dumped) -> None:
        """Rows may be missing at the end, but not in the part where the capabilities are that matter."""
        size = len(dumped.data)
        if size < CONVENTIONAL_BYTES and dumped.data[:HEADER_BYTES].count(0xFF) != min(size, HEADER_BYTES):
            what = "only the header" if size == HEADER_BYTES else f"only {size} bytes"
            self.problem(dumped.line, f"the dump has {what}, without capabilities; {HOW}", dumped)


def _wrong_row(offset: int, length: int, expected: int) -> str:
    """What is wrong with a row at ``offset`` where the one at ``expected`` is due; nothing if all is well."""
    if offset + length > CONFIG_SIZE:
        return f"row {offset:02x} is beyond the {CONFIG_SIZE} bytes of a configuration space"
    if offset < expected:
        return f"row {offset:02x} again or out of order; expected: row {expected:02x}"
    if offset > expected:
        return f"rows {expected:02x} to {offset - 1:02x} are missing before row {offset:02x}"
    return f"row {offset:02x} has {length} bytes; allowed: {ROW}" if length != ROW else ""
