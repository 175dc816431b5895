"""Intervals over pictures."""

import numpy as np
import pytest

from vimserve.server.commands.evaluate.bootstrap import intervals, places


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_share_has_the_interval_of_its_standard_error(share):
    count = 2000
    right = np.arange(count) < share * count
    low, high = intervals(count, lambda drawn: np.array([drawn @ right / count]), 2000)
    half = 1.96 * (share * (1 - share) / count) ** 0.5
    assert low[0] == pytest.approx(share - half, abs=0.1 * half)
    assert high[0] == pytest.approx(share + half, abs=0.1 * half)


def test_each_resample_has_as_many_pictures():
    seen: list[np.ndarray] = []

    def see(drawn):
        seen.append(drawn)
        return np.zeros(1)

    intervals(7, see, 20)
    assert len(seen) == 21
    assert seen[0].tolist() == [1] * 7  # the set itself
    assert all(len(drawn) == 7 and drawn.sum() == 7 for drawn in seen)
    assert len({tuple(drawn) for drawn in seen}) > 10


def test_the_same_pictures_have_the_same_interval():
    values = np.random.default_rng(1).random(50)
    first, again = (intervals(50, lambda drawn: np.array([drawn @ values]), 100) for _ in "ab")
    assert first == again


def test_what_a_resample_does_not_have_is_left_out():
    low, high = intervals(2, lambda drawn: np.array([np.nan if drawn[0] else 3.0, np.nan]), 50)
    assert (low[0], high[0]) == (3, 3)
    assert np.isnan([low[1], high[1]]).all()


def test_a_single_picture_tells_nothing_of_others():
    assert np.isnan(intervals(1, lambda _: np.ones(1), 10)).all()


@pytest.mark.parametrize(
    ("below", "expected"),
    [
        (50, [0.025, 0.975]),
        (20, [0.000135, 0.6090]),  # Φ(2 Φ⁻¹(0.2) ∓ 1.96)
        (80, [0.3910, 0.999865]),
    ],
)
def test_the_interval_makes_up_for_a_bias_of_the_resamples(below, expected):
    drawn = np.arange(100.0)
    assert places(drawn, below - 0.5) == pytest.approx(expected, abs=1e-3)


def test_places_within_the_resamples():
    assert places(np.ones(10), 1.0) == pytest.approx([0.025, 0.975])
    for value in (0, 2):  # on one side of all
        low, high = places(np.ones(10), value)
        assert 0 <= low < high <= 1
