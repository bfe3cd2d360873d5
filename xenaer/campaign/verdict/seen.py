"""A case, looked at from every side that its verdict and its invariants ask for."""

from __future__ import annotations

from dom0_pciback.pci.ownership import owns_aer
from xenaer.campaign.verdict.afterwards import NOTHING_LOOKED_UP, Afterwards
from xenaer.campaign.verdict.ends import ResetFault, reset_faults
from xenaer.campaign.verdict.facts import Facts
from xenaer.campaign.verdict.guest_verdict import GuestOutcome, GuestVerdict, guest_verdicts


class Seen:
    """Facts, what was looked up, and what follows from both.

    ``guests`` by name; ``faults`` are resets that are missing or out of order; ``lost`` is the first error that nobody
    processed, as a text; ``blamed`` a function that was taken for its source.
    """

    __slots__ = ("after", "blamed", "facts", "faults", "guests", "lost")

    def __init__(self, facts: Facts, after: Afterwards = NOTHING_LOOKED_UP) -> None:
        self.facts = facts
        self.after = after
        self.guests = guest_verdicts(facts, after)
        self.faults = reset_faults(facts, after)
        self.lost = lost_error(facts, after)
        self.blamed = _blamed(facts) if self.lost else ""

    def guest(self, outcome: GuestOutcome) -> GuestVerdict | None:
        """The first guest with this outcome."""
        return next((found for found in self.guests.values() if found.row.outcome is outcome), None)

    def fault(self, kind: str) -> ResetFault | None:
        """The first reset that is missing or out of order."""
        return next((fault for fault in self.faults if fault.kind == kind), None)


def lost_error(facts: Facts, after: Afterwards) -> str:
    """The first error that should have been processed and was not; "" if there is none."""
    boot = facts.ground.host.boot
    if not owns_aer(boot) and not boot.firmware_first:
        return ""
    for bdf, (cor, uncor) in facts.pending.items():
        device = after.devices.get(bdf)
        left = device.left if device is not None and device.left is not None else (0, 0)
        if bdf in facts.told:
            return f"a root port was told of the error {uncor or cor:08x} of {bdf}, and nobody processed it"
        if left[0] & cor or left[1] & uncor:
            return f"{bdf} shows the error {uncor or cor:08x}, and nobody processed it"
    for bdf in facts.unrecovered:
        return f"the error of {bdf} was logged, and no recovery began"
    return ""


def _blamed(facts: Facts) -> str:
    """A function that was logged or recovered although nothing had happened there, nor above or below it."""
    above = facts.ground.above
    origins = set(facts.injected) | set(facts.touched) | set(facts.ports_told)
    if not facts.injected:
        return ""
    suspects = [bdf for _, bdf, _, _ in facts.errors] + [recovery.source for recovery in facts.recoveries]
    excused = origins.union(*(above.get(bdf, ()) for bdf in origins))
    return next((bdf for bdf in suspects if bdf not in excused), "")
