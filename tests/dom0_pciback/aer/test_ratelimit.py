"""The rate limiter (linux-aer.md 6.2, 6.4; linux-aer-errata.md C9 and 7.9)."""

from __future__ import annotations

import pytest

from dom0_pciback.aer.ratelimit import NS_PER_JIFFY, RateLimit, msecs_to_jiffies

SECOND = 1_000_000_000


def limiter(burst: int = 10, interval_ms: int = 5000) -> tuple[RateLimit, list[int]]:
    reported: list[int] = []
    limit = RateLimit(reported.append)
    limit.burst = burst
    limit.set_interval_ms(interval_ms)
    return limit, reported


def test_6_2_burst_per_window_and_the_report_when_it_ends() -> None:
    limit, reported = limiter()
    assert [limit.allow(t) for t in range(15)] == [True] * 10 + [False] * 5
    assert reported == []
    assert limit.allow(6 * SECOND)
    assert reported == [5]
    assert limit.missed == 0


def test_7_9_a_window_ends_when_more_than_the_interval_has_passed() -> None:
    limit, reported = limiter(burst=1)
    assert limit.allow(0)
    assert not limit.allow(5 * SECOND)
    assert limit.allow(5 * SECOND + 1)
    assert reported == [1]


def test_t35_interval_0_is_unlimited_whatever_the_burst() -> None:
    for burst in (10, 0, -1):
        limit, _ = limiter(burst=burst, interval_ms=0)
        assert all(limit.allow(0) for _ in range(50))


def test_t35_burst_0_is_silence() -> None:
    limit, reported = limiter(burst=0)
    assert not any(limit.allow(t * SECOND) for t in range(50))
    assert reported == []


def test_c9_a_restart_keeps_the_suppressed_calls() -> None:
    limit, reported = limiter(burst=1)
    for _ in range(49):
        limit.allow(0)
    limit.set_interval_ms(0)
    assert limit.allow(1)
    limit.set_interval_ms(250)
    assert limit.allow(2)  # first message of the new window, without a remark
    assert not limit.allow(3)
    assert not limit.allow(4)
    assert reported == []
    assert limit.allow(320_000_000)
    assert reported == [50]


@pytest.mark.parametrize(("ms", "jiffies"), [(5000, 1250), (3000, 750), (250, 63), (1, 1), (0, 0), (-5, 0)])
def test_6_4_the_file_shows_jiffies(ms: int, jiffies: int) -> None:
    assert msecs_to_jiffies(ms) == jiffies
    assert NS_PER_JIFFY == 4_000_000
