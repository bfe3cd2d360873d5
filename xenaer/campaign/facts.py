"""What happened in a case, as its journal proves it: plain values, filled in by ``facts_read`` in one pass.

Moments are positions in the journal (``at``), not times: they are ordered even where virtual time stands still.
``NEVER`` is the position of what did not happen. Durations are milliseconds.
"""

from __future__ import annotations

from xenaer.campaign.ground import Ground, State

NEVER = -1
PERM_FAILURE = 3  # channel state of the question whose answer nobody looks at (xen-pci-errata.md 3.1)


class Recovery:
    """One round of a recovery: ``source`` had the error; ``verdicts`` by the function that the verdict names.

    ``hit`` are functions that a reset of this recovery hit, ``votes`` the last (phase, merged status) of each function.
    ``lost`` are functions that did not come back from a reset, with the reason.
    """

    __slots__ = (
        "at", "begun_ns", "done", "frozen", "hit", "lost", "ms", "number", "source", "task", "verdicts", "votes",
    )  # fmt: skip

    def __init__(self, at: int, begun_ns: int, source: str, frozen: bool, number: int) -> None:
        self.at = at
        self.begun_ns = begun_ns
        self.source = source
        self.frozen = frozen
        self.number = number  # of the round within its incident, from 1
        self.task = ""
        self.done = NEVER
        self.ms = 0.0
        self.verdicts: dict[str, str] = {}
        self.votes: dict[str, tuple[str, str]] = {}
        self.hit: set[str] = set()
        self.lost: dict[str, str] = {}


class Question:
    """One phase that pciback put to a guest. ``leaving``: the function was being taken from the guest already."""

    __slots__ = (
        "answer", "asked", "asked_ns", "bdf", "done", "guest", "heard", "leaving", "life", "ms", "phase", "recovery",
        "situation", "state",
    )  # fmt: skip

    def __init__(self, asked: int, bdf: str, guest: str, phase: str, state: int) -> None:
        self.asked = asked
        self.bdf = bdf
        self.guest = guest
        self.phase = phase
        self.state = state
        self.done = NEVER
        self.asked_ns = 0
        self.ms = 0.0
        self.answer = 0
        self.situation = ""
        self.leaving = False
        self.life: Life | None = None
        self.recovery: Recovery | None = None
        self.heard: set[str] = set()  # phases whose callback returned in the guest meanwhile


class Silence:
    """A function that a recovery concerned and whose guest was not asked. ``why``: a word of ``SILENCES``."""

    __slots__ = ("at", "bdf", "guest", "life", "recovery", "why")

    def __init__(self, at: int, bdf: str, guest: str, why: str, life: Life | None, recovery: Recovery | None) -> None:
        self.at = at
        self.bdf = bdf
        self.guest = guest
        self.why = why
        self.life = life
        self.recovery = recovery


# nobody has it; being detached; its guest has ended; still connecting (H13); HVM or without pcifront; closed; no AER code
SILENCES = ("nobody", "leaving", "ended", "young", "no-frontend", "closed", "no-code")


class Life:
    """One incarnation of a guest, from its creation to its end.

    ``steps`` are the steps of its end as (at, step, function, result). ``functions`` is what it had when that began,
    ``resets`` the reset that its end gave each function: (at, good). ``revoked`` and ``dead``: from when on nothing of
    it had any effect, and from when on it did not run any more.
    """

    __slots__ = (
        "asked_to_kill",
        "begun",
        "dead",
        "destroyed",
        "died",
        "domid",
        "done",
        "functions",
        "guest",
        "incident",
        "policy",
        "reason",
        "report_ns",
        "resets",
        "revoked",
        "shutdown",
        "steps",
    )  # fmt: skip

    def __init__(self, guest: str, domid: int, begun: int) -> None:
        self.guest = guest
        self.domid = domid
        self.begun = begun
        self.asked_to_kill = self.incident = self.shutdown = self.died = self.destroyed = self.done = NEVER
        self.revoked = self.dead = NEVER
        self.policy = ""
        self.reason = 0
        self.report_ns = 0
        self.steps: list[tuple[int, str, str, str]] = []
        self.functions: dict[str, None] = {}
        self.resets: dict[str, tuple[int, bool]] = {}

    def ending(self) -> str:
        """How it ended: ``killed``, ``crashed``, ``died``, ``ended`` (by the operator or its own will), or "": it lives.

        Whoever ended before anybody acted on a report has ended by itself (KILL-8).
        """
        if self.incident != NEVER and self.policy != "ignore":
            return "killed"
        if self.shutdown != NEVER:
            return "crashed" if self.reason in CRASHES else "ended"
        if self.died != NEVER and not (self.steps and self.steps[0][0] < self.died):
            return "died"
        return "ended" if self.steps or self.destroyed != NEVER else ""

    def end_begun(self) -> int:
        """The first sign of its end."""
        first = [self.incident, self.shutdown, self.died, self.steps[0][0] if self.steps else NEVER]
        return min((at for at in first if at != NEVER), default=NEVER)


FAULTS = ("inject", "gone", "back", "reset_fault", "hotplug", "message", "driver", "death")
MOMENTS = ("rest", "error_detected", "mmio_enabled", "slot_reset", "resume", "reset", "recovery", "kill")
CRASHES = frozenset({3, 4})  # SHUTDOWN_crash, SHUTDOWN_watchdog


class Facts:
    """Everything that the journal of one case says. Lists are in the order of the journal.

    ``errors``: (at, function, severity, unmasked status) as the core logged them. ``resets``: (at, subject, method,
    errno, functions hit). ``kills``: (at, function, incarnation, recovery) of pciback's reports. ``pending``: injected and not yet
    processed (correctable, uncorrectable); ``told``: functions whose error a root port was told of while it was
    pending; ``unrecovered``: logged, and no recovery began. ``targets``: guests that a fault was aimed at.
    """

    def __init__(self, ground: Ground, state: State) -> None:
        self.ground = ground
        self.state = state
        self.at = 0
        self.count = 0
        self.damaged: list[str] = []
        self.labels: set[str] = set()
        self.levels = [0] * 8  # kernel log lines by level
        self.rows: set[str] = set()  # rows of pciback's tables whose log line was seen
        self.said: dict[str, tuple[str, ...]] = {}  # function -> rows that may have said the last such line
        self.frontend_states: set[str] = set()
        self.oopses: list[tuple[str, str, str]] = []  # party, task, text
        self.party_lost: list[tuple[str, str]] = []
        # hardware
        self.injected: dict[str, list[int]] = {}  # function -> correctable bits, uncorrectable bits, how often
        self.touched: list[str] = []
        self.removed: set[str] = set()  # dom0 has forgotten them, their statistics too
        self.ports_told: list[str] = []  # triggered DPC, RP PIO
        self.masked: dict[str, tuple[int, int]] = {}
        self.struck: dict[str, str] = {}  # function -> what its hardware was made to do
        self.targets: dict[str, None] = {}  # guests
        self.driver_faults: list[tuple[str, str, str]] = []  # guest, phase, what its driver did
        self.strikes: set[tuple[str, str]] = set()  # kind of fault, where the recovery stood
        self.interrupts: list[tuple[int, str, int, int]] = []
        self.overflows = 0
        self.errors: list[tuple[int, str, str, int]] = []
        self.pending: dict[str, list[int]] = {}
        self.told: set[str] = set()
        self.unrecovered: dict[str, int] = {}
        self.in_flight: dict[str, int] = {}  # bits that the recovery under way is about
        # recoveries
        self.recoveries: list[Recovery] = []
        self.active: dict[str, Recovery] = {}  # port -> recovery
        self.round_of: dict[str, int] = {}
        self.outcomes: dict[str, str] = {}
        self.questions: list[Question] = []
        self.open: dict[str, Question] = {}
        self.asked_now: dict[str, str] = {}  # function -> phase of its last question
        self.silences: list[Silence] = []
        self.votes: list[tuple[str, str, str, str]] = []  # task, phase, vote, merged
        self.reset_begun: dict[str, int] = {}
        # resets and owners
        self.resets: list[tuple[int, str, str, int, tuple[str, ...]]] = []
        self.good_resets: dict[str, list[int]] = {}
        self.last_reset: dict[str, tuple[int, bool]] = {}
        self.broken: set[str] = set()  # the last bus reset or FLR failed: an FLR proves nothing any more
        self.used: dict[str, bool] = dict.fromkeys(state.owners, True)
        self.assigned: dict[str, list[int]] = {}
        self.released: dict[str, list[int]] = {}
        self.blocked: dict[str, list[int]] = {}
        self.handed_on: list[tuple[str, str, str]] = []  # function, last guest, next guest: without a reset
        self.twice_owned: list[tuple[str, str, str]] = []
        self.faulty: dict[str, str] = {}
        self.leaving: set[str] = set()
        self.detach_steps: set[str] = set()
        self.operated: set[str] = set()  # functions and guests that an operator's command was about
        # guests
        self.kills: list[tuple[int, str, Life | None, Recovery | None]] = []
        self.lives: dict[str, list[Life]] = {name: [Life(name, domid, NEVER)] for name, domid in state.alive.items()}
        self.callbacks: list[tuple[str, str, str]] = []  # guest, its device, phase
        self.drivers: list[tuple[str, str, str, str]] = []  # guest, its device, probe or remove, driver
        self.workloads: list[tuple[str, str, bool, str]] = []
        self.frozen: dict[tuple[str, str], int] = {}  # (guest, its device) -> frozen since, and no permission yet
        self.frozen_use: list[tuple[str, str, str]] = []
        self.late_acts: list[tuple[str, str]] = []  # guest, what it did after its death
        self.phase_ms: dict[str, float] = {}

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
