"""What a party has refused: counted by kind and by whom, logged at a limited rate.

A peer that is refused again and again must not fill the log either: ``BURST`` lines at once, ``RATE`` per second in
the long run, for each peer; what was left out is said with the next line (as ``___ratelimit`` does).
"""

from __future__ import annotations

from kernel_stub.kernel import WARNING, Kernel
from protocol.limits import Bucket

RATE, BURST = 1, 5
PEERS_MAX = 256  # peers that are told apart; afterwards their limits begin anew
TEXT_MAX = 160  # of a log line: what a peer has said is only quoted in part

# kind -> what was refused; the names are those of the statistics
KINDS: dict[str, str] = {
    "handshake": "a connection that ends before it is anybody's: no handshake, none in time, no key",
    "no-key": "a connection without a key",
    "unknown-key": "a connection with a key that nobody in this system has",
    "wrong-key": "a connection to a socket that is somebody else's",
    "other-user": "a local connection from another user's process",
    "identity": "a hello for a role or domain that the peer is not",
    "hello": "a hello that names no known role, domain or guest, or one that is connected already",
    "role": "a request that is not available to the peer's role",
    "bad-message": "bytes that are no message of the vocabulary; the connection ends",
    "flood": "more than the peer's share per second; it is not read for a while",
    "no-socket": "a connection for which there are no more descriptors",
    "dying": "a request of a domain that is being destroyed",
    "event-channel": "a port that is not the peer's, or is closed",
    "grant": "a page that was not granted to the peer",
    "xenstore": "a node without permission, or over a quota",
    "frontend": "a frontend's nodes that cannot be used (X25 to X28)",
    "state": "states of a frontend that change faster than they are followed (X30)",
    "reconnect": "connections of a frontend, one after the other, without end (X34)",
    "spurious": "doorbells without any request (X13)",
    "handler-flag": "an AER handler flag that changes while connected (X23)",
    "answer": "an answer that is none (X17)",
}


class Refusals:
    """The counters of one party. ``counts`` is by peer and kind; ``who`` is "" where it is not known."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.counts: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.lines = 0  # that were logged
        self._peers: dict[str, Bucket] = {}
        self._left_out: dict[str, int] = {}

    def refuse(self, kind: str, who: str, text: str) -> None:
        """Count one refusal, and log it if that peer has a line left."""
        self.counts[kind] += 1
        if who not in self._peers and len(self._peers) >= PEERS_MAX:
            self._peers.clear()
            self._left_out.clear()
        bucket = self._peers.setdefault(who, Bucket(RATE, BURST))
        if bucket.take(self.kernel.now()):
            self._left_out[who] = self._left_out.get(who, 0) + 1
            return
        left_out = self._left_out.pop(who, 0)
        more = f" ({left_out} more since the last line)" if left_out else ""
        self.lines += 1
        self.kernel.printk(WARNING, f"refused {kind}: {who or 'unknown'}: {text[:TEXT_MAX]}{more}")

    def statistics(self) -> dict[str, int]:
        """Kinds that have occurred."""
        return {kind: count for kind, count in self.counts.items() if count}
