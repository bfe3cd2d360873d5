"""The outside world as the cores see it: four small interfaces, each with a real and a simulated instance.

Cores take these as constructor arguments and import nothing that could wait, look at a clock or draw a
number (docs/ARCHITECTURE.md, "One core, two worlds").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Message = tuple[Any, ...]
Record = tuple[Any, ...]


class Clock(Protocol):
    """Time since the start of the system, in nanoseconds; never goes back."""

    def now(self) -> int:
        """Nanoseconds since the epoch of the running system."""


class Journal(Protocol):
    """Where a party writes what it did. One record: (time ns, task, label, subject, field, ...)."""

    def append(self, record: Record) -> None:
        """Add a record; must be cheap and must not wait."""

    def flush(self) -> None:
        """Make everything appended so far readable by others, also if this process dies now."""


class Driven(Protocol):
    """What a shell drives: a party's kernel (``kernel_stub.kernel.Kernel``)."""

    journal: Journal
    now: Callable[[], int]

    def run(self) -> None:
        """Run everything that is ready."""

    def call_at(self, deadline: int, callback: Callable[[], None]) -> object:
        """Call ``callback`` at ``deadline`` (ns)."""

    def next_timer(self) -> int | None:
        """When something becomes ready by itself, in nanoseconds; None if nothing does."""


class Link(Protocol):
    """One end of an ordered, bounded two-way connection between two parties.

    ``on_message`` is called, in order, for each message of the peer once it has passed the check at the
    border; ``on_close`` once, when the peer is gone or has broken the protocol, with the reason.
    """

    on_message: Callable[[Message], None]
    on_close: Callable[[str], None]

    def send(self, message: Message) -> bool:
        """Queue for the peer without waiting. False: no credit left, nothing was sent."""

    def pause(self, ns: int) -> None:
        """Take nothing in for ``ns`` nanoseconds: the peer sends more than its share."""

    def close(self) -> None:
        """Give the connection up; ``on_close`` is not called for one's own close."""


class EndpointError(Exception):
    """An end cannot be opened; the text says why."""


class Endpoints(Protocol):
    """How a party opens links. An address is an opaque text that may be passed on in messages."""

    def listen(self, kind: str, name: str) -> tuple[str, Link]:
        """Bind a fresh end for exactly one peer, ``name``, and return (address, own end). Raises EndpointError."""

    def admit(self, name: str, key: str) -> None:
        """From now on ``key`` is the public key of ``name``; "" if ``name`` is gone."""

    def connect(self, kind: str, address: str) -> Link:
        """Connect to the end that somebody listens on."""
