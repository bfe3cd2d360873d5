"""The cases that the page shows one by one: failing ones as a list, and sequence diagrams of those with a journal."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from pydantic_core import from_json

from protocol.topology import HostSpec
from xenaer.campaign.build import VALUES
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.form import POINT
from xenaer.campaign.run.rows import HAS_JOURNAL, Row
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.report.columns import label
from xenaer.report.journals import JournalError, kept, owners, unpack
from xenaer.report.sequence import Diagram, Texts

LOOKED_AT = 2_000  # more than journals are kept
LISTED = 400  # failing cases in the list
DIAGRAMS = {False: 150, True: 30}  # by whether the case is good
DIAGRAM_BYTES = 2_500_000  # of all diagrams together, about
TEXT_MAX = 400
FAILING, SAMPLE = "good = 0", "good = 1 AND flags & 2"
assert HAS_JOURNAL == 2


def failing(folder: RunFolder, campaign: Campaign | None) -> list[dict[str, Any]]:
    """The first failing cases."""
    return [_head(row, campaign) for row in folder.store.rows(FAILING, limit=LISTED)]


def diagrams(
    folder: RunFolder, campaign: Campaign | None, host: HostSpec | None, texts: Texts
) -> tuple[list[dict[str, Any]], int]:
    """Diagrams of failing cases, then of the sample; and how many journals there are for which there was no room."""
    found, left_out, size = [], 0, 0
    for good, where in ((False, FAILING), (True, SAMPLE)):
        shown = 0
        stored = folder.store.rows(where, limit=LOOKED_AT)
        for row in _varied(row for row in stored if kept(folder.path, row.case_id).is_file()):
            if shown >= DIAGRAMS[good] or size + texts.size > DIAGRAM_BYTES:
                left_out += 1
                continue
            diagram = _diagram(folder, row, host, texts)
            size += sum(len(str(line)) for line in diagram.get("rows", ()))
            found.append(_head(row, campaign) | diagram)
            shown += 1
    return found, left_out


def _varied(rows: Iterator[Row]) -> Iterator[Row]:
    """One of each outcome and stratum first, then the next of each: what is left out is more of the same."""
    by_kind = defaultdict[tuple[str, str], list[Row]](list)
    for row in rows:
        by_kind[row.outcome, row.stratum].append(row)
    for several in zip_longest(*by_kind.values()):
        yield from (row for row in several if row is not None)


def _diagram(folder: RunFolder, row: Row, host: HostSpec | None, texts: Texts) -> dict[str, Any]:
    try:
        records = unpack(kept(folder.path, row.case_id).read_bytes())
    except (OSError, JournalError) as error:
        return {"damaged": f"its journal cannot be read: {error}"}
    return Diagram(records, owners(host)).plain(texts)


def _head(row: Row, campaign: Campaign | None) -> dict[str, Any]:
    """What is told of every case."""
    return {
        "id": row.case_id,
        "stratum": row.stratum,
        "outcome": row.outcome,
        "good": bool(row.good),
        "text": _cut(row.text),
        "problems": [_cut(text) for text in from_json(row.problems_json)[:5]],
        "values": _values(from_json(row.recipe_json), campaign),
        "guests": from_json(row.guests_json),
        "phases": from_json(row.phases_json),
    }


def _values(recipe: dict[str, Any], campaign: Campaign | None) -> dict[str, str]:
    written = recipe.get(VALUES, {})
    found = {}
    for name, value in written.items() if isinstance(written, dict) else ():
        axis = campaign.axes.get(name) if campaign is not None else None
        known = axis is not None and (axis.drawn or (isinstance(value, int) and value < len(axis.values)))
        found[name] = label(axis.value(value)) if axis is not None and known else f"value {json.dumps(value)}"
    if POINT in recipe:
        found[POINT] = label(recipe[POINT])
    return found


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
