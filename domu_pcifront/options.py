"""Options of guest drivers as data, so that a host file can be checked without a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from protocol.ers import ErsResult, Phase

Check = Callable[[Any], str]  # what a value should have been, "" if it is good


class Option(NamedTuple):
    """One option: its check, its default, and what it means."""

    check: Check
    default: Any
    meaning: str


def number(low: float, high: float) -> Check:
    """A number from ``low`` to ``high``."""

    def check(value: Any) -> str:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
        return "" if good else f"a number from {low} to {high}"

    return check


def whole(low: int, high: int) -> Check:
    """A whole number from ``low`` to ``high``."""

    def check(value: Any) -> str:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if good else f"a whole number from {low} to {high}"

    return check


def flag(value: Any) -> str:
    """True or false."""
    return "" if isinstance(value, bool) else "true or false"


def vote(value: Any) -> str:
    """A name of ErsResult, or any 32-bit number: drivers may answer nonsense (FE-25)."""
    if isinstance(value, str) and value in ErsResult.__members__:
        return ""
    good = isinstance(value, int) and not isinstance(value, bool) and -(1 << 31) <= value < 1 << 31
    return "" if good else f"a 32-bit number or one of {', '.join(ErsResult.__members__)}"


def phases(value: Any) -> str:
    """A list of phases."""
    good = isinstance(value, (list, tuple)) and all(item in list(Phase) for item in value)
    return "" if good else f"a list of {', '.join(Phase)}"


def per_phase(kinds: Iterable[str]) -> Check:
    """A mapping from phases to one of ``kinds``."""
    allowed = tuple(kinds)

    def check(value: Any) -> str:
        good = isinstance(value, Mapping) and all(k in list(Phase) and v in allowed for k, v in value.items())
        return "" if good else f"a mapping from phase ({', '.join(Phase)}) to one of {', '.join(allowed)}"

    return check


def problems(known: Mapping[str, Option], given: Mapping[str, Any]) -> list[str]:
    """What is wrong with ``given``: a text per option, with what is allowed."""
    texts = []
    for name, value in given.items():
        if name not in known:
            texts.append(f"unknown option {name!r}{_guess(name, known)}; allowed: {', '.join(known) or 'none'}")
        elif expected := known[name].check(value):
            texts.append(f"option {name}: {value!r} is not {expected}")
    return texts


def _guess(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
