"""A journal that survives the death of its writer: records packed into a memory-mapped file.

Chunks of ``u32 length, msgpack array of records``; the length is stored last, a length of 0 ends the file.
What has been flushed is in the page cache: SIGKILL does not lose it, and readers may read while it grows.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgpack

from protocol.ports import Record

GROW = 1 << 20  # the file grows by this many bytes
SIZE_MAX = 1 << 30
CHUNK_MAX = 1 << 26
CONSOLE_LEVEL = 6


class JournalFile:
    """``protocol.ports.Journal`` on a file; created anew.

    Records wait in memory for ``flush``, which a main loop calls when it is idle and now and then while it is
    not; with ``safe`` each one is in the file at once.
    """

    def __init__(self, path: Path, *, safe: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.ftruncate(self._fd, GROW)
        self._map = mmap.mmap(self._fd, GROW)
        self._end = 0
        self.lost = 0  # chunks for which there was no room: a guest can make the host's journal long, not end the host
        self._records: list[Record] = []
        self.append: Callable[[Record], None] = self._append_safely if safe else self._records.append
        self._pack = msgpack.Packer(use_bin_type=True, default=str, autoreset=True).pack

    @property
    def size(self) -> int:
        """A number that grows with every record."""
        return self._end + len(self._records)

    def _append_safely(self, record: Record) -> None:
        self._store(self._pack((record,)))

    def flush(self) -> None:
        """See ``protocol.ports.Journal``."""
        if not self._records:
            return
        self._store(self._pack(self._records))
        self._records.clear()

    def _store(self, chunk: bytes) -> None:
        """Add a chunk; it counts from the moment its length is there."""
        begin, end = self._end + 4, self._end + 4 + len(chunk)
        if end + 4 > len(self._map) and not self._grow(end + 4):
            self.lost += 1
            return
        self._map[begin:end] = chunk
        self._map[self._end : begin] = len(chunk).to_bytes(4, "little")
        self._end = end

    def _grow(self, needed: int) -> bool:
        size = (needed // GROW + 1) * GROW
        if size > SIZE_MAX:
            return False
        os.ftruncate(self._fd, size)
        self._map.resize(size)
        return True


class ConsoleJournal:
    """A journal that also shows the party's log on standard output, as a console does (printk level 6 and below)."""

    def __init__(self, journal: JournalFile, name: str) -> None:
        self._journal = journal
        self._name = name
        self.flush = journal.flush

    def append(self, record: Record) -> None:
        """See ``protocol.ports.Journal``."""
        self._journal.append(record)
        if record[2] == "printk" and record[4] <= CONSOLE_LEVEL:
            sys.stdout.write(f"{self._name} [{record[0] / 1e9:12.6f}] {record[5]}\n")
            sys.stdout.flush()


def read_journal(path: Path, offset: int = 0) -> tuple[list[Record], int]:
    """All records from ``offset`` on, and the offset to go on from. A missing file has no records.

    The file may be a guest's, who writes there what it likes: what is no record is left out.
    """
    records: list[Record] = []
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return records, offset
    with file:
        file.seek(offset)  # only what is written is read, not the whole of the mapped file
        while 0 < (length := int.from_bytes(file.read(4), "little")) <= CHUNK_MAX:
            data = file.read(length)
            if len(data) < length:
                break
            records.extend(_records(data))
            offset += 4 + length
    return records, offset


def _records(data: bytes) -> list[Record]:
    """The records of one chunk."""
    try:
        found = msgpack.unpackb(data, use_list=False)
    except (ValueError, msgpack.exceptions.UnpackException):
        return []
    return [record for record in found if isinstance(record, tuple)] if isinstance(found, tuple) else []
