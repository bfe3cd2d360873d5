"""Groups of a recovery: the functions below a port that have the same owner (H14, H15).

Votes of one group never enter the merge of another; each group ends with its own verdict.
"""

from __future__ import annotations

from enum import StrEnum

from dom0_pciback.aer.recovery import ResetSubordinates
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pciback.ask import Budget
from dom0_pciback.pciback.pciback import DRIVER_NAME, Pciback
from protocol.ers import ErsResult


class Kind(StrEnum):
    """Who looks after the functions of a group."""

    GUEST = "guest"
    NOBODY = "nobody"  # seized, but no guest has it
    NATIVE = "dom0"  # a driver of dom0 itself, the port driver for instance

    __hash__ = str.__hash__


class Outcome(StrEnum):
    """How a recovery ended for one function (H14)."""

    RECOVERED = "recovered"
    KILLED = "killed"
    DETACHED = "detached"
    SUPERSEDED = "superseded"  # its port was contained meanwhile: another recovery begins with it again
    UNASSIGNED_OK = "unassigned-ok"
    UNTOUCHED = "untouched"
    FAULTY = "faulty"
    FAILED = "failed"  # a native driver of dom0 gave up: nobody to kill

    __hash__ = str.__hash__


# Verdict of a group from the outcomes of its functions; first row that applies wins (H14).
VERDICTS: tuple[tuple[frozenset[Outcome], str], ...] = (
    (frozenset({Outcome.KILLED, Outcome.FAULTY, Outcome.FAILED}), "failed"),
    (frozenset({Outcome.DETACHED, Outcome.SUPERSEDED}), "abandoned"),
    (frozenset(Outcome), "successful"),
)


_CAN_RECOVER = ErsResult.CAN_RECOVER  # looking a member up in its class takes as long as a call
_GUEST, _NOBODY, _NATIVE = Kind.GUEST, Kind.NOBODY, Kind.NATIVE


class Group:
    """Functions of one owner and how far they are. ``over``: nothing more is asked of it (H16)."""

    __slots__ = (
        "asks_reset", "budget", "functions", "kind", "no_service", "outcomes", "over", "owner", "reset", "silent",
        "status", "voted",
    )  # fmt: skip

    def __init__(self, kind: Kind, owner: int | None, budget: Budget) -> None:
        self.kind = kind
        self.owner = owner
        self.budget = budget
        self.functions: list[PciDev] = []
        self.outcomes: dict[PciDev, Outcome] = {}
        self.status: int = _CAN_RECOVER
        self.voted = False
        self.silent: list[PciDev] = []  # nobody to ask in later phases
        self.no_service: list[PciDev] = []  # bystanders whose guest said NONE (H20)
        self.asks_reset: list[PciDev] = []  # functions that voted NEED_RESET
        self.reset: list[PciDev] = []  # functions that a reset hit
        self.over = False

    def asked(self) -> list[PciDev]:
        """Functions that still take part."""
        return [dev for dev in self.functions if dev not in self.outcomes]

    def end(self, outcome: Outcome) -> None:
        """All functions that have no outcome yet get this one, and the group is over."""
        for dev in self.asked():
            self.outcomes[dev] = outcome
        self.over = True

    def reopen(self) -> None:
        """What seemed good is not: only bad ends stand."""
        bad = (Outcome.KILLED, Outcome.DETACHED, Outcome.SUPERSEDED, Outcome.FAULTY, Outcome.FAILED)
        self.outcomes = {dev: outcome for dev, outcome in self.outcomes.items() if outcome in bad}

    def verdict(self) -> str:
        """``successful``, ``failed`` or ``abandoned``."""
        found = frozenset(self.outcomes.values())
        for outcomes, word in VERDICTS:
            if found & outcomes or not found:
                return word
        raise AssertionError("the last row has every outcome")

    def only_ports(self) -> bool:
        """Ports of a switch that have not failed: nobody's devices, so no verdict of their own."""
        return all(dev.is_bridge for dev in self.functions) and self.verdict() != "failed"

    def names(self) -> str:
        """The functions, for the verdict line of one of several groups."""
        return " ".join(dev.name for dev in self.functions)


class Round:
    """One pass over all groups: whose error, below which port, and what was set when it began."""

    __slots__ = ("before", "bridge", "groups", "reset", "source")

    def __init__(
        self, source: PciDev, bridge: PciDev, groups: list[Group], before: int, reset: ResetSubordinates
    ) -> None:
        self.source = source
        self.bridge = bridge
        self.groups = groups
        self.before = before  # uncorrectable status of the source at the start, 0 again after its reset
        self.reset = reset  # how all that is below the bridge is reset at once

    def concerned(self) -> list[Group]:
        """The group of the source; all groups if the source is the port itself."""
        return [group for group in self.groups if self.source in group.functions] or self.groups

    def group_of(self, dev: PciDev) -> Group:
        """The group that ``dev`` is in."""
        return next(group for group in self.groups if dev in group.functions)

    def status(self) -> int:
        """Status of the source's group, or of the first one."""
        concerned = self.concerned()
        return concerned[0].status if concerned else int(ErsResult.RECOVERED)


Owner = tuple[Kind, int | None]


def make_groups(pciback: Pciback, functions: tuple[PciDev, ...], budgets: dict[Owner, Budget], ns: int) -> list[Group]:
    """Sort ``functions`` (in bus order) into groups; the order of the groups is that of their first function.

    ``budgets`` lives as long as the incident: whoever appears in it again has what is left, others ``ns`` (H25).
    """
    groups: dict[Owner, Group] = {}
    for dev in functions:
        key = _owner(pciback, dev)
        if key not in groups:
            groups[key] = Group(*key, budgets.setdefault(key, Budget(ns)))
        groups[key].functions.append(dev)
    return list(groups.values())


def _owner(pciback: Pciback, dev: PciDev) -> Owner:
    if dev.driver is None or dev.driver.name != DRIVER_NAME:
        return _NATIVE, None
    psdev = pciback.slots.get(dev.sbdf)
    domid = psdev.domid if psdev is not None else None
    return (_NOBODY, None) if domid is None else (_GUEST, domid)
