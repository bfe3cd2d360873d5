"""``docs/MUTANTS.md``, written from a run: ``python -m xenaer.campaign.mutants.documents RUN [DOCS]``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from dom0_pciback.pciback.profile import Defect
from xenaer.campaign.build import Builder
from xenaer.campaign.case import CaseResult
from xenaer.campaign.form import MUTANT
from xenaer.campaign.mutants.catalogue import CONTROL, DEFECT_LABELS, MUTATIONS, kind_of
from xenaer.campaign.mutants.player import FOUND_BY
from xenaer.campaign.run.rows import to_result
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.running import campaign_of

SHOWN = 160  # characters of a problem
FOLDER = re.compile(r"/\S*/(?=(?:dom0_pciback|domu_pcifront|hypervisor_stub|kernel_stub|protocol|xenaer)/)")
HEAD = """# Mutants

Written by `python -m xenaer.campaign.mutants.documents RUN` from a run of `xenaer campaign run mutants`. Each row is
one mutant: a defect of the real code (7.3 of the specification of the split driver) put onto every host, or a mistake
seeded into one of the hardened cores (`xenaer/campaign/mutants/rows_*.py`). The shipped campaigns were played against
it as they are, in the order of `campaigns/mutants.yaml`, until a case failed by what the campaign itself expects; that
case is named. Later campaigns were not asked any more.

{figures}
"""
TABLE = """
## {title}

| mutant | what it breaks | found by | case | outcome | what the campaign said |
| --- | --- | --- | --- | --- | --- |
"""


def mutants_text(results: Mapping[str, CaseResult]) -> str:
    """The document, from the results by label."""
    parts = [HEAD.format(figures="; ".join(_figures(results)) + ".")]
    for title, labels in (("Defects", DEFECT_LABELS), ("Mutations", tuple(MUTATIONS))):
        rows = [_row(label, results[label]) for label in labels if label in results]
        parts.append(TABLE.format(title=title) + "\n".join(rows) + "\n")
    return "".join(parts)


def _figures(results: Mapping[str, CaseResult]) -> Iterator[str]:
    for kind, what in (("defect", "defects"), ("mutation", "mutations")):
        found = [result.good for label, result in results.items() if kind_of(label) == kind]
        yield f"{sum(found)} of {len(found)} {what} are found"
    if CONTROL in results:
        yield "nothing is found in the cores as they are" if results[CONTROL].good else "THE CONTROL FAILED"


def _row(label: str, result: CaseResult) -> str:
    breaks = MUTATIONS[label].breaks if label in MUTATIONS else Defect(label).description
    found = (result.feedback or {}).get(FOUND_BY)
    if found is None:
        said = result.text.partition(": ")[2]
        return _cells(label, breaks, "**nobody**", "", result.outcome, said)
    where = found["case"] or ("could not start" if found["how"] == "start" else "rates")
    return _cells(label, breaks, found["campaign"], where, found["outcome"], found["problem"])


def _cells(*cells: str) -> str:
    return "| " + " | ".join(_short(cell).replace("|", "/") for cell in cells) + " |"


def _short(text: str) -> str:
    text = FOLDER.sub("", text)  # where this program lies on the machine of the run
    return text if len(text) <= SHOWN else text[:SHOWN].rstrip() + " ..."


def labels_in(text: str) -> list[str]:
    """The mutants of a written document, in its order."""
    first = (line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| "))
    return [label for label in first if label in MUTATIONS or label in DEFECT_LABELS]


def results_of(run: Path) -> dict[str, CaseResult]:
    """What a run came to, by label. Raises RunFolderError, InputError."""
    with RunFolder.read(run) as folder:
        builder = Builder(campaign_of(folder.options))
        rows = list(folder.store.rows())
    return {builder.values(json.loads(row.recipe_json))[MUTANT]: to_result(row) for row in rows}


def main(run: Path, docs: Path) -> None:
    """Write the document."""
    (docs / "MUTANTS.md").write_text(mutants_text(results_of(run)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs"))
