"""What is looked up once a case is over: plain values that the runner fills in and the verdict reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

VERIFIED, FAILED, NOT_TRIED = "verified", "failed", "not-tried"
CLEAN, DIRTY, ABSENT = "clean", "dirty", "absent"
Counters = Mapping[str, Mapping[str, int]]  # function -> severity (COR, NONFATAL, FATAL) -> errors counted


@dataclass(frozen=True, slots=True)
class Workload:
    """Traffic through one device after the case: ``verified``, ``failed`` or ``not-tried``, and what differed."""

    state: str = NOT_TRIED
    text: str = ""


@dataclass(frozen=True, slots=True)
class DeviceAfter:
    """One function after the case.

    ``state`` and ``text`` are those of ``judge.config_state``; ``owner`` the guest that has it ("": nobody);
    ``faulty`` why nobody gets it (KILL-5). ``left`` are unmasked (correctable, uncorrectable) status bits that are
    still set; None if nobody looked.
    """

    state: str = CLEAN
    text: str = ""
    owner: str = ""
    faulty: str = ""
    left: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Afterwards:
    """Everything that was looked up; what is missing was not looked up, and the journal decides alone.

    ``guests``: ``running``, ``paused``, ``shutdown`` or ``absent``, as ``judge.list_state`` says. ``workload`` by
    (guest, function). ``ended``: every recovery and every kill has ended. ``guard`` says which limit of time ended the
    case, ``problem`` what went wrong in the harness itself; both empty if nothing did. ``counters``: how much dom0's
    statistics grew in this case.
    """

    guests: Mapping[str, str] = field(default_factory=dict)
    workload: Mapping[tuple[str, str], Workload] = field(default_factory=dict)
    devices: Mapping[str, DeviceAfter] = field(default_factory=dict)
    ended: bool = True
    guard: str = ""
    problem: str = ""
    counters: Counters | None = None


NOTHING_LOOKED_UP = Afterwards()
