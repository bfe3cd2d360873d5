"""What happened to the locks of a run, for ``xenaer.campaign.steps.points.passed``."""

from __future__ import annotations

from kernel_stub.kernel import Kernel, LockWatch, Task
from xenaer.simulation.parties import SimParts

LOG = "lock log"


class LockLog:
    """``events`` are (party, what happened, name of the lock), until ``close``."""

    def __init__(self, parts: SimParts) -> None:
        self.events: list[tuple[str, str, str]] = []
        self._parts = parts
        parts.each_kernel(LOG, self._listen)

    def _listen(self, kernel: Kernel) -> None:
        kernel.locks = _Listener(self, kernel, kernel.locks)

    def close(self) -> None:
        """Listen no more."""
        self._parts.each_kernel(LOG, None)
        for kernel in self._parts.kernels:
            if isinstance(kernel.locks, _Listener):
                kernel.locks = kernel.locks.plain


class _Listener:
    """``kernel.LockWatch`` of one kernel: tells who watched before, and the log."""

    def __init__(self, log: LockLog, kernel: Kernel, plain: LockWatch | None) -> None:
        self.log = log
        self.party = kernel.name
        self.plain = plain

    def waiting(self, task: Task, lock: str) -> None:
        """See ``kernel.LockWatch``."""
        if self.plain is not None:
            self.plain.waiting(task, lock)
        self.log.events.append((self.party, "waiting", lock))

    def taken(self, task: Task, lock: str) -> None:
        """See ``kernel.LockWatch``."""
        if self.plain is not None:
            self.plain.taken(task, lock)
        self.log.events.append((self.party, "taken", lock))

    def released(self, task: Task, lock: str) -> None:
        """See ``kernel.LockWatch``."""
        if self.plain is not None:
            self.plain.released(task, lock)
        self.log.events.append((self.party, "released", lock))
