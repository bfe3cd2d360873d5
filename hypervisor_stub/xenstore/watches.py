"""Watches: which of them a change concerns, in order of registration (XS-8, XS-9, errata S17)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from hypervisor_stub.xenstore.paths import parent_of
from hypervisor_stub.xenstore.perms import READ, Caller
from hypervisor_stub.xenstore.tree import Change, Tree

OnEvent = Callable[[str, str], None]


class Watch:
    """One registration. ``strip``: characters that events leave out of the path (watch set relatively)."""

    __slots__ = ("active", "caller", "depth", "on_event", "path", "serial", "strip", "token")

    def __init__(self, path: str, token: str, caller: Caller, on_event: OnEvent) -> None:
        self.path = path
        self.token = token
        self.caller = caller
        self.on_event = on_event
        self.depth: int | None = None  # levels below the node, None: all
        self.strip = 0
        self.serial = 0
        self.active = True

    def sees(self, change: Change) -> bool:
        """Whether the watcher may read the node or its parent, or could read the node before (XS-8).

        Never, if it existed neither then nor now.
        """
        if change.before is None and change.after is None:
            return False
        readable = (change.before, change.after, change.above)
        return any(perms is not None and self.caller.may(perms, READ) for perms in readable)


class WatchTable:
    """All watches of all connections, by path, and the events on their way to ``on_event``."""

    __slots__ = ("_by_path", "_events", "_serial")

    def __init__(self) -> None:
        self._by_path: dict[str, list[Watch]] = {}
        self._serial = 0
        self._events: deque[tuple[Watch, str]] = deque()

    def add(self, watch: Watch) -> None:
        """Register behind all others."""
        self._serial += 1
        watch.serial = self._serial
        self._by_path.setdefault(watch.path, []).append(watch)

    def remove(self, watch: Watch) -> None:
        """Unregister; events already found for it are not delivered."""
        watch.active = False
        same_path = self._by_path[watch.path]
        same_path.remove(watch)
        if not same_path:
            del self._by_path[watch.path]

    def concerned(self, change: Change) -> list[Watch]:
        """Watches that ``change`` fires, in order of registration."""
        found = [watch for watch in self._matching(change.path, change.exact) if watch.sees(change)]
        found.sort(key=lambda watch: watch.serial)
        return found

    def _matching(self, path: str, exact: bool) -> Iterator[Watch]:
        yield from self._by_path.get(path, ())
        distance = 0
        while not exact and path != "/" and path[0] == "/":
            path = parent_of(path)
            distance += 1
            for watch in self._by_path.get(path, ()):
                if watch.depth is None or distance <= watch.depth:
                    yield watch

    def publish(self, tree: Tree) -> None:
        """Tell the watchers of all changes made to ``tree`` since the last call."""
        changes = tree.changes
        if changes:
            tree.changes = []
            for change in changes:
                self._events.extend((watch, change.path[watch.strip :]) for watch in self.concerned(change))
            self._deliver()

    def post(self, watch: Watch, path: str) -> None:
        """Deliver one event behind all that are under way."""
        self._events.append((watch, path))
        self._deliver()

    def _deliver(self) -> None:
        """Hand out events in order; a request made inside ``on_event`` hands out the outer one's rest first."""
        while self._events:
            watch, path = self._events.popleft()
            if watch.active:
                watch.on_event(path, watch.token)
