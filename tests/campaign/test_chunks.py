"""chunks: chunks take the time they should, and chance is a matter of seed and number alone."""

from __future__ import annotations

import pytest

from xenaer.campaign.run.chunks import SIZE_MAX, ChunkSizer, draw


def test_one_in_twenty_is_played_twice_and_one_in_a_thousand_kept() -> None:
    draws = [draw(7, number) for number in range(100_000)]
    assert 4800 < sum(each.twice for each in draws) < 5200
    assert 70 < sum(each.keep for each in draws) < 130


def test_every_campaign_plays_its_first_case_twice() -> None:
    assert all(draw(seed, 0).twice for seed in range(100))


def test_chance_is_the_same_on_every_machine() -> None:
    """These cases: what a seed chose once it chooses for ever, else a resumed run would differ."""
    assert [number for number in range(100) if draw(1, number).twice] == [0, 38]
    assert [number for number in range(3000) if draw(1, number).keep] == [1052, 2140]
    assert draw(1, 38) != draw(2, 38)


def settled(case_s: float, chunk_s: float = 0.15) -> int:
    """The size of a chunk after some of them."""
    sizer = ChunkSizer(chunk_s)
    for _ in range(12):
        size = sizer.size(10**9, 2)
        sizer.learn(size, size * case_s)
    return sizer.size(10**9, 2)


@pytest.mark.parametrize(("case_s", "size"), [(0.0005, 300), (0.01, 15), (0.1, 1), (10.0, 1), (0.0, SIZE_MAX)])
def test_a_chunk_takes_the_time_that_is_wanted(case_s: float, size: int) -> None:
    assert settled(case_s) == pytest.approx(size, abs=1)


def test_chunks_grow_step_by_step_and_shrink_at_once() -> None:
    """The first cases may be the quick ones."""
    sizer = ChunkSizer(0.15)
    assert sizer.size(1000, 2) == 1
    sizer.learn(1, 0.00001)
    assert sizer.size(1000, 2) == 4
    sizer.learn(4, 4.0)
    assert sizer.size(1000, 2) == 1


def test_chunks_become_shorter_towards_the_end_of_a_round() -> None:
    sizer = ChunkSizer(0.15)
    for _ in range(8):
        sizer.learn(300, 0.15)
    sizes, left = [], 1000
    while left:
        sizes.append(sizer.size(left, 2))
        left -= sizes[-1]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 250
    assert sizes[-4:] == [1, 1, 1, 1]


def test_a_chunk_without_a_result_teaches_nothing() -> None:
    sizer = ChunkSizer(0.15)
    sizer.learn(0, 0.0)
    assert sizer.size(1000, 2) == 1
