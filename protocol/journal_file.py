"""A journal that survives the death of its writer: records packed into a memory-mapped file.

Chunks of ``u32 length, msgpack array of records``; the length is stored last, a length of 0 ends the file.
What has been flushed is in the page cache: SIGKILL does not lose it, and readers may read while it grows.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import msgpack

from protocol.ports import Record

GROW = 1 << 20  # the file grows by this many bytes
BATCH = 256  # records kept in memory at most
SIZE_MAX = 1 << 30


class JournalFile:
    """``protocol.ports.Journal`` on a file; created anew."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.ftruncate(self._fd, GROW)
        self._map = mmap.mmap(self._fd, GROW)
        self._end = 0
        self._records: list[Record] = []
        self._pack = msgpack.Packer(use_bin_type=True, default=str, autoreset=True).pack

    def append(self, record: Record) -> None:
        """See ``protocol.ports.Journal``."""
        self._records.append(record)
        if len(self._records) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """See ``protocol.ports.Journal``."""
        if not self._records:
            return
        records, self._records = self._records, []
        chunk = self._pack(records)
        begin, end = self._end + 4, self._end + 4 + len(chunk)
        if end + 4 > len(self._map):
            self._grow(end + 4)
        self._map[begin:end] = chunk
        self._map[self._end : begin] = len(chunk).to_bytes(4, "little")
        self._end = end

    def _grow(self, needed: int) -> None:
        size = (needed // GROW + 1) * GROW
        if size > SIZE_MAX:
            raise OSError(f"journal is full ({SIZE_MAX} bytes)")
        os.ftruncate(self._fd, size)
        self._map.resize(size)


def read_journal(path: Path, offset: int = 0) -> tuple[list[Record], int]:
    """All records from ``offset`` on, and the offset to go on from. A missing file has no records."""
    try:
        data = path.read_bytes() if offset == 0 else _read_from(path, offset)
    except FileNotFoundError:
        return [], offset
    records: list[Record] = []
    at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        if length == 0 or at + 4 + length > len(data):
            break
        chunk: list[Any] = msgpack.unpackb(data[at + 4 : at + 4 + length], use_list=False)
        records.extend(chunk)
        at += 4 + length
    return records, offset + at


def _read_from(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read()
