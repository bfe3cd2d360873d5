"""A case's result as a row of the results: made where the case was played, so that the runner only has to store it.

A result that was stored and read again equals the one that came from the worker, so an exploration that is resumed
is told the same as one that was not interrupted: both are made from a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from typing import NamedTuple

import msgpack
from pydantic_core import from_json, to_json

from xenaer.campaign.case import HASH_BYTES, PLAIN, CaseResult, Effect, Outcome, Recipe, recipe_text

EFFECTS = tuple(field.name for field in fields(Effect))  # bit 0 is the first
PLAYED_TWICE, HAS_JOURNAL = 1, 2


class Row(NamedTuple):
    """A case as it is stored, see docs/RUNS.md; JSON where the name ends in ``json``, bits in ``effect`` and ``flags``.

    ``points`` are the coverage in alphabetical order, ``set_digest`` is their hash; ``journal`` is the packed journal.
    """

    number: int
    case_id: str
    stratum: str
    outcome: str
    good: int
    text: str
    problems_json: str
    effect: int
    guests_json: str
    phases_json: str
    digest: str
    recipe_json: str
    feedback_json: str
    flags: int
    wall_s: float
    set_digest: bytes
    points: tuple[str, ...]
    journal: bytes | None


def to_row(result: CaseResult, recipe: Recipe, twice: bool) -> Row:
    """The row of a result. Raises TypeError, ValueError if something in it is no plain data."""
    points = tuple(sorted(result.coverage))
    return Row(
        number=result.number,
        case_id=result.case_id,
        stratum=result.stratum,
        outcome=result.outcome.value,
        good=int(result.good),
        text=result.text,
        problems_json=to_json(result.problems).decode(),
        effect=effect_bits(result.effect),
        guests_json=_sorted_json(result.guests),
        phases_json=_sorted_json(result.phases),
        digest=result.digest,
        recipe_json=recipe_text(recipe),
        feedback_json="null" if result.feedback is None else PLAIN.encode(result.feedback),
        flags=PLAYED_TWICE * twice | HAS_JOURNAL * (result.journal is not None),
        wall_s=result.wall_s,
        set_digest=hashlib.blake2b("\n".join(points).encode(), digest_size=HASH_BYTES).digest(),
        points=points,
        journal=result.journal,
    )


def to_result(row: Row) -> CaseResult:
    """The result that a row was made from, without its journal, which is a file once it is stored."""
    return CaseResult(
        number=row.number,
        case_id=row.case_id,
        stratum=row.stratum,
        outcome=Outcome(row.outcome),
        good=bool(row.good),
        text=row.text,
        problems=from_json(row.problems_json) if row.problems_json != "[]" else [],
        effect=_EFFECTS[row.effect],
        guests=from_json(row.guests_json),
        phases=from_json(row.phases_json),
        coverage=frozenset(row.points),
        digest=row.digest,
        feedback=from_json(row.feedback_json) if row.feedback_json != "null" else None,
        wall_s=row.wall_s,
    )


def pack(row: Row) -> bytes:
    """A row as bytes, to be sent."""
    data: bytes = msgpack.packb(row, use_bin_type=True)
    return data


def unpack(data: bytes) -> Row:
    """The row in ``data``."""
    return Row._make(msgpack.unpackb(data, use_list=False))


def effect_bits(effect: Effect) -> int:
    """How far a fault got, as bits in the order of ``EFFECTS``."""
    return sum(1 << bit for bit, name in enumerate(EFFECTS) if getattr(effect, name))


def _sorted_json(values: Mapping[str, object]) -> str:
    return to_json(dict(sorted(values.items()))).decode()


# Every value, made once: it is what all cases share.
_EFFECTS = tuple(Effect(*(bool(bits >> bit & 1) for bit in range(len(EFFECTS)))) for bits in range(1 << len(EFFECTS)))
