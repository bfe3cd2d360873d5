"""Program points of a simulation: something is to happen at a journal record or a lock, at that very instant.

Nothing is watched before the first point is armed. Then every kernel writes to a journal that looks at each record;
with a point at a lock, every kernel tells of its locks too. What is armed runs as the next thing in the kernel that
reached the point, as soon as its running task waits.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel_stub.kernel import Halted, Kernel, LockWatch, Task
from protocol.ports import Record
from xenaer.campaign.steps.system import Watch
from xenaer.simulation.parties import SimParts

Fire = Callable[[], None]


class Arming:
    """What is armed in one simulated system."""

    def __init__(self, parts: SimParts) -> None:
        self.parts = parts
        self._records: list[tuple[Watch, Fire]] = []
        self._locks: list[tuple[Watch, Fire]] = []

    def at_record(self, watch: Watch, fire: Fire) -> None:
        """``fire`` is called when the record is written."""
        if not self._records:
            self.parts.each_kernel("records", self._follow)
        self._records.append((watch, fire))

    def at_lock(self, watch: Watch, fire: Fire) -> None:
        """``fire`` is called when the lock is waited for, taken or released."""
        if not self._locks:
            self.parts.each_kernel("locks", self._watch_locks)
        self._locks.append((watch, fire))

    def disarm(self) -> None:
        """Nothing that has not been reached happens any more."""
        self._records, self._locks = [], []
        self._rest()

    def _rest(self) -> None:
        """Journals and locks for which no point is armed any more are left alone again."""
        if not self._records:
            self.parts.each_kernel("records", None)
        if not self._locks:
            self.parts.each_kernel("locks", None)
        for kernel in self.parts.kernels:
            if not self._records and isinstance(kernel.journal, _WatchedJournal):
                kernel.write_to(kernel.journal.plain)
            if not self._locks and isinstance(kernel.locks, _LockTee):
                kernel.locks = kernel.locks.plain

    def _follow(self, kernel: Kernel) -> None:
        kernel.write_to(_WatchedJournal(self, kernel))

    def _watch_locks(self, kernel: Kernel) -> None:
        kernel.locks = _LockTee(self, kernel, kernel.locks)

    # -- what happens --------------------------------------------------------------------------
    def record(self, kernel: Kernel, record: Record) -> None:
        """A kernel has written a record."""
        for entry in [each for each in self._records if each[0].record(kernel.name, record)]:
            self._records.remove(entry)
            self._rest()
            self._reach(kernel, *entry)

    def lock(self, kernel: Kernel, when: str, name: str) -> None:
        """Something has happened to a lock."""
        for entry in [each for each in self._locks if each[0].lock(kernel.name, when, name)]:
            self._locks.remove(entry)
            self._rest()
            self._reach(kernel, *entry)

    def _reach(self, kernel: Kernel, watch: Watch, fire: Fire) -> None:
        if watch.kills == kernel.name and kernel.current is not None:
            _fire(kernel, fire)
        elif kernel.on_wake is None:  # its party has just ended
            self.parts.world.at(self.parts.world.now(), fire)
        else:
            kernel.interrupt(lambda: _fire(kernel, fire))


def _fire(kernel: Kernel, fire: Fire) -> None:
    fire()
    if kernel.on_wake is None:  # that was the end of this party, or it stands still
        raise Halted("stopped at a program point")


class _WatchedJournal:
    """``protocol.ports.Journal``: writes where the kernel's journal wrote, and lets the points look."""

    def __init__(self, arming: Arming, kernel: Kernel) -> None:
        self.arming = arming
        self.kernel = kernel
        self.plain = kernel.journal

    def append(self, record: Record) -> None:
        """See ``protocol.ports.Journal``."""
        self.plain.append(record)
        self.arming.record(self.kernel, record)

    def flush(self) -> None:
        """Nothing waits."""


class _LockTee:
    """``kernel.LockWatch``: tells who watched before, and the points."""

    def __init__(self, arming: Arming, kernel: Kernel, plain: LockWatch | None) -> None:
        self.arming = arming
        self.kernel = kernel
        self.plain = plain

    def waiting(self, task: Task, lock: str) -> None:
        """See ``kernel.LockWatch``."""
        if self.plain is not None:
            self.plain.waiting(task, lock)
        self.arming.lock(self.kernel, "waiting", lock)

    def taken(self, task: Task, lock: str) -> None:
        """See ``kernel.LockWatch``."""
        if self.plain is not None:
            self.plain.taken(task, lock)
        self.arming.lock(self.kernel, "taken", lock)

    def released(self, task: Task, lock: str) -> None:
        """See ``kernel.LockWatch``."""
        if self.plain is not None:
            self.plain.released(task, lock)
        self.arming.lock(self.kernel, "released", lock)
