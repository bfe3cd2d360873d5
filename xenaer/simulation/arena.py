"""A world without time for small explorations: kernels, links between them, and nothing that costs anything.

Messages arrive when somebody picks them. A timer is due when nothing else can happen, those of the ``racing`` parties
at any moment: each party has a clock of its own, which only its timers move.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from kernel_stub.kernel import Kernel
from protocol.ports import Message, Record
from xenaer.simulation.explore import Lane, Pick

STEPS_MAX = 2_000  # an order that does not end by then never will


NOBODY: frozenset[str] = frozenset()


class EndlessError(Exception):
    """An order that goes on for ever."""


class PartyClock:
    """``protocol.ports.Clock`` of one party."""

    __slots__ = ("time",)

    def __init__(self) -> None:
        self.time = 0

    def now(self) -> int:
        """Nanoseconds that this party has lived through."""
        return self.time


class Notes:
    """``protocol.ports.Journal``: one list for all parties, in the order of what happened."""

    __slots__ = ("append", "records")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.append: Callable[[Record], None] = self.records.append

    def flush(self) -> None:
        """Nothing waits."""


class ArenaLink:
    """One end of a link (``protocol.ports.Link``); ``inbox`` is what has been sent to it."""

    __slots__ = ("closed", "inbox", "lane", "on_close", "on_message", "peer")

    def __init__(self, party: str) -> None:
        self.lane: Lane = (party, "message")
        self.inbox: deque[Message] = deque()
        self.closed = False
        self.peer: ArenaLink | None = None
        self.on_message: Callable[[Message], None] = lambda message: None
        self.on_close: Callable[[str], None] = lambda reason: None

    def send(self, message: Message) -> bool:
        """See ``protocol.ports.Link``."""
        peer = self.peer
        if self.closed or peer is None:
            return False
        peer.inbox.append(message)
        return True

    def pause(self, ns: int) -> None:
        """See ``protocol.ports.Link``; when a message arrives is up to who picks."""

    def close(self) -> None:
        """See ``protocol.ports.Link``; the peer is not told: nobody plays that in an arena."""
        self.closed = True

    def receive(self) -> None:
        """The first message arrives."""
        message = self.inbox.popleft()
        if not self.closed:
            self.on_message(message)


class Arena:
    """Kernels and links of one small system, and ``run`` which plays one order of it."""

    def __init__(self, *, racing: frozenset[str] = NOBODY) -> None:
        self.racing = racing
        self.notes = Notes()
        self.kernels: list[tuple[Kernel, PartyClock]] = []
        self.links: list[ArenaLink] = []

    def kernel(self, name: str) -> Kernel:
        """A party."""
        clock = PartyClock()
        kernel = Kernel(name, clock, self.notes)
        self.kernels.append((kernel, clock))
        return kernel

    def pair(self, here: str, there: str) -> tuple[ArenaLink, ArenaLink]:
        """A link between two parties."""
        one, other = ArenaLink(here), ArenaLink(there)
        one.peer, other.peer = other, one
        self.links += (one, other)
        return one, other

    def run(self, pick: Pick) -> None:
        """Let things happen until nothing can happen any more. Raises EndlessError."""
        for _ in range(STEPS_MAX):
            lanes: list[Lane] = []
            ways: list[tuple[Callable[..., None], object]] = []
            for kernel, _clock in self.kernels:
                if not kernel.idle:
                    party = kernel.name
                    for index, name in enumerate(kernel.ready()):
                        ways.append((kernel.run_one, index))
                        lanes.append((party, name))
            for link in self.links:
                if link.inbox:
                    lanes.append(link.lane)
                    ways.append((ArenaLink.receive, link))
            if self.racing or not ways:
                self._timers(lanes, ways)
            if not ways:
                return
            function, argument = ways[pick(lanes)]
            function(argument)
        raise EndlessError

    def close(self) -> None:
        """An order may be given up before each of its tasks has begun."""
        for kernel, _clock in self.kernels:
            kernel.close()

    def _timers(self, lanes: list[Lane], ways: list[tuple[Callable[..., None], object]]) -> None:
        """The next timer of each racing party; if nothing else can happen, the first of the others too."""
        due = [(timer, kernel, clock) for kernel, clock in self.kernels if (timer := kernel.next_timer()) is not None]
        patient = sorted((e for e in due if e[1].name not in self.racing), key=lambda entry: entry[0])
        nothing_else = not ways
        for timer, kernel, clock in due:
            if kernel.name not in self.racing and not (nothing_else and kernel is patient[0][1]):
                continue
            lanes.append((kernel.name, "timer"))
            ways.append((_fire, (timer, kernel, clock)))


def _fire(entry: tuple[int, Kernel, PartyClock]) -> None:
    timer, kernel, clock = entry
    clock.time = max(clock.time, timer)
    kernel.run_timers()
