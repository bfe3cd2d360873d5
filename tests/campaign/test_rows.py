"""rows: what is sent and stored is what was found."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from xenaer.campaign.case import CaseResult, Effect, Outcome, recipe_text
from xenaer.campaign.run.rows import pack, to_result, to_row, unpack

TEXTS = st.text(max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
RESULTS = st.builds(
    CaseResult,
    number=st.integers(0, 2**40),
    case_id=TEXTS,
    stratum=TEXTS,
    outcome=st.sampled_from(Outcome),
    good=st.booleans(),
    text=TEXTS,
    problems=st.lists(TEXTS, max_size=3),
    effect=st.builds(Effect, *[st.booleans()] * 5),
    guests=st.dictionaries(TEXTS, TEXTS, max_size=3),
    phases=st.dictionaries(TEXTS, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    coverage=st.frozensets(TEXTS, max_size=4),
    digest=TEXTS,
    journal=st.none(),
    wall_s=st.floats(0, 1e6),
    feedback=PLAIN,
)


@settings(max_examples=40)
@given(RESULTS, st.dictionaries(TEXTS, PLAIN, max_size=3), st.booleans())
def test_a_result_survives(result: CaseResult, recipe: dict[str, object], twice: bool) -> None:
    row = unpack(pack(to_row(result, recipe, twice)))
    assert to_result(row) == result
    assert row.recipe_json == recipe_text(recipe)


def test_equal_results_make_equal_rows() -> None:
    """Whatever the order in which dictionaries and sets were filled."""
    one = CaseResult(1, "a", "", Outcome.HANG, guests={"a": "x", "b": "y"}, coverage=frozenset("pq"))
    other = CaseResult(1, "a", "", Outcome.HANG, guests={"b": "y", "a": "x"}, coverage=frozenset("qp"))
    assert to_row(one, {"a": 1, "b": 2}, False) == to_row(other, {"b": 2, "a": 1}, False)


def test_flags_and_bits() -> None:
    effect = Effect(injected=True, core=True)
    row = to_row(CaseResult(1, "a", "", Outcome.LOST, effect=effect, journal=b"j"), {}, True)
    assert (row.effect, row.flags, row.journal) == (0b01001, 3, b"j")
