"""Bounds on what a peer may make a party hold, one row per kind of link; ``docs/SECURITY.md`` adds them up.

A message longer than ``message`` ends its connection before it is in memory. ``queue`` messages at most wait
unread; then the transport stops reading, and the peer's own memory fills. What comes faster than a ``Rate`` is
not read for a while either (X37).
"""

from __future__ import annotations

from typing import NamedTuple

KIB = 1024
MIB = 1024 * KIB


class LinkLimit(NamedTuple):
    """One row: bytes of a message, messages in the queue."""

    message: int
    queue: int


LINK_LIMITS: dict[str, LinkLimit] = {
    "door": LinkLimit(64 * KIB, 2),  # knocks; control commands, aer-inject files among them
    "party": LinkLimit(1 * MIB, 16),  # hypercalls of a guest (GUEST_REQUESTS); dom0's answers to control commands too
    "channel": LinkLimit(64 * KIB, 128),  # twice the credit of protocol.channel
    "devbus": LinkLimit(68 * KIB, 128),  # DMA data of 64 KiB and its frame
    "host": LinkLimit(4 * MIB, 10_000),  # what the stub and dom0 say to those who connect: a whole host, for instance
}
SEND_QUEUE = 10_000  # messages that wait for a peer; one that takes none of them is given up
HANDSHAKE_MS = 2_000  # a connection that has not said who it is by then is dropped
CONNECTIONS = 4096  # file descriptors of a listening party, so also connections that it has at a time
LINKS_PER_PEER = 8  # PAIRs that one peer may have from the front door
UNTAKEN = 1 * MIB  # of a tcp connection: frames of messages that are not complete; looked at four times a second
PROGRAM_LINE = 64 * KIB  # bytes that an external program may write as one line
PROGRAM_DMA = 16 * KIB  # bytes of memory that it may read or write by one line
GUEST_LINKS = ("party", "channel", "devbus")
GUEST_MEMORY = sum(LINK_LIMITS[kind].message * LINK_LIMITS[kind].queue for kind in GUEST_LINKS)  # bytes, at most


class Rate(NamedTuple):
    """``rate`` per second in the long run, ``burst`` at once."""

    rate: int
    burst: int


DOOR_CONNECTIONS = Rate(1, 16)  # of one guest's key; it needs a single one in its life
KNOCKS = Rate(50, 200)  # connections of one peer at the front door
GUEST_REQUESTS = Rate(2_000, 1_000)  # hypercalls of one guest
GUEST_TABLES = Rate(20, 200)  # changes of its ports and grants: each is a line of the host's journal
SPURIOUS_EVENTS = Rate(100, 1_000)  # doorbells of one guest that ask for nothing (X13)
STATE_CHANGES = Rate(20, 40)  # of one frontend that the backend follows (X30)
CONNECTS = Rate(2, 10)  # of one frontend with its backend (X34)


class Bucket:
    """A token bucket for a ``Rate``. Times in nanoseconds."""

    __slots__ = ("_burst", "_left", "_ns", "_then")

    def __init__(self, rate: int, burst: int) -> None:
        self._ns = 1_000_000_000 // rate
        self._burst = burst
        self._left = burst
        self._then = 0

    def take(self, now: int) -> int:
        """Take one: 0 if there was one, else after how many ns there will be."""
        gained = (now - self._then) // self._ns
        if gained >= self._burst - self._left:
            self._left, self._then = self._burst, now
        else:
            self._left += gained
            self._then += gained * self._ns
        if self._left > 0:
            self._left -= 1
            return 0
        return self._then + self._ns - now
