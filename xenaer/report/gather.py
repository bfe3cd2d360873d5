"""Everything that the page shows, as plain data, and a sentence for whatever it cannot show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.topology import HostSpec
from xenaer.campaign.campaign import Campaign
from xenaer.campaign.case import Outcome
from xenaer.campaign.run.rows import EFFECTS
from xenaer.campaign.run.run_folder import RESULTS, RunFolder, RunFolderError, explained
from xenaer.campaign.run.runner import RESULTS_JSON
from xenaer.campaign.running import campaign_of
from xenaer.campaign.verdict.coverage import sections, universe
from xenaer.campaign.verdict.guest_verdict import GuestOutcome
from xenaer.report import cases, picture
from xenaer.report.columns import DERIVED, Column, Columns
from xenaer.report.counting import Counts
from xenaer.report.durations import PER_DECADE, durations
from xenaer.report.empty import empty
from xenaer.report.sequence import KINDS, Texts
from xenaer.yaml_lines import InputError

CELLS_MAX = 100_000  # of all pairs of axes together, about 1.5 MB

Data = dict[str, Any]


@dataclass(slots=True)
class Subject:
    """A run to be shown. ``campaign`` is None if it cannot be had, ``reason`` says why. ``complete``: it ended."""

    folder: RunFolder
    campaign: Campaign | None
    reason: str
    complete: bool


def subject_of(folder: RunFolder) -> Subject:
    """What can be found out about a run from its directory alone."""
    try:
        campaign, reason = campaign_of(folder.options), ""
    except InputError as error:
        campaign, reason = None, error.problems[0]
    except (RunFolderError, OSError) as error:
        campaign, reason = None, str(error)
    return Subject(folder, campaign, reason, _complete(folder))


def _complete(folder: RunFolder) -> bool:
    """What ``results.json`` says, if it is about the cases that are there now."""
    try:
        data = json.loads((folder.path / RESULTS_JSON).read_text(encoding="utf-8"))
        with explained(folder.path / RESULTS):
            return bool(data["complete"]) and data["cases"] == folder.store.count()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def shared_host(campaign: Campaign | None) -> HostSpec | None:
    """The host that all cases have in common: scenarios have one each, mutants several."""
    if campaign is None or (campaign.form.explore is not None and campaign.form.explore.brings_all):
        return None
    return campaign.host


def gather(subject: Subject) -> Data:
    """Read the results once. Raises RunFolderError."""
    folder, campaign = subject.folder, subject.campaign
    host = shared_host(campaign)
    columns = Columns(campaign) if campaign is not None else None
    counts, texts = Counts(columns), Texts()
    with explained(folder.path / RESULTS):
        counts.read(folder.store)
        found: Data = {
            "outcomes": [str(outcome) for outcome in Outcome],
            "guest_outcomes": [str(outcome) for outcome in GuestOutcome],
            "strata": _strata(counts),
            "effects": _effects(counts),
            "matrix": _matrix(counts, columns),
            "blast": picture.blast(counts.blast),
            "times": durations(counts.times),
            "per_decade": PER_DECADE,
            "coverage": _coverage(subject),
            "failing": cases.failing(folder, campaign),
        }
        found["cases"], found["no_room"] = cases.diagrams(folder, campaign, host, texts)
    sources = [item["source"] for item in found["blast"]]
    found["host"] = picture.tree(host, sources) if host is not None else None
    found["remarks"] = picture.remarks(host) if host is not None else []
    found |= {"kinds": KINDS, "texts": texts.every}
    found["about"] = _about(subject, counts)
    found["empty"] = empty(found, subject.reason, host is None)
    return found


def _about(subject: Subject, counts: Counts) -> Data:
    options, campaign = subject.folder.options, subject.campaign
    failing = sum(count for (_, code), count in counts.strata.items() if not code % 2)
    return {
        "name": options.name,
        "text": " ".join(campaign.form.about.split()) if campaign is not None else "",
        "seed": options.seed,
        "world": options.world,
        "size": options.size,
        "begun": options.begun,
        "versions": options.versions,
        "run": Path(subject.folder.path).name,
        "host": campaign.host.name if campaign is not None else "",
        "profile": _profile(campaign) if campaign is not None else "",
        "complete": subject.complete,
        "cases": counts.cases,
        "failing": failing,
        "reason": subject.reason,
    }


def _profile(campaign: Campaign) -> str:
    """Of all cases; a campaign may choose another one than its host, or one for each case."""
    given = campaign.form.profile or campaign.host.profile
    return f"by axis {given[1:]}" if str(given).startswith("$") else str(given)


def _strata(counts: Counts) -> list[Data]:
    """Cases per outcome, as [good, not good] each."""
    names = list(Outcome)
    found: dict[str, Data] = {}
    for (name, code), count in counts.strata.items():
        entry = found.setdefault(name, {"name": name, "outcomes": {}})
        pair = entry["outcomes"].setdefault(str(names[code // 2]), [0, 0])
        pair[0 if code % 2 else 1] += count
    return [found[name] for name in sorted(found)]


def _effects(counts: Counts) -> list[list[Any]]:
    """How far faults got: (stage, cases)."""
    return [
        [name, sum(count for bits, count in counts.effects.items() if bits >> bit & 1)]
        for bit, name in enumerate(EFFECTS)
    ]


def _matrix(counts: Counts, columns: Columns | None) -> Data:
    """Axes that have several values, and cells of each pair of them."""
    if columns is None:
        return {"axes": [], "pairs": {}, "dropped": []}
    every = columns.every
    used = [number for number, column in enumerate(every) if _tells_something(column, every[:number])]
    pairs: dict[str, list[tuple[int, int, int, int]]] = {}
    room = CELLS_MAX
    for (one, other), cells in sorted(counts.cells(), key=lambda item: (len(item[1]), item[0])):
        room -= len(cells)
        if one in used and other in used and room >= 0:
            pairs[f"{used.index(one)},{used.index(other)}"] = cells
    axes = [{"name": every[number].name, "labels": every[number].labels} for number in used]
    return {"axes": axes, "pairs": pairs, "dropped": columns.dropped}


def _tells_something(column: Column, before: list[Column]) -> bool:
    """It has a value; what was found out about the cases has several, and no axis says the same."""
    if column.name not in DERIVED:
        return bool(column.labels)
    return len(column.labels) > 1 and not any(set(column.labels) == set(other.labels) for other in before)


def _coverage(subject: Subject) -> Data:
    reached = {point: count for point, count, _ in subject.folder.store.coverage()}
    if subject.campaign is None:
        return {"sections": [], "reached": sorted(reached.items())}
    found = [section._asdict() for section in sections(universe(subject.campaign.common_host), reached)]
    return {"sections": found, "reached": sorted(reached.items())}
