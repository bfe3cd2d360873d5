"""All mutants by label: the defects of the ``linux`` profile, the seeded mutations, and none at all for control."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from protocol.topology import DEFECTS
from xenaer.campaign.mutants.mutation import Mutation
from xenaer.campaign.mutants.rows_aer import AER_ROWS
from xenaer.campaign.mutants.rows_config import CONFIG_ROWS
from xenaer.campaign.mutants.rows_front import FRONT_ROWS
from xenaer.campaign.mutants.rows_pciback import PCIBACK_ROWS
from xenaer.campaign.mutants.rows_recovery import RECOVERY_ROWS
from xenaer.campaign.mutants.rows_reset import RESET_ROWS
from xenaer.campaign.mutants.rows_stub import STUB_ROWS

MUTATION_ROWS: tuple[Mutation, ...] = (
    *AER_ROWS, *RECOVERY_ROWS, *PCIBACK_ROWS, *CONFIG_ROWS, *RESET_ROWS, *FRONT_ROWS, *STUB_ROWS,
)  # fmt: skip
MUTATIONS: dict[str, Mutation] = {row.label: row for row in MUTATION_ROWS}
CONTROL = "unchanged"
DEFECT_LABELS = tuple(sorted(DEFECTS, key=lambda name: int(name[1:])))
KINDS = ("mutation", "defect", "control")  # in the order of the labels


def kind_of(label: str) -> str:
    """Which of ``KINDS`` a mutant is."""
    if label == CONTROL:
        return "control"
    return "defect" if label in DEFECTS else "mutation"


def mutant(label: str) -> tuple[str, Mutation | None]:
    """The defect that a mutant turns on (empty: none), and the mutation that it is. Raises KeyError."""
    if label == CONTROL:
        return "", None
    return (label, None) if label in DEFECTS else ("", MUTATIONS[label])


def labels_like(defects: Iterable[str], mutations: Iterable[str], *, control: bool) -> list[str]:
    """Mutants whose labels fit one of the patterns of their kind; the control comes last."""
    found = [*_like(MUTATIONS, mutations), *_like(DEFECT_LABELS, defects)]
    return [*found, CONTROL] if control and found else found


def _like(labels: Iterable[str], patterns: Iterable[str]) -> Iterator[str]:
    wanted = tuple(patterns)
    return (label for label in labels if any(fnmatchcase(label, pattern) for pattern in wanted))
