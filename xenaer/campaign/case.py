"""A case of a campaign, and what came of it: plain values that cross processes, machines and databases."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Recipe = dict[str, Any]  # what an exploration needs to build a case again: short, plain, JSON
SEED_BYTES = 6  # a seed fits into every JSON reader's number
ID_DIGITS = 6
HASH_BYTES = 16
PLAIN = json.JSONEncoder(sort_keys=True, separators=(",", ":"))  # in ASCII: what no UTF-8 can hold is escaped


class Outcome(StrEnum):
    """What a case came to; each has exactly one."""

    NO_EFFECT = "no-effect"
    CORRECTED_LOGGED = "corrected-logged"
    RECOVERED = "recovered"
    RECOVERED_AFTER_RESET = "recovered-after-reset"
    RECOVERED_BUT_DEAD = "recovered-but-dead"
    GUEST_KILLED_REQUIRED = "guest-killed-required"
    GUEST_KILLED_NEEDLESS = "guest-killed-needless"
    GUEST_ALIVE_THOUGH_REQUIRED_DEAD = "guest-alive-though-required-dead"
    FUNCTION_RESET_MISSING = "function-reset-missing"
    FUNCTION_RESET_WRONG_ORDER = "function-reset-wrong-order"
    NEIGHBOUR_HURT = "neighbour-hurt"
    WRONG_DEVICE_BLAMED = "wrong-device-blamed"
    HANG = "hang"
    LOST = "lost"
    HARNESS_ERROR = "harness-error"


@dataclass(frozen=True, slots=True)
class Task:
    """One case to be played: its number in the campaign (from 0) and its recipe; ``twice``: compare two runs of it."""

    number: int
    recipe: Recipe
    twice: bool = False
    keep: bool = False  # send the journal along whatever the outcome is


@dataclass(frozen=True, slots=True)
class Effect:
    """How far the fault got, as the journal proves it."""

    injected: bool = False
    device: bool = False  # its registers show it
    root_port: bool = False  # it received a message, or was told otherwise
    core: bool = False  # the AER core logged it, or began a recovery
    guest: bool = False  # a guest was asked, told, or lost something


@dataclass(slots=True)
class CaseResult:
    """What came of one case.

    ``good``: every expectation held and no invariant broke; ``problems`` says what did not. ``guests`` is the
    outcome of each guest (``untouched``, ``recovered``, ``killed``, ...). ``phases`` are milliseconds of virtual
    (or real) time per phase, ``total`` among them. ``coverage`` are the points that the case reached, as short
    texts. ``digest`` is the hash of its journal, times counted from its beginning. ``journal`` is the journal
    itself, packed, if it was kept. ``wall_s`` is the only figure that a second run may change.
    """

    number: int
    case_id: str
    stratum: str
    outcome: Outcome
    good: bool = True
    text: str = ""
    problems: list[str] = field(default_factory=list)
    effect: Effect = field(default_factory=Effect)
    guests: dict[str, str] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    coverage: frozenset[str] = frozenset()
    digest: str = ""
    journal: bytes | None = None
    wall_s: float = 0.0
    feedback: Any = None  # what an exploration wants to hear of a case, plain data


def recipe_text(recipe: Recipe) -> str:
    """A recipe as text: the same for equal recipes, whatever the order of their keys."""
    return PLAIN.encode(recipe)


def recipe_stratum(recipe: Recipe) -> str:
    """The stratum that a recipe belongs to; an exploration with strata names it under this key."""
    return str(recipe.get("stratum", ""))


def case_id(number: int, recipe_text: str) -> str:
    """Name of a case: its number, and a digest of its recipe, so that an id of another campaign is noticed."""
    digest = hashlib.blake2b(recipe_text.encode(), digest_size=4).hexdigest()
    return f"{number:0{ID_DIGITS}}-{digest}"


def derived_seed(seed: int, number: int) -> int:
    """The seed of case ``number`` of a campaign with ``seed``: the same on every machine."""
    text = f"{seed}/{number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=SEED_BYTES).digest(), "big")
