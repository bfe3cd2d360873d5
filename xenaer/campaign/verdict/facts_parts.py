"""Of what the facts of a case are made: recoveries, questions, lives of guests. Plain values.

Moments are positions in the journal (``at``), not times: they are ordered even where virtual time stands still.
``NEVER`` is the position of what did not happen. Durations are milliseconds.
"""

from __future__ import annotations

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


# Nobody has it; it is being detached; its guest has ended; is still connecting (H13); is HVM or has no pcifront; has
# closed; has no AER code.
SILENCES = ("nobody", "leaving", "ended", "young", "no-frontend", "closed", "no-code")


class Life:
    """One incarnation of a guest, from its creation to its end.

    ``steps`` are the steps of its end as (at, step, function, result). ``functions`` is what it had when that began,
    ``resets`` the reset that its end gave each function: (at, good). ``revoked`` and ``dead``: from when on nothing of
    it had any effect, and from when on it did not run any more.
    """

    __slots__ = (
        "asked_to_kill",
        "asked_to_kill_ns",
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
        self.asked_to_kill_ns = 0
        self.asked_to_kill = self.incident = self.shutdown = self.died = self.destroyed = self.done = NEVER
        self.revoked = self.dead = NEVER
        self.policy = ""
        self.reason = 0
        self.report_ns = 0
        self.steps: list[tuple[int, str, str, str]] = []
        self.functions: dict[str, None] = {}
        self.resets: dict[str, tuple[int, bool]] = {}

    def ending(self) -> str:
        """``killed``, ``crashed``, ``died``, ``ended`` (by the operator or its own will), or "": it lives.

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
