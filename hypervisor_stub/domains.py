"""Domains and their life cycle. Source: xen-pci.md 9.1 (events), 9.3 (state letters), 5.4 (KILL-2)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, StrEnum
from typing import Any

from kernel_stub.kernel import Kernel, Task
from kernel_stub.rpc import Rpc
from kernel_stub.sync import Future, WaitQueue
from protocol.ids import DOMID_IO
from protocol.topology import GuestSpec


class Shutdown(IntEnum):
    """``SHUTDOWN_*``: why a domain has stopped."""

    POWEROFF = 0
    REBOOT = 1
    SUSPEND = 2
    CRASH = 3
    WATCHDOG = 4
    SOFT_RESET = 5


class Life(StrEnum):
    """Where a domain is in its life."""

    BUILDING = "building"
    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    DYING = "dying"
    GONE = "gone"


class Step(StrEnum):
    """What may happen to a domain."""

    START = "start"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    SHUTDOWN = "shutdown"
    DESTROY = "destroy"
    RELEASE = "release"


# A pair that is not here leaves the domain as it is: a dying domain cannot be paused, for instance.
LIFE_CYCLE: dict[tuple[Life, Step], Life] = {
    (Life.BUILDING, Step.START): Life.RUNNING,
    (Life.BUILDING, Step.DESTROY): Life.DYING,
    (Life.RUNNING, Step.PAUSE): Life.PAUSED,
    (Life.RUNNING, Step.SHUTDOWN): Life.SHUTDOWN,
    (Life.RUNNING, Step.DESTROY): Life.DYING,
    (Life.PAUSED, Step.UNPAUSE): Life.RUNNING,
    (Life.PAUSED, Step.SHUTDOWN): Life.SHUTDOWN,
    (Life.PAUSED, Step.DESTROY): Life.DYING,
    (Life.SHUTDOWN, Step.DESTROY): Life.DYING,
    (Life.DYING, Step.RELEASE): Life.GONE,
}

REASON_LETTERS = "-rscwS"  # index: Shutdown


class Domain:
    """One incarnation of a guest. ``creation`` never repeats, so it tells incarnations apart (KILL-2).

    ``functions`` maps the machine address of an assigned function to the address of the device bus;
    ``died`` is set with the wait status once the process of the guest has ended.
    """

    __slots__ = (
        "creation",
        "died",
        "domid",
        "functions",
        "life",
        "opened",
        "pid",
        "procedure",
        "reason",
        "revoked",
        "rpc",
        "spec",
        "supervisor",
        "teardown",
        "token",
    )  # fmt: skip

    def __init__(self, kernel: Kernel, domid: int, creation: int, spec: GuestSpec, token: str) -> None:
        self.domid = domid
        self.creation = creation
        self.spec = spec
        self.token = token
        self.pid = 0
        self.life = Life.BUILDING
        self.reason: Shutdown | None = None
        self.functions: dict[str, str] = {}
        self.rpc: Rpc | None = None
        self.supervisor: Rpc | None = None
        self.died = Future(kernel, f"death of {spec.name}")
        self.revoked = False  # nothing that it sends has any effect
        self.procedure = ""  # of teardown.ORDERS, the last one that was begun
        self.teardown: Task | None = None
        self.opened: set[str] = set()

    @property
    def name(self) -> str:
        """Name in the host file, unique among the living."""
        return self.spec.name

    @property
    def uuid(self) -> str:
        """A UUID made from the creation counter, so that two runs agree."""
        return f"00000000-0000-4000-8000-{self.creation:012x}"

    @property
    def key(self) -> tuple[int, int]:
        """(domain id, creation counter): the key of an incident."""
        return self.domid, self.creation

    def advance(self, step: Step) -> bool:
        """Take one step of the life cycle; False if the domain's state has no such step."""
        new = LIFE_CYCLE.get((self.life, step))
        if new is None:
            return False
        self.life = new
        return True

    def post(self, event: str, *args: Any) -> None:
        """Send an event to the guest's kernel, if it is there."""
        if self.rpc is not None:
            self.rpc.post(event, *args)


def state_letters(life: Life, reason: Shutdown | None) -> str:
    """The six letters of ``xl list``: running, blocked, paused, shut down, reason, dying.

    A running guest is shown as blocked: whoever asks runs in domain 0, and a guest of the emulation waits
    for events nearly always.
    """
    return "".join(
        (
            "-",
            "b" if life is Life.RUNNING else "-",
            "p" if life in (Life.PAUSED, Life.BUILDING) else "-",
            "s" if reason is not None else "-",
            "-" if reason is None else REASON_LETTERS[reason],
            "d" if life is Life.DYING else "-",
        )
    )


class Domains:
    """The table of living guests; ``changed`` wakes whenever one appears, changes its life, or goes."""

    def __init__(self, kernel: Kernel) -> None:
        self.changed = WaitQueue(kernel, "a domain to change")
        self._kernel = kernel
        self._table: dict[int, Domain] = {}
        self._creations = 0
        self._last = 0

    def add(self, spec: GuestSpec, token: str) -> Domain:
        """A new domain; ids count upwards from 1 and start again below ``DOMID_IO``'s range."""
        domid = self._last % (DOMID_IO - 1) + 1
        while domid in self._table:
            domid = domid % (DOMID_IO - 1) + 1
        self._last = domid
        self._creations += 1
        domain = self._table[domid] = Domain(self._kernel, domid, self._creations, spec, token)
        return domain

    def start_at(self, domid: int) -> None:
        """The next domain gets this id, if it is free."""
        self._last = domid - 1

    def remove(self, domain: Domain) -> None:
        """The domain is gone."""
        self._table.pop(domain.domid, None)
        self.changed.wake_all()

    def __iter__(self) -> Iterator[Domain]:
        return iter(list(self._table.values()))

    def __len__(self) -> int:
        return len(self._table)

    def get(self, domid: int) -> Domain | None:
        """The living domain with this id."""
        return self._table.get(domid)

    def by_name(self, name: str) -> Domain | None:
        """The living domain with this name."""
        return next((d for d in self._table.values() if d.name == name), None)

    def by_token(self, token: str) -> Domain | None:
        """The domain whose guest was given this token."""
        return next((d for d in self._table.values() if d.token == token), None)

    def find(self, text: str) -> Domain | None:
        """``libxl_domain_qualifier_to_domid``: by number or by name."""
        return self.get(int(text)) if text.isdecimal() else self.by_name(text)
