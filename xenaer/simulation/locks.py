"""Locks as xen-pci.md 7.1 orders them: who holds what while taking more, and whether two tasks disagree about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kernel_stub.kernel import Kernel, Task
from xenaer.lock_names import kind

# "Order that is respected": the first is taken before the second.
ORDER: tuple[tuple[str, str], ...] = (
    ("dev_lock", "device_lock"),
    ("device_lock", "pcistub_sem"),
    ("dev_lock", "pcistub_sem"),
    ("reset lock", "device_lock"),
)


class LockOrder:
    """``kernel.LockWatch`` of one kernel: the pairs of locks that were taken one inside the other, and by whom."""

    def __init__(self) -> None:
        self._held: dict[Task, list[str]] = {}
        self.pairs: dict[tuple[str, str], str] = {}

    def waiting(self, task: Task, lock: str) -> None:
        """See ``kernel.LockWatch``: who waits for what is in ``deadlocks``."""

    def taken(self, task: Task, lock: str) -> None:
        """See ``kernel.LockWatch``."""
        held, new = self._held.setdefault(task, []), kind(lock)
        for old in held:
            if old != new:
                self.pairs.setdefault((old, new), task.name)
        held.append(new)

    def released(self, task: Task, lock: str) -> None:
        """See ``kernel.LockWatch``."""
        held = self._held.get(task, [])
        if kind(lock) in held:
            held.remove(kind(lock))

    def inversions(self) -> Iterator[str]:
        """Pairs taken in both orders, or against the order that the kernel respects."""
        for first, second in self.pairs:
            if (second, first) in ORDER or ((second, first) in self.pairs and first < second):
                yield f"lock-order inversion: {second} taken with {first} held"


def deadlocks(kernels: Iterable[Kernel]) -> Iterator[str]:
    """Circles of tasks that wait for one another's locks."""
    for kernel in kernels:
        waits = {task.name: _owner(task) for task in kernel.tasks if _owner(task)}
        for name, owner in waits.items():
            seen, at = [name], owner
            while at in waits and at not in seen:
                seen.append(at)
                at = waits[at]
            if at == name and name == min(seen):
                yield f"deadlock: {' waits for '.join((*seen, name))}"


def _owner(task: Task) -> str:
    return (task.waiting_on or "").partition(" held by ")[2]
