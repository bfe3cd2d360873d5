"""Program points of real processes: they are seen in the journals a moment after they were reached."""

from __future__ import annotations

import time
from collections.abc import Callable

from xenaer.campaign.steps.system import Watch
from xenaer.control import ControlError
from xenaer.journal import Entry

LOOK_S = 0.002
Fire = Callable[[], None]


class Points:
    """What is armed for one system. ``read`` gives the records that have appeared."""

    def __init__(self, read: Callable[[], list[Entry]]) -> None:
        self._read = read
        self._records: list[tuple[Watch, Fire]] = []
        self._times: list[tuple[float, Fire]] = []  # when, on the monotonic clock
        self._looking = False

    @property
    def armed(self) -> bool:
        """Somebody waits for a point."""
        return bool(self._records or self._times)

    def arm(self, watch: Watch, fire: Fire) -> None:
        """``fire`` is called when ``look`` finds the point. Raises ControlError for a lock."""
        if watch.of == "lock":
            raise ControlError("a lock is no point in the world of processes: no journal tells of it")
        if watch.of == "time":
            self._times.append((time.monotonic() + watch.ms / 1000, fire))
            return
        self.look()  # what was written before is not waited for
        if not self._records:
            self._read()
        self._records.append((watch, fire))

    def disarm(self) -> None:
        """Nothing that has not been reached happens any more."""
        self._records, self._times = [], []

    def look(self) -> None:
        """See what has been reached. What is fired may come here again; then nothing happens."""
        if not self.armed or self._looking:
            return
        self._looking = True
        try:
            for item in self._read():
                self._show(item)
            for entry in [each for each in self._times if each[0] <= time.monotonic()]:
                self._times.remove(entry)
                entry[1]()
        finally:
            self._looking = False

    def _show(self, item: Entry) -> None:
        for entry in [each for each in self._records if each[0].entry(item)]:
            self._records.remove(entry)
            entry[1]()
