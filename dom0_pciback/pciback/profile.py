"""Profiles: which defects of the real code are on, and what pciback decides in each situation.

The four error callbacks of pciback are one decision: what is the situation, and what follows from it in
this phase. ``PCIBACK_LINUX`` is xen-pci-errata.md 3.1, ``PCIBACK_HARDENED`` the same situations under
H3, H8, H11, H13, H15, H16 and the unassigned rows of 9.2, ``PCIBACK_BYSTANDER`` what H20 changes for a
function that has no fault and is not reset. In a table the first row that fits wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple

from kernel_stub.kernel import DEBUG, ERR
from protocol.ers import ErsResult, Phase


class Defect(StrEnum):
    """Defects of the real code that a profile may have (xen-pci.md 7.3)."""

    D1 = "D1"
    D2 = "D2"
    D3 = "D3"
    D4 = "D4"
    D5 = "D5"
    D6 = "D6"
    D7 = "D7"
    D8 = "D8"
    D9 = "D9"
    D10 = "D10"
    D11 = "D11"
    D12 = "D12"
    D13 = "D13"
    D14 = "D14"
    D15 = "D15"
    D16 = "D16"
    D17 = "D17"
    D18 = "D18"
    D19 = "D19"
    D20 = "D20"
    D21 = "D21"
    D22 = "D22"
    D23 = "D23"
    D24 = "D24"
    D25 = "D25"
    D26 = "D26"

    __hash__ = str.__hash__

    @property
    def description(self) -> str:
        """The defect in one line."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS: dict[Defect, str] = {
    Defect.D1: "one lock for all of dom0 is held while a guest is asked: a mute guest stalls everybody",
    Defect.D2: "a disconnect unmaps the shared page although a recovery still waits on it",
    Defect.D3: "a guest that does not answer in time counts as recovered and lives on",
    Defect.D4: "the pending mark survives a time-out: the late answer's event is never acknowledged",
    Defect.D5: "seizing a device re-initialises the wait queue under those who sleep on it",
    Defect.D6: "config requests carry no serial: a late reply completes the next request",
    Defect.D7: "a config request that times out does not look for a waiting AER request",
    Defect.D8: "the guest's vote reaches the AER core unchecked",
    Defect.D9: "request and reply share a word: clearing the flag alone is an answer",
    Defect.D10: "AER requests carry no serial: a late answer acknowledges the next phase",
    Defect.D11: "a device detached or unassigned counts as recovered although nobody looked after it",
    Defect.D12: "an export that fails half way leaves the device assigned",
    Defect.D13: "looking up the gsi keeps a reference: the device can never be unbound",
    Defect.D14: "pcifront calls callbacks that are not there, leaks a reference, takes no device lock",
    Defect.D15: "the aerState transaction is repeated without limit under the global lock",
    Defect.D16: "a frontend that missed the backend's Connected waits for ever",
    Defect.D17: "only the first of several devices is exported",
    Defect.D18: "bridges are accepted because the class code is shifted too far",
    Defect.D19: "releasing one of two identical devices drops the quirks of the other",
    Defect.D20: "a guest dies for a device that it has just given back",
    Defect.D21: "a guest that is still connecting is killed as if it had no frontend",
    Defect.D22: "a guest whose driver is just being removed answers NONE and is killed",
    Defect.D23: "an error during seizure or reset waits long for the device lock and then counts as recovered",
    Defect.D24: "permissive mode survives the put back and is there for the next guest",
    Defect.D25: "a device whose reset failed is assignable again",
    Defect.D26: "a frontend ignores a reconfiguration while its backend dies and keeps stale buses",
}


class Situation(StrEnum):
    """What pciback finds before it asks the guest, or how the asking ended."""

    NOT_ASSIGNED = "not-assigned"  # no guest has the function
    NO_SHARED_PAGE_YOUNG = "no-shared-page-young"  # a PV guest within its grace time to connect (H13)
    NO_SHARED_PAGE = "no-shared-page"  # HVM, never connected, or disconnected while the domain lives
    CHANNEL_LOST = "channel-lost"  # closed or broken while the guest was asked, and the domain lives (X33, X48)
    NO_AER_HANDLER = "no-aer-handler"  # the page says that pcifront has no AER code
    NO_GUEST_ADDRESS = "no-guest-address"  # the virtual bus has lost the function already (D20)
    ANSWER_NONE = "answer-none"
    ANSWER_DISCONNECT = "answer-disconnect"
    ANSWER_VALID = "answer-valid"  # CAN_RECOVER, NEED_RESET, RECOVERED
    ANSWER_INVALID = "answer-invalid"  # 0, NO_AER_DRIVER, any other number
    TIMEOUT = "timeout"
    DETACHED = "detached"  # a detach was first (H11)
    CONTAINED = "contained"  # meanwhile a port above was contained: what the guest says of its device is of no use
    GUEST_DEAD = "guest-dead"  # the domain is gone, or is being killed already (H2, H16)

    __hash__ = str.__hash__


_ANSWERS: dict[int, Situation] = {
    ErsResult.NONE: Situation.ANSWER_NONE,
    ErsResult.CAN_RECOVER: Situation.ANSWER_VALID,
    ErsResult.NEED_RESET: Situation.ANSWER_VALID,
    ErsResult.DISCONNECT: Situation.ANSWER_DISCONNECT,
    ErsResult.RECOVERED: Situation.ANSWER_VALID,
}


def situation_of(answer: int) -> Situation:
    """The situation that the guest's answer in ``aer_op.err`` makes."""
    return _ANSWERS.get(answer, Situation.ANSWER_INVALID)


LogLine = tuple[int, str]  # printk level, text


@dataclass(frozen=True, slots=True)
class Decision:
    """What pciback does in one situation and phase.

    ``result`` is what the callback returns; None: the guest's own answer. For resume, which returns nothing
    to the AER core, RECOVERED means that nothing went wrong, NONE that nobody was told, DISCONNECT that the
    phase failed. ``kill`` calls ``kill_domain_by_device``, after ``log``; ``first_log`` comes before ``log``.
    """

    label: str
    result: ErsResult | None
    kill: bool = False
    log: LogLine | None = None
    first_log: LogLine | None = None


class Result(Enum):
    """Results of a row that depend on the phase or on the answer."""

    DEFAULT = "default"  # DEFAULT_RESULT of the phase
    ANSWER = "answer"  # what the guest said


DEFAULT_RESULT: dict[Phase, ErsResult] = {
    Phase.ERROR_DETECTED: ErsResult.CAN_RECOVER,
    Phase.MMIO_ENABLED: ErsResult.RECOVERED,
    Phase.SLOT_RESET: ErsResult.RECOVERED,
    Phase.RESUME: ErsResult.RECOVERED,
}


class Row(NamedTuple):
    """One line of a table: the inputs it fits and the decision. ``{phase}`` is filled into logs."""

    label: str
    situations: tuple[Situation, ...]
    phases: tuple[Phase, ...]
    result: ErsResult | Result
    kill: bool = False
    log: LogLine | None = None
    first_log: LogLine | None = None

    def fits(self, situation: Situation, phase: Phase) -> bool:
        """The row speaks about this input."""
        return situation in self.situations and phase in self.phases

    def decision(self, phase: Phase) -> Decision:
        """The row's decision in one phase."""
        result = None if self.result is Result.ANSWER else self.result
        if isinstance(result, Result):
            result = DEFAULT_RESULT[phase]
        return Decision(self.label, result, self.kill, _fill(self.log, phase), _fill(self.first_log, phase))


def _fill(line: LogLine | None, phase: Phase) -> LogLine | None:
    return None if line is None else (line[0], line[1].format(phase=phase))


Table = dict[tuple[Situation, Phase], Decision]


def compile_rows(rows: Iterable[Row]) -> Table:
    """A decision for every input; the first row that fits wins. Raises ValueError if an input has none."""
    table: Table = {}
    rows = tuple(rows)
    for situation in Situation:
        for phase in Phase:
            row = next((r for r in rows if r.fits(situation, phase)), None)
            if row is None:
                raise ValueError(f"no row for {situation} in {phase}")
            table[situation, phase] = row.decision(phase)
    return table


def decide(table: Table, situation: Situation, phase: Phase) -> Decision:
    """What ``table`` says; every input has a decision."""
    return table[situation, phase]


S = Situation
_FIRST, _LATER, _RESUME = (Phase.ERROR_DETECTED,), (Phase.MMIO_ENABLED, Phase.SLOT_RESET), (Phase.RESUME,)
_VOTING, _ALL = _FIRST + _LATER, tuple(Phase)
_LISTENED_TO = (S.ANSWER_VALID, S.ANSWER_INVALID, S.CONTAINED)  # by linux, which knows no containment here
_ANSWERED = (S.ANSWER_NONE, S.ANSWER_DISCONNECT, S.ANSWER_VALID, S.ANSWER_INVALID)
_NONE, _DISCONNECT, _RECOVERED = ErsResult.NONE, ErsResult.DISCONNECT, ErsResult.RECOVERED
_DEFAULT, _ANSWER = Result.DEFAULT, Result.ANSWER

_NOT_FOUND = (ERR, "device is not found/assigned")
_NO_PAGE = (ERR, "device is not connected or owned by HVM, kill it")
_NO_CODE = (DEBUG, "guest may have no aer driver, kill it")
_STILL_THERE = (ERR, "guest with no AER driver should have been killed")
_NO_ADDRESS = (ERR, "failed to get pcifront device")
_NO_SERVICE = (DEBUG, "No AER {phase} service or disconnected!")
_MUTE = (ERR, "pcifront aer process not responding!")
_BAD_ANSWER = (ERR, "invalid answer to {phase}, taken as disconnect")
_CONNECTING = (DEBUG, "guest is still connecting, {phase} not sent")
_BYSTANDER = (DEBUG, "guest has no {phase} service, its device has no fault")

# fmt: off
_NOTHING, _KILL = False, True
_REFUSED = (S.ANSWER_NONE, S.ANSWER_DISCONNECT)
_NO_ADDRESS_LOGS = (_NO_SERVICE, _NO_ADDRESS)  # the second one is printed first
_NO_CHANNEL = (S.NO_SHARED_PAGE, S.CHANNEL_LOST)
_PAGELESS = (*_NO_CHANNEL, S.NO_SHARED_PAGE_YOUNG, S.GUEST_DEAD)

LINUX_ROWS: tuple[Row, ...] = (
    #   label                situations                            phases   result        kill      log
    Row("not-assigned",      (S.NOT_ASSIGNED, S.DETACHED),         _ALL,    _DEFAULT,     _NOTHING, _NOT_FOUND),
    Row("no-page",           _PAGELESS,                            _ALL,    _DEFAULT,     _KILL,    _NO_PAGE),
    Row("no-code",           (S.NO_AER_HANDLER,),                  _FIRST,  _DEFAULT,     _KILL,    _NO_CODE),
    Row("no-code-later",     (S.NO_AER_HANDLER,),                  _LATER,  _DEFAULT,     _NOTHING, _STILL_THERE),
    Row("no-code-resume",    (S.NO_AER_HANDLER,),                  _RESUME, _DEFAULT,     _KILL,    _STILL_THERE),
    Row("no-address",        (S.NO_GUEST_ADDRESS,),                _VOTING, _NONE,        _KILL,    *_NO_ADDRESS_LOGS),
    Row("no-address-resume", (S.NO_GUEST_ADDRESS,),                _RESUME, _DEFAULT,     _NOTHING, _NO_ADDRESS),
    Row("resume-answered",   _ANSWERED,                            _RESUME, _DEFAULT,     _NOTHING),
    Row("no-service",        _REFUSED,                             _ALL,    _ANSWER,      _KILL,    _NO_SERVICE),
    Row("answer",            _LISTENED_TO,                         _ALL,    _ANSWER,      _NOTHING),
    Row("mute",              (S.TIMEOUT,),                         _ALL,    _DEFAULT,     _NOTHING, _MUTE),
)

# In the order of the rows: 9.2 no. 4; H11; H11; ours; H13; H15 and X33; H15; 9.2 no. 11; H15; H8; H8; H3; H2 and H16.
HARDENED_ROWS: tuple[Row, ...] = (
    #   label                situations                            phases   result        kill      log
    Row("unassigned",        (S.NOT_ASSIGNED,),                    _ALL,    _NONE,        _NOTHING, _NOT_FOUND),
    Row("detached",          (S.DETACHED,),                        _ALL,    _NONE,        _NOTHING),
    Row("detaching",         (S.NO_GUEST_ADDRESS,),                _ALL,    _NONE,        _NOTHING, _NO_ADDRESS),
    Row("superseded",        (S.CONTAINED,),                       _ALL,    _NONE,        _NOTHING),
    Row("young",             (S.NO_SHARED_PAGE_YOUNG,),            _ALL,    _NONE,        _NOTHING, _CONNECTING),
    Row("no-page",           _NO_CHANNEL,                          _ALL,    _DISCONNECT,  _KILL,    _NO_PAGE),
    Row("no-code",           (S.NO_AER_HANDLER,),                  _ALL,    _DISCONNECT,  _KILL,    _NO_CODE),
    Row("resume-answered",   _ANSWERED,                            _RESUME, _RECOVERED,   _NOTHING),
    Row("no-service",        _REFUSED,                             _ALL,    _DISCONNECT,  _KILL,    _NO_SERVICE),
    Row("answer",            (S.ANSWER_VALID,),                    _ALL,    _ANSWER,      _NOTHING),
    Row("invalid-answer",    (S.ANSWER_INVALID,),                  _ALL,    _DISCONNECT,  _KILL,    _BAD_ANSWER),
    Row("mute",              (S.TIMEOUT,),                         _ALL,    _DISCONNECT,  _KILL,    _MUTE),
    Row("dead",              (S.GUEST_DEAD,),                      _ALL,    _DISCONNECT,  _NOTHING),
)

# H20: no handler, no AER code or no frontend is no vote, and no reason to die for a neighbour's fault. Whoever has
# been told of the error and cannot be told of its end is no bystander any more: its driver has stopped the device.
BYSTANDER_ROWS: tuple[Row, ...] = (
    Row("untouched",         (S.ANSWER_NONE,),                     _VOTING, _NONE,        _NOTHING, _BYSTANDER),
    Row("untouched-no-code", (S.NO_AER_HANDLER, S.NO_SHARED_PAGE), _FIRST,  _NONE,        _NOTHING, _BYSTANDER),
    *HARDENED_ROWS,
)
# fmt: on

PCIBACK_LINUX = compile_rows(LINUX_ROWS)
PCIBACK_HARDENED = compile_rows(HARDENED_ROWS)
PCIBACK_BYSTANDER = compile_rows(BYSTANDER_ROWS)

# Situations whose decision hangs on one defect, so that the defect can be switched by itself.
DEFECT_OF: dict[Situation, Defect] = {
    Situation.NOT_ASSIGNED: Defect.D11,
    Situation.DETACHED: Defect.D11,
    Situation.GUEST_DEAD: Defect.D2,
    Situation.TIMEOUT: Defect.D3,
    Situation.ANSWER_INVALID: Defect.D8,
    Situation.NO_GUEST_ADDRESS: Defect.D20,
    Situation.NO_SHARED_PAGE_YOUNG: Defect.D21,
}


@dataclass(frozen=True, slots=True)
class Profile:
    """A set of defects, and the tables that follow from it. ``name`` is ``linux`` or ``hardened``.

    The name decides where no defect number does: merge per group, verdicts, bystanders (H14 to H25).
    """

    name: str
    defects: frozenset[Defect]

    @property
    def hardened(self) -> bool:
        """H14 to H25 hold."""
        return self.name == "hardened"

    def has(self, defect: Defect) -> bool:
        """The real code's defect is on."""
        return defect in self.defects

    def table(self) -> Table:
        """Decisions for the source of an error and for every function that is reset."""
        return self._mixed(PCIBACK_HARDENED if self.hardened else PCIBACK_LINUX, PCIBACK_HARDENED)

    def bystander_table(self) -> Table:
        """Decisions for a function without fault that is not reset; ``linux`` makes no difference."""
        return self._mixed(PCIBACK_BYSTANDER, PCIBACK_BYSTANDER) if self.hardened else self.table()

    def _mixed(self, base: Table, hardened: Table) -> Table:
        """``base``, but each situation of ``DEFECT_OF`` as its defect is switched."""
        table = dict(base)
        for (situation, phase), decision in hardened.items():
            defect = DEFECT_OF.get(situation)
            if defect is not None:
                table[situation, phase] = PCIBACK_LINUX[situation, phase] if self.has(defect) else decision
        return table


LINUX = Profile("linux", frozenset(Defect))
HARDENED = Profile("hardened", frozenset())
PROFILES: dict[str, Profile] = {profile.name: profile for profile in (LINUX, HARDENED)}


def make_profile(name: str, switched: Iterable[str] = ()) -> Profile:
    """The profile ``name`` with the defects in ``switched`` turned over: on in hardened, off in linux.

    Raises ValueError for a name or defect that does not exist.
    """
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}; there are {', '.join(PROFILES)}")
    return Profile(name, PROFILES[name].defects ^ frozenset(Defect(defect) for defect in switched))
