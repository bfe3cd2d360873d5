"""``timing.json``: when a run was worked on, and how fast. Nothing in it is a result."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from xenaer.campaign.run.run_folder import RunFolder, RunFolderError
from xenaer.campaign.run.run_options import utc_now

TIMING = "timing.json"


@dataclass(slots=True)
class _Entry:
    """A sitting: when it began, for how many seconds it worked, how many cases it finished. None: it was killed."""

    begun: str
    seconds: float | None = None
    cases: int | None = None
    cases_per_s: float | None = None


class Sitting:
    """One process works on a run from here to there. ``cases`` is how many it finished."""

    def __init__(self, folder: RunFolder) -> None:
        self.cases = 0
        self._folder = folder
        self._earlier = _earlier(folder)
        self._entry = _Entry(utc_now())
        self._begin_s = time.monotonic()

    def __enter__(self) -> Sitting:
        self._write()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        seconds = time.monotonic() - self._begin_s
        self._entry.seconds = round(seconds, 3)
        self._entry.cases = self.cases
        self._entry.cases_per_s = round(self.cases / seconds, 1) if seconds else 0.0
        with contextlib.suppress(RunFolderError) if error is not None else contextlib.nullcontext():
            self._write()

    def _write(self) -> None:
        self._folder.write_json(TIMING, {"sittings": [*self._earlier, asdict(self._entry)]})


def _earlier(folder: RunFolder) -> list[Any]:
    """The sittings before this one; none if that file is damaged, since nothing depends on it."""
    try:
        return list(json.loads((folder.path / TIMING).read_text(encoding="utf-8"))["sittings"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
