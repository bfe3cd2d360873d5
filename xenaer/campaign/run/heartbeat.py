"""Which case a worker is in, and what it has finished, in memory that outlives it.

The memory is a file without a name that the worker and the pool share: a page that says which case began when,
then the results that are finished. Writing there costs about a microsecond and wakes nobody; when the worker is
killed, the pool still finds both. In a process that is no worker of a pool the functions do nothing.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass

from xenaer.campaign.run.wire import framed, unframed

PAGE = mmap.PAGESIZE
BEAT = struct.Struct("@dqq")  # begin on the monotonic clock, number, runs; native, so that each is stored at once
BEGIN = struct.Struct("@d")
CALLS = struct.Struct("@q")  # how many calls the worker has begun; after the beat
NOTHING = 0.0  # instead of a begin: no case is under way


@dataclass(frozen=True, slots=True)
class Beat:
    """The case under way: its number, when it began (seconds of the monotonic clock), how often it will be run."""

    number: int
    begin_s: float
    runs: int


class Memory:
    """The shared memory of one worker, seen from either side."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        if os.fstat(fd).st_size < PAGE:
            os.ftruncate(fd, PAGE)
        self._page = mmap.mmap(fd, PAGE)
        self._end = PAGE
        self._calls = 0

    @classmethod
    def make(cls) -> Memory:
        """New memory."""
        return cls(os.memfd_create("xenaer-worker", os.MFD_CLOEXEC))

    # -- the worker's side -------------------------------------------------------------------------
    def clear(self) -> None:
        """A new call begins: nothing has been kept for it."""
        self.idle()
        if self._end != PAGE:
            os.ftruncate(self.fd, PAGE)
        self._end = PAGE
        self._calls += 1
        CALLS.pack_into(self._page, BEAT.size, self._calls)

    def begin(self, number: int, runs: int) -> None:
        """Case ``number`` begins. The time is stored last: until then there is no case, rather than a wrong one."""
        self.idle()
        BEAT.pack_into(self._page, 0, NOTHING, number, runs)
        BEGIN.pack_into(self._page, 0, time.monotonic())

    def idle(self) -> None:
        """No case is under way."""
        BEGIN.pack_into(self._page, 0, NOTHING)

    def keep(self, data: bytes) -> None:
        """Keep a finished result."""
        frame = framed(data)
        os.pwrite(self.fd, frame, self._end)
        self._end += len(frame)

    # -- the pool's side ---------------------------------------------------------------------------
    def beat(self) -> Beat | None:
        """The case that is under way, None if there is none (or it is just changing)."""
        begin_s, number, runs = BEAT.unpack_from(self._page)
        if begin_s == NOTHING or BEGIN.unpack_from(self._page)[0] != begin_s:
            return None
        return Beat(number, begin_s, runs)

    def calls(self) -> int:
        """How many calls the worker has begun."""
        return int(CALLS.unpack_from(self._page, BEAT.size)[0])

    def kept(self, calls: int) -> list[bytes]:
        """The results that were kept completely for call ``calls`` (from 1), if the worker has begun that one."""
        if self.calls() != calls:
            return []
        size = os.fstat(self.fd).st_size - PAGE
        return unframed(os.pread(self.fd, size, PAGE))[0]

    def close(self) -> None:
        """Give the memory back."""
        self._page.close()
        os.close(self.fd)


_here: list[Memory] = []  # the memory of this process, if it is a worker


def attach(memory: Memory) -> None:
    """From now on this process announces its cases in ``memory``."""
    _here[:] = [memory]


def begin(number: int, runs: int = 1) -> None:
    """Announce that case ``number`` begins, which will be run ``runs`` times."""
    for memory in _here:
        memory.begin(number, runs)


def keep(data: bytes) -> None:
    """Keep the result of the case under way, and announce that it has ended."""
    for memory in _here:
        memory.keep(data)
        memory.idle()
