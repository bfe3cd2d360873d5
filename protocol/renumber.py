"""One message of the page's stream made two, without either end noticing: numbers are moved up behind the tear.

Both ends number what they send from 1 on and acknowledge what they have received (``protocol.channel``).
"""

from __future__ import annotations

from protocol.ports import Message


class Renumber:
    """The numbers of one direction; whoever stands in between has torn some of its messages."""

    __slots__ = ("_first_halves",)

    def __init__(self) -> None:
        self._first_halves: list[int] = []  # numbers of the first halves, as the receiver sees them

    def tear(self, message: Message) -> tuple[Message, Message] | None:
        """Two messages for one, the bell with the second; None for a message with less than two operations.

        The number is as the receiver sees it.
        """
        sequence, acknowledged, bell, ops = message
        if sequence == 0 or len(ops) < 2:
            return None
        middle = len(ops) // 2
        self._first_halves.append(sequence)
        return (sequence, acknowledged, False, ops[:middle]), (sequence + 1, acknowledged, bell, ops[middle:])

    def sent(self, message: Message, other: Renumber) -> Message:
        """A message of the sender as the receiver must see it; ``other``: the numbers of the way back."""
        torn, acknowledged = self._first_halves, other._first_halves
        if not torn and not acknowledged:
            return message
        sequence, count, bell, ops = message
        number = sequence + len(torn) if sequence else 0
        return number, count - sum(first <= count for first in acknowledged), bell, ops
