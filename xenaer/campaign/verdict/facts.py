"""What happened in a case, as its journal proves it: plain values, filled in by ``facts_read`` in one pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from xenaer.campaign.verdict.facts_parts import NEVER, Life, Question, Recovery, Silence
from xenaer.campaign.verdict.ground import Ground, State

__all__ = ["NEVER", "Facts"]


@dataclass(slots=True, eq=False)
class Facts:
    """Everything that the journal of one case says. Lists are in the order of the journal.

    ``errors``: (at, function, severity, unmasked status) as the core logged them. ``resets``: (at, subject, method,
    errno, functions hit). ``kills``: (at, function, incarnation, recovery) of pciback's reports. ``pending``: injected
    and not yet processed (correctable, uncorrectable); ``told``: functions whose error a root port was told of while it
    was pending; ``unrecovered``: logged, and no recovery began. ``targets``: guests that a fault was aimed at.
    """

    ground: Ground
    state: State
    at: int = 0
    count: int = 0
    damaged: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    levels: list[int] = field(default_factory=lambda: [0] * 8)  # kernel log lines by level
    rows: set[str] = field(default_factory=set)  # rows of pciback's tables whose log line was seen
    # function -> rows that may have said the last such line
    said: dict[str, tuple[str, ...]] = field(default_factory=dict)
    frontend_states: set[str] = field(default_factory=set)
    oopses: list[tuple[str, str, str]] = field(default_factory=list)  # party, task, text
    party_lost: list[tuple[str, str]] = field(default_factory=list)
    # hardware
    # function -> correctable bits, uncorrectable bits, how often
    injected: dict[str, list[int]] = field(default_factory=dict)
    touched: list[str] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)  # dom0 has forgotten them, their statistics too
    left: dict[str, int] = field(default_factory=dict)  # functions that their slot has lost, and since when
    ports_told: list[str] = field(default_factory=list)  # triggered DPC, RP PIO
    masked: dict[str, tuple[int, int]] = field(init=False)
    struck: dict[str, str] = field(default_factory=dict)  # function -> what its hardware was made to do
    targets: dict[str, None] = field(default_factory=dict)  # guests
    driver_faults: list[tuple[str, str, str]] = field(default_factory=list)  # guest, phase, what its driver did
    strikes: set[tuple[str, str]] = field(default_factory=set)  # kind of fault, where the recovery stood
    interrupts: list[tuple[int, str, int, int]] = field(default_factory=list)
    overflows: int = 0
    errors: list[tuple[int, str, str, int]] = field(default_factory=list)
    pending: dict[str, list[int]] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    unrecovered: dict[str, int] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)  # bits that the recovery under way is about
    # recoveries
    recoveries: list[Recovery] = field(default_factory=list)
    active: dict[str, Recovery] = field(default_factory=dict)  # port -> recovery
    round_of: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    open: dict[str, Question] = field(default_factory=dict)
    asked_now: dict[str, str] = field(default_factory=dict)  # function -> phase of its last question
    silences: list[Silence] = field(default_factory=list)
    votes: list[tuple[str, str, str, str]] = field(default_factory=list)  # task, phase, vote, merged
    reset_begun: dict[str, int] = field(default_factory=dict)
    # resets and owners
    resets: list[tuple[int, str, str, int, tuple[str, ...]]] = field(default_factory=list)
    good_resets: dict[str, list[int]] = field(default_factory=dict)
    last_reset: dict[str, tuple[int, bool]] = field(default_factory=dict)
    used: dict[str, bool] = field(init=False)
    assigned: dict[str, list[int]] = field(default_factory=dict)
    released: dict[str, list[int]] = field(default_factory=dict)
    # function, last guest, next guest: without a reset
    handed_on: list[tuple[str, str, str]] = field(default_factory=list)
    twice_owned: list[tuple[str, str, str]] = field(default_factory=list)
    faulty: dict[str, str] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    cut_off: set[str] = field(default_factory=set)  # a detach has blocked their DMA
    detach_steps: set[str] = field(default_factory=set)
    operated: set[str] = field(default_factory=set)  # functions and guests that an operator's command was about
    # guests
    kills: list[tuple[int, str, Life | None, Recovery | None]] = field(default_factory=list)
    lives: dict[str, list[Life]] = field(init=False)
    callbacks: list[tuple[str, str, str]] = field(default_factory=list)  # guest, its device, phase
    drivers: list[tuple[str, str, str, str]] = field(default_factory=list)  # guest, its device, probe or remove, driver
    workloads: list[tuple[str, str, bool, str]] = field(default_factory=list)
    # (guest, its device) -> frozen since, and no permission yet
    frozen: dict[tuple[str, str], int] = field(default_factory=dict)
    frozen_use: list[tuple[str, str, str]] = field(default_factory=list)
    hurried: list[tuple[str, str]] = field(default_factory=list)  # port that was reset, guest that was still running
    late_acts: list[tuple[str, str]] = field(default_factory=list)  # guest, what it did after its death
    phase_ms: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.masked = self.ground.masks.copy()
        self.used = dict.fromkeys(self.state.owners, True)
        self.lives = {name: [Life(name, domid, NEVER)] for name, domid in self.state.alive.items()}

    def strikes_now(self, kind: str) -> None:
        """A fault strikes: a word of ``FAULTS``, and one of ``MOMENTS`` for what is under way."""
        if self.reset_begun:
            moment = "reset"
        elif self.open:
            moment = next(iter(self.open.values())).phase
        elif self.active:
            moment = "recovery"
        else:
            ending = any(lives[-1].steps and lives[-1].destroyed == NEVER for lives in self.lives.values())
            moment = "kill" if ending else "rest"
        self.strikes.add((kind, moment))

    def life(self, guest: str) -> Life | None:
        """The present incarnation of a guest, or its last one."""
        lives = self.lives.get(guest)
        return lives[-1] if lives else None

    def guest_of(self, bdf: str) -> str:
        """The guest that pciback knows the function for, else that of the IOMMU; "" if nobody has it."""
        known = self.state.exported.get(bdf)
        return known[0] if known is not None else self.state.owners.get(bdf, "")

    def recovery_of(self, bdf: str) -> Recovery | None:
        """The recovery under way that concerns a function."""
        active = self.active
        if active:
            for port in self.ground.above.get(bdf, ()):
                if port in active:
                    return active[port]
        return None

    def had(self, life: Life, bdf: str, at: int) -> bool:
        """Did this incarnation have the function then."""
        if life.begun > at or NEVER < life.destroyed < at:
            return False
        return bdf in life.functions if life.functions else self.guest_of(bdf) == life.guest
