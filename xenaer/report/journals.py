"""The records of a case, as the page and the trace read them: whatever a guest has written, they have their fields."""

from __future__ import annotations

from pathlib import Path

import msgpack

from protocol.labels import LABELS
from protocol.topology import HostSpec
from xenaer.campaign.run.run_folder import JOURNALS
from xenaer.report.spans import Raw

HEAD = (int, str, str, str, str)  # ns, party, task, label, subject


class JournalError(ValueError):
    """A journal is no journal."""


def unpack(data: bytes) -> list[Raw]:
    """The records of a packed journal; each has all fields of its label. Raises JournalError.

    A guest writes its own journal, and may write anything: what does not begin as a record does is left out.
    """
    try:
        found = msgpack.unpackb(data, use_list=False, unicode_errors="replace", strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise JournalError(f"not a journal: {error}") from None
    if not isinstance(found, tuple):
        raise JournalError("not a journal: no list of records")
    return [_whole(record) for record in found if isinstance(record, tuple) and _begins_well(record)]


def _begins_well(record: Raw) -> bool:
    return tuple(map(type, record[: len(HEAD)])) == HEAD


def _whole(record: Raw) -> Raw:
    missing = len(HEAD) + len(LABELS.get(record[3], ())) - len(record)
    return (*record, *[""] * missing) if missing > 0 else record


def kept(run: Path, case_id: str) -> Path:
    """Where the journal of a case is, if it was kept."""
    return run / JOURNALS / f"{case_id}.mpk"


def owners(host: HostSpec | None) -> dict[str, str]:
    """Function -> guest, at boot."""
    guests = host.guests if host is not None else []
    return {entry.bdf: guest.name for guest in guests if guest.autostart for entry in guest.devices}
