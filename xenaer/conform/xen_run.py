"""Recorded Xen cases one after the other: each on a machine of its own, racy ones in several orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kernel_stub.kernel import Choose, first_choice
from xenaer.conform.explore import explore
from xenaer.conform.run import INTERLEAVINGS, Outcome, first_identical
from xenaer.conform.steps import UnsupportedError
from xenaer.conform.xen_case import XenCase
from xenaer.conform.xen_commands import Inject, XlCommand
from xenaer.conform.xen_compare import differing, explained
from xenaer.conform.xen_emit import emit
from xenaer.conform.xen_keys import OUTPUTS
from xenaer.conform.xen_perform import perform

RACY_XL = ("pci-attach", "pci-detach", "destroy")
SEED = 1


class XenConformity:
    """Performs cases. ``fields``: what is compared; ``interleavings``: how many orders of a racy case are tried."""

    def __init__(self, fields: Sequence[str] = OUTPUTS, interleavings: int = INTERLEAVINGS) -> None:
        self.fields = fields
        self.interleavings = interleavings

    def run(self, case: XenCase) -> Outcome:
        """Perform and compare one case."""
        try:
            return self._search(case)
        except UnsupportedError as reason:
            return Outcome("unsupported", text=[str(reason)])

    def _search(self, case: XenCase) -> Outcome:
        """The first order that gives the recorded trace, else the first one that was tried."""
        return first_identical(
            _orders(case, self.interleavings if is_racy(case) else 1),
            lambda emitted: differing(emitted, case.recorded, self.fields),
            lambda key, emitted: explained(key, emitted, case.recorded),
        )


def is_racy(case: XenCase) -> bool:
    """Another error, a detach or a destroy happens while the first error may be handled.

    Then the order of independent tasks is chance (golden/xen/README.md, "How to compare").
    """
    commands = [command for _, commands in case.actions for command in commands]
    return any(isinstance(c, Inject) or (isinstance(c, XlCommand) and c.words[0] in RACY_XL) for c in commands)


def _orders(case: XenCase, limit: int) -> Iterator[dict[str, Any]]:
    """``limit`` runs: by turns another order of dom0's tasks, and other times that messages take."""

    def once(choose: Choose, seed: int = SEED) -> dict[str, Any]:
        return emit(perform(case, seed, choose), case)

    by_choice = explore(once, limit)
    for number in range(limit):
        found = next(by_choice, None) if number % 2 == 0 else None
        yield once(first_choice, SEED + number) if found is None else found
