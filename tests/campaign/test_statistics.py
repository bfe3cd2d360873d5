"""Wilson's interval, the bound of what was never seen, percentiles in flat memory, tallies that merge."""

from __future__ import annotations

import random
from math import ceil, comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenaer.campaign.case import CaseResult, Outcome
from xenaer.campaign.verdict.percentiles import EXACT, Spread, bucket, middle
from xenaer.campaign.verdict.statistics import Tallies, Tally, Z, figures, never_seen, rate, wilson

COUNTS = st.integers(1, 5_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
DURATIONS = st.lists(st.floats(0, 1e7), max_size=60)


# -- Wilson ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_values(count: int, n: int, low: float, high: float) -> None:
    assert wilson(count, n) == pytest.approx((low, high), abs=5e-5)


@given(COUNTS)
def test_an_independent_computation(counts: tuple[int, int]) -> None:
    """The ends are the rates at which the score test just does not reject: found by bisection."""
    count, n = counts
    seen = count / n

    def rejects(p: float) -> bool:
        return (seen - p) ** 2 > Z * Z * p * (1 - p) / n

    def end(inside: float, outside: float) -> float:
        for _ in range(100):
            half = (inside + outside) / 2
            inside, outside = (inside, half) if rejects(half) else (half, outside)
        return inside

    low, high = wilson(count, n)
    assert low == pytest.approx(end(seen, 0.0) if count else 0.0, abs=1e-9)
    assert high == pytest.approx(end(seen, 1.0) if count < n else 1.0, abs=1e-9)


@given(COUNTS)
def test_the_interval_holds_the_rate_and_is_symmetric(counts: tuple[int, int]) -> None:
    count, n = counts
    low, high = wilson(count, n)
    assert 0 <= low <= count / n <= high <= 1
    assert wilson(n - count, n) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("count", "n"), [(-1, 5), (6, 5), (1, 0)])
def test_what_is_no_count(count: int, n: int) -> None:
    with pytest.raises(ValueError, match="is no count"):
        wilson(count, n)


def test_no_cases_say_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert never_seen(0) == 1.0


def covered(p: float, n: int) -> float:
    """How likely the interval holds the true rate: summed over all counts."""
    ends = ((count, wilson(count, n)) for count in range(n + 1))
    return sum(comb(n, count) * p**count * (1 - p) ** (n - count) for count, (low, high) in ends if low <= p <= high)


def test_the_coverage_is_95_percent_on_average() -> None:
    grid = [step / 200 for step in range(1, 200)]
    for n in (10, 50, 200):
        found = [covered(p, n) for p in grid]
        assert sum(found) / len(found) == pytest.approx(0.95, abs=0.01)
        assert min(found) > 0.83  # known of Wilson's interval near 0 and 1


@pytest.mark.parametrize("p", [0.02, 0.1, 0.5])
def test_so_it_is_in_a_simulation(p: float) -> None:
    chance, n, rounds = random.Random(7), 400, 2_000
    hits = 0
    for _ in range(rounds):
        low, high = wilson(sum(chance.random() < p for _ in range(n)), n)
        hits += low <= p <= high
    assert hits / rounds == pytest.approx(0.95, abs=0.015)


# -- never seen --------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 10, 1_000, 1_000_000])
def test_the_bound_is_exact(n: int) -> None:
    """At this rate nothing would be seen in 5 % of all campaigns."""
    assert (1 - never_seen(n)) ** n == pytest.approx(0.05)


def test_the_rule_of_three_is_its_approximation() -> None:
    assert never_seen(1_000) == pytest.approx(3 / 1_000, rel=0.005)


def test_rates_as_text() -> None:
    assert rate(0, 10_000).text() == "0  below 0.03%"
    assert rate(12, 1_000).text() == "12  1.20% (0.69% to 2.09%)"


# -- percentiles -------------------------------------------------------------------------------------
@given(st.integers(0, 1 << 40))
def test_buckets_are_narrow_and_in_order(us: int) -> None:
    assert abs(middle(bucket(us)) - us) <= us / 256
    assert bucket(us) <= bucket(us + 1)


def spread(values: list[float]) -> Spread:
    found = Spread()
    for value in values:
        found.add(value)
    return found


@given(DURATIONS, st.floats(0, 1))
def test_few_values_are_exact(values: list[float], share: float) -> None:
    found = spread(values).percentile(share)
    ordered = sorted(round(value * 1000) for value in values)
    assert found == (ordered[max(ceil(share * len(ordered)), 1) - 1] / 1000 if values else 0.0)


def test_many_values_are_close_and_the_largest_is_exact() -> None:
    chance = random.Random(3)
    values = [chance.lognormvariate(3, 2) for _ in range(50_000)]
    found, ordered = spread(values), sorted(values)
    for name, ms in found.percentiles().items():
        exact = ordered[-1] if name == "max" else ordered[ceil(int(name[1:]) / 100 * len(ordered)) - 1]
        assert ms == pytest.approx(exact, rel=1 / 256, abs=0.001)
    assert found.percentiles()["max"] == pytest.approx(ordered[-1], abs=0.0005)


@given(DURATIONS, DURATIONS, st.randoms())
def test_order_and_pieces_do_not_matter(one: list[float], other: list[float], chance: random.Random) -> None:
    mixed = [*one, *other]
    chance.shuffle(mixed)
    left, right = spread(one), spread(other)
    left.merge(right)
    assert left.plain() == spread(mixed).plain()
    assert right.plain() == spread(other).plain()


@pytest.mark.parametrize(("one", "other"), [(EXACT - 1, 1), (EXACT, 1), (1, EXACT), (EXACT + 5, EXACT + 5), (EXACT, 0)])
def test_nor_do_they_where_counting_begins(one: int, other: int) -> None:
    left = spread([float(n) for n in range(one)])
    left.merge(spread([float(n) for n in range(one, one + other)]))
    whole = spread([float(n) for n in reversed(range(one + other))])
    assert left.plain() == whole.plain()
    assert (left.exact is None) == (one + other > EXACT)


def test_memory_is_flat() -> None:
    """Whole microseconds up to a day: 256 buckets, and 128 for each of 29 doublings."""
    found = spread([1.5] * (EXACT + 1))
    for us in range(0, 86_400_000_000, 1_234_567):
        found._take([us])
    assert len(found.buckets) <= 256 + 128 * 29
    assert found.exact is None


def test_plain_data_come_back() -> None:
    for n in (3, EXACT + 3):
        found = spread([float(value) for value in range(n)])
        again = Spread.of_plain(found.plain())
        assert again.plain() == found.plain()
        assert again.percentiles() == found.percentiles()


# -- tallies -----------------------------------------------------------------------------------------
RESULTS = st.lists(
    st.builds(
        CaseResult,
        number=st.integers(0, 99),
        case_id=st.just("000000-00000000"),
        stratum=st.sampled_from(["", "nic", "disk"]),
        outcome=st.sampled_from(list(Outcome)),
        good=st.booleans(),
        guests=st.dictionaries(st.sampled_from(["g1", "g2"]), st.sampled_from(["untouched", "recovered"])),
        phases=st.dictionaries(st.sampled_from(["total", "reset"]), st.floats(0, 1e6)),
    ),
    max_size=30,
)


@given(RESULTS, st.randoms())
def test_tallies_merge_in_any_order(results: list[CaseResult], chance: random.Random) -> None:
    one, pieces = Tallies(), [Tallies() for _ in range(3)]
    for result in results:
        one.add(result)
        chance.choice(pieces).add(result)
    chance.shuffle(pieces)
    merged = Tallies()
    for piece in pieces:
        merged.merge({name: Tally.of_plain(tally.plain()) for name, tally in piece.strata.items()})
    assert {n: t.plain() for n, t in merged.strata.items()} == {n: t.plain() for n, t in one.strata.items()}
    assert merged.total().plain() == one.total().plain()
    assert sum(found.count for found in one.total().rates().values()) == len(results) == one.total().cases


def test_figures_for_people() -> None:
    tally = Tally()
    for number in range(200):
        outcome = Outcome.RECOVERED if number % 10 else Outcome.HANG
        phases = {"total": float(number)}
        tally.add(CaseResult(number, "x", "", outcome, good=outcome is Outcome.RECOVERED, phases=phases))
    lines = list(figures("all", tally).lines())
    assert lines[0] == "all: 200 cases, 180 as expected"
    assert lines[1].split() == ["recovered", "180", "90.00%", "(85.06%", "to", "93.43%)"]
    assert lines[2].split() == ["hang", "20", "10.00%", "(6.57%", "to", "14.94%)"]
    assert lines[3].startswith("  never seen, each below 1.49%: no-effect, ")
    assert lines[4].split() == ["total", "ms", "p50", "99.000", "p95", "189.000", "p99", "197.000", "max", "199.000"]
