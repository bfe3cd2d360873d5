"""What a run was asked to do, and by what: ``options.json``, written once when the run begins."""

from __future__ import annotations

import platform
import sqlite3
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from xenaer.campaign.run.store import FORMAT
from xenaer.version import version


def utc_now() -> str:
    """The time of now, as ISO 8601 in UTC with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def versions() -> dict[str, str]:
    """What plays a part in how a run goes."""
    return {
        "xenaer": version(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "platform": platform.platform(),
    }


class RunOptions(BaseModel):
    """``campaign`` is the text of the campaign file, ``campaign_path`` where it came from; ``seed`` decides all chance.

    ``host_path`` is a host file instead of the campaign's, ``size`` which of its sizes; empty: as the file says.
    ``jobs`` (workers, None: one per processor), ``world`` and ``executor`` are as the run was begun.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: int = FORMAT
    name: str
    seed: int
    campaign: str = ""
    campaign_path: str = ""
    host_path: str = ""
    size: str = ""
    world: str = "simulated"
    jobs: int | None = None
    executor: str = "local"
    begun: str = Field(default_factory=utc_now)
    versions: dict[str, str] = Field(default_factory=versions)
