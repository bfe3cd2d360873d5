"""What a mutation is: a piece of one module's text, and what stands there instead."""

from __future__ import annotations

from typing import NamedTuple

# The hardened cores: what the campaigns promise to watch. Packages, or modules by themselves.
CORES = (
    "dom0_pciback.aer",
    "dom0_pciback.pci",
    "dom0_pciback.pciback",
    "dom0_pciback.pcie",
    "domu_pcifront",
    "hypervisor_stub",
)


class MutationError(ValueError):
    """A mutation that does not fit the module any more; the text says which and why."""


class Mutation(NamedTuple):
    """A mistake as people make it. ``old`` stands exactly once in ``module``; ``breaks``: what, by which rule."""

    label: str
    module: str
    old: str
    new: str
    breaks: str

    def applied(self, text: str) -> str:
        """The module's text with the mistake in it. Raises MutationError."""
        found = text.count(self.old)
        if found != 1:
            raise MutationError(f"mutation {self.label}: {self.old!r} stands {found} times in {self.module}, not once")
        return text.replace(self.old, self.new)
