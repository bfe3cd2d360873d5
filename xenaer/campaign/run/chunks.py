"""How cases are put together into chunks, and which ones are played twice or keep their journals.

A chunk is one call of an executor. It is long enough that what the call costs does not count, and short enough that
little is repeated when a worker dies and that nobody waits long for the last one of a round.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

TWICE_SHARE = 0.05
SAMPLED_SHARE = 0.001
GROWTH = 4  # a chunk has at most so many times as many cases as the one before, until it is known what they take
SMOOTHING = 0.3  # weight of the last chunk in what is known about the time of a case
SIZE_MAX = 5000  # results of a chunk are in memory together


class Draw(NamedTuple):
    """What chance, that is the seed and its number alone, decides about a case.

    ``twice``: it is played twice and the journals are compared; ``keep``: its journal is kept whatever comes of it.
    """

    twice: bool
    keep: bool


def draw(seed: int, number: int) -> Draw:
    """What is done with case ``number`` of a campaign with ``seed``; the first one is always played twice."""
    digest = hashlib.blake2b(f"{seed}/{number}/draw".encode(), digest_size=8).digest()
    twice, keep = int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big")
    return Draw(number == 0 or twice < TWICE_SHARE * 2**32, keep < SAMPLED_SHARE * 2**32)


class ChunkSizer:
    """How many cases the next chunk has, so that it takes ``chunk_s`` seconds."""

    def __init__(self, chunk_s: float) -> None:
        self._chunk_s = chunk_s
        self._case_s = 0.0
        self._largest = 1

    def learn(self, cases: int, seconds: float) -> None:
        """A chunk of ``cases`` took ``seconds``."""
        if not cases:
            return
        case_s = max(seconds / cases, 1e-9)
        self._case_s = case_s if not self._case_s else self._case_s + SMOOTHING * (case_s - self._case_s)
        self._largest = max(self._largest, cases)

    def size(self, left: int, slots: int) -> int:
        """Cases of the next chunk, of ``left`` that are to be played by ``slots`` at a time.

        Towards the end chunks become shorter, so that all slots end at about the same time.
        """
        if not self._case_s:
            return 1
        wanted = min(int(self._chunk_s / self._case_s), self._largest * GROWTH, SIZE_MAX)
        return max(1, min(wanted, -(-left // (2 * slots))))
