"""Judges what a script expects: pure functions over journal records, register contents and ``xl`` output."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel

from protocol.layout_aer import AER
from protocol.layout_pcie import EXP, EXP_DEVSTA_ERRORS
from protocol.topology import HostSpec
from xenaer.campaign.steps.point_form import MatchForm
from xenaer.campaign.steps.steps_form import StepForm
from xenaer.journal import Entry, fields_of

CAP_POINTER = 0x34
EXTENDED = 0x100
CAPS_MAX = 64  # a damaged list must not go round for ever


def matches(item: Entry, match: MatchForm, subject: str | None) -> bool:
    """Is ``item`` what ``match`` describes; ``subject`` is the resolved one."""
    return (
        fnmatchcase(item["label"], match.label)
        and (subject is None or item["subject"] == subject)
        and (match.party is None or item["party"] == match.party)
        and (match.task is None or fnmatchcase(item["task"], match.task))
        and all(key in item and str(item[key]) == str(value) for key, value in match.fields.items())
    )


def counted(count: int | None, found: list[str], what: str) -> tuple[bool, str]:
    """Are there ``count`` things (None: one or more); with the last of them, or what is missing."""
    good = bool(found) if count is None else len(found) == count
    if good:
        return True, found[-1].strip()[:90]
    return False, f"{len(found)} instead of {'one or more' if count is None else count}: {what}"


def recovery_outcome(items: list[Entry], bdf: str, host: HostSpec) -> str:
    """How the last recovery that ``bdf`` was part of ended, ``none`` if there was none.

    The hardened recovery writes an outcome for each function (H14). The kernel's own writes only an end, whose
    subject is the function that the recovery began at: an error of a port concerns everything below it.
    """
    outcomes = [str(i["outcome"]) for i in items if i["label"] == "recovery.outcome" and i["subject"] == bdf]
    if outcomes:
        return outcomes[-1]
    concerned = ancestry(bdf, host)
    ends = [end_is_good(i) for i in items if i["label"] == "recovery.end" and i["subject"] in concerned]
    if not ends:
        return "none"
    return "recovered" if ends[-1] else "failed"


def end_is_good(item: Entry) -> bool:
    """Does a ``recovery.end`` record say that the recovery succeeded."""
    return bool(item["verdict"] == "successful")


def ancestry(bdf: str, host: HostSpec) -> list[str]:
    """``bdf`` and the ports above it, nearest first."""
    chain = []
    function = host.function(bdf)
    while function is not None:
        chain.append(function.bdf)
        function = host.function(function.parent)
    return chain


def list_state(out: str, guest: str) -> str:
    """``running``, ``paused``, ``shutdown`` or ``absent``, from what ``xl list`` printed (xen-pci.md 9.3)."""
    rows = [row.split() for row in out.splitlines() if row.split()[:1] == [guest]]
    return letters_state(rows[0][4]) if rows and len(rows[0]) > 4 else "absent"


def letters_state(letters: str) -> str:
    """``running``, ``paused`` or ``shutdown``, from the letters of ``xl list``."""
    if "s" in letters[3:4] or "d" in letters[5:6]:
        return "shutdown"
    return "paused" if "p" in letters[2:3] else "running"


# -- configuration space ---------------------------------------------------------------------------
def config_state(data: bytes) -> tuple[str, str]:
    """``clean``, ``dirty`` or ``absent``, and which error registers are not zero."""
    if not data.strip(b"\xff"):
        return "absent", "reads all ones"
    found = [f"{name} {value:#x}" for name, value in error_registers(data) if value]
    return ("dirty", ", ".join(found)) if found else ("clean", "")


def error_registers(data: bytes) -> list[tuple[str, int]]:
    """Name and content of the registers in which a function records errors."""
    result = []
    express = find_capability(data, EXP.cap_id)
    if express:
        result.append(("DEVSTA", _word(data, express + EXP.DEVSTA, 2) & EXP_DEVSTA_ERRORS))
    aer = find_extended(data, AER.cap_id)
    if aer:
        result.append(("UNCOR_STATUS", _word(data, aer + AER.UNCOR_STATUS, 4)))
        result.append(("COR_STATUS", _word(data, aer + AER.COR_STATUS, 4)))
    return result


def find_capability(data: bytes, cap_id: int) -> int:
    """``pci_find_capability``: offset, 0 if there is none."""
    return _walk(_word(data, CAP_POINTER, 1), lambda at: (_word(data, at, 1) == cap_id, _word(data, at + 1, 1)))


def find_extended(data: bytes, cap_id: int) -> int:
    """``pci_find_ext_capability``: offset, 0 if there is none."""
    if len(data) <= EXTENDED:
        return 0
    return _walk(EXTENDED, lambda at: ((head := _word(data, at, 4)) & 0xFFFF == cap_id, head >> 20))


def _walk(at: int, look: Callable[[int], tuple[bool, int]]) -> int:
    for _ in range(CAPS_MAX):
        if at == 0:
            return 0
        hit, following = look(at)
        if hit:
            return at
        at = following
    return 0


def _word(data: bytes, offset: int, width: int) -> int:
    return int.from_bytes(data[offset : offset + width], "little")


# -- short texts -----------------------------------------------------------------------------------
def describe(step: StepForm) -> str:
    """A name for a step that has none: its action and whom it is about."""
    given = _leaves(getattr(step, step.action))
    return f"{step.action.replace('_', '-')} {' '.join(given[:3])}".rstrip()


def _leaves(value: Any) -> list[str]:
    """What was written in a value, in the order of its fields."""
    if isinstance(value, BaseModel):
        written = value.model_fields_set
        value = [getattr(value, name) for name in type(value).model_fields if name in written]
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, list) else [str(value)]


def show_match(match: MatchForm) -> str:
    """A match as a short text."""
    fields = " ".join(f"{key}={value}" for key, value in match.fields.items())
    return " ".join(part for part in (match.label, match.subject, fields) if part)


def show_entry(item: Entry) -> str:
    """A record as a short text."""
    fields = " ".join(f"{key}={value}" for key, value in fields_of(item).items())
    return " ".join(part for part in (item["label"], item["subject"], fields) if part)[:100]
