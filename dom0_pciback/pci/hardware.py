"""What kernel code may ask of the hardware: configuration accesses, the interrupt line, and who is below whom.

``dom0_pciback.pcie`` provides it. Nothing else of the hardware is visible from ``pci/`` and ``aer/``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from protocol.ids import Sbdf


class FunctionLike(Protocol):
    """One PCI function as enumeration sees it."""

    @property
    def sbdf(self) -> Sbdf:
        """Its address."""

    @property
    def kind(self) -> str:
        """Its PCI Express type, a ``protocol.topology.Kind``."""

    @property
    def parent(self) -> FunctionLike | None:
        """The port above; None on a root bus."""

    @property
    def children(self) -> Sequence[FunctionLike]:
        """The functions on the secondary bus of a port."""


class HierarchyLike(Protocol):
    """The hierarchy of one host."""

    interrupt: Callable[[Any], None]  # called with who raises its AER interrupt

    def wake(self, sbdf: Sbdf) -> None:
        """A function leaves its idle state."""

    def unplug(self, sbdf: Sbdf) -> None:
        """A function is taken out of its slot."""

    @property
    def functions(self) -> Mapping[Sbdf, FunctionLike]:
        """Every function, also those that do not answer."""

    def read(self, sbdf: Sbdf, offset: int, size: int) -> int:
        """Configuration read of 1, 2 or 4 bytes; all ones when nobody answers."""

    def write(self, sbdf: Sbdf, offset: int, size: int, value: int) -> None:
        """Configuration write of 1, 2 or 4 bytes; dropped when nobody answers."""
