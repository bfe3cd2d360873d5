"""Simulated links: ordered queues with drawn delays; and endpoints that pair them by address."""

from __future__ import annotations

from collections.abc import Callable

from protocol.ports import Message
from xenaer.simulation.world import World

DELAY_MIN = 15_000  # ns; about what a message costs in the processes
DELAY_SPREAD = 10_000
CLOSE_DELAY = 500_000  # the loss of a peer is noticed later than its last message


class SimLink:
    """One end of a link (``protocol.ports.Link``); ``peer`` is the other."""

    __slots__ = ("_held", "_last", "_random", "closed", "name", "on_close", "on_message", "party", "peer", "world")

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.peer: SimLink | None = None
        self.party = ""  # whose end this is
        self.closed = False
        self.on_message: Callable[[Message], None] = lambda message: None
        self.on_close: Callable[[str], None] = lambda reason: None
        self._random = world.random(f"link/{name}").random
        self._last = 0
        self._held: list[Callable[[], None]] | None = None

    def send(self, message: Message) -> bool:
        """See ``protocol.ports.Link``; the order of messages is kept."""
        peer = self.peer
        if self.closed or peer is None:
            return False
        world = self.world
        arrival = world.now() + DELAY_MIN + int(self._random() * DELAY_SPREAD)
        if arrival <= self._last:
            arrival = self._last + 1
        self._last = arrival
        world.at(arrival, lambda: peer.receive(message), (peer.party, self.name))
        return True

    def receive(self, message: Message) -> None:
        """A message arrives."""
        if self._held is not None:
            self._held.append(lambda: self.receive(message))
        elif not self.closed:
            self.on_message(message)

    def hold(self, *, on: bool) -> None:
        """A party that stands still takes nothing in; what has arrived waits until it goes on."""
        waiting, self._held = self._held or [], [] if on else None
        for arrival in waiting:
            arrival()

    def pause(self, ns: int) -> None:
        """See ``protocol.ports.Link``."""
        if self._held is None and not self.closed:
            self.hold(on=True)
            self.world.at(self.world.now() + ns, lambda: self.hold(on=False))

    def close(self) -> None:
        """See ``protocol.ports.Link``."""
        if not self.closed:
            self.closed = True
            if self.peer is not None:
                peer = self.peer
                arrival = max(self.world.now() + CLOSE_DELAY, self._last + 1)
                self.world.at(arrival, lambda: peer.lost("connection lost"), (peer.party, self.name))

    def lost(self, reason: str) -> None:
        """The peer is gone."""
        if self._held is not None:
            self._held.append(lambda: self.lost(reason))
        elif not self.closed:
            self.closed = True
            self.on_close(reason)


def pair(world: World, name: str) -> tuple[SimLink, SimLink]:
    """Two connected ends."""
    here, there = SimLink(world, f"{name}>"), SimLink(world, f"{name}<")
    here.peer, there.peer = there, here
    return here, there


class Switchboard:
    """Addresses of a simulation: what somebody listens on, until somebody else connects."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._waiting: dict[str, SimLink] = {}
        self._serial = 0

    def listen(self, kind: str, name: str) -> tuple[str, SimLink]:
        """A fresh address and its end."""
        self._serial += 1
        address = f"sim://{kind}-{name}-{self._serial}"
        here, there = pair(self.world, f"{kind}/{name}/{self._serial}")
        self._waiting[address] = there
        return address, here

    def connect(self, address: str) -> SimLink:
        """The other end of ``address``; a dead one if nobody listens there."""
        link = self._waiting.pop(address, None)
        return link if link is not None else SimLink(self.world, address)


class SimEndpoints:
    """``protocol.ports.Endpoints`` of one party; remembers its links, so that they end with the party."""

    def __init__(self, board: Switchboard, party: str) -> None:
        self.board = board
        self.party = party
        self.links: list[SimLink] = []

    def listen(self, kind: str, name: str) -> tuple[str, SimLink]:
        """See ``protocol.ports.Endpoints``."""
        address, link = self.board.listen(kind, name)
        link.party = self.party
        self.links.append(link)
        return address, link

    def admit(self, name: str, key: str) -> None:
        """See ``protocol.ports.Endpoints``: nobody else is there who could connect."""

    def connect(self, kind: str, address: str) -> SimLink:
        """See ``protocol.ports.Endpoints``."""
        link = self.board.connect(address)
        link.party = self.party
        self.links.append(link)
        return link

    def close_all(self) -> None:
        """The party has ended."""
        for link in self.links:
            link.close()
