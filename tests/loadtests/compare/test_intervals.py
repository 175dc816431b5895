"""What repeated measurements say of a median."""

from itertools import product

import pytest

from vimserve.loadtests.compare.intervals import LEAST_ROUNDS, estimate, median_interval


def known(values, confidence=0.95):
    interval = median_interval(values, confidence)
    assert interval is not None
    return interval


def estimated(quiet, disturbed=()):
    found = estimate(quiet, disturbed)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("count", "rank"), [(6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (20, 6), (30, 10)]
)
def test_the_ranks_of_the_usual_tables(count, rank):
    assert median_interval(range(count, 0, -1)) == (rank, count + 1 - rank)


@pytest.mark.parametrize("count", range(12))
def test_the_interval_is_the_narrowest_of_its_confidence(count):
    def coverage(rank):
        """How often the median, 0, lies between order statistics, all signs being as likely."""
        signs = list(product((-1, 1), repeat=count))
        held = [rank <= pattern.count(-1) <= count - rank for pattern in signs]
        return sum(held) / len(signs)

    interval = median_interval([float(number) for number in range(1, count + 1)])
    if interval is None:
        assert count < LEAST_ROUNDS
        assert coverage(1) < 0.95
    else:
        rank = int(interval[0])
        assert interval[1] == count + 1 - rank
        assert coverage(rank) >= 0.95 > coverage(rank + 1)


def test_a_wider_confidence_needs_more():
    values = list(range(20))
    (low, high), (inner_low, inner_high) = known(values, 0.99), known(values)
    assert low < inner_low < inner_high < high
    assert median_interval(range(7), 0.99) is None


def test_nothing_was_measured():
    assert estimate([]) is None


def test_alike_rounds_are_a_narrow_result():
    found = estimated([2.0, 2.01, 2.02, 1.99, 1.98, 2.0])
    assert (found.median, found.low, found.high, found.count) == (2.0, 1.98, 2.02, 6)
    assert found.doubt == ""
    assert found.narrow


def test_a_result_need_not_be_narrow():
    found = estimated([1.9, 1.95, 2.0, 2.0, 2.05, 2.1])
    assert found.half_width == pytest.approx(0.05)
    assert found.doubt == ""
    assert not found.narrow


@pytest.mark.parametrize(
    ("quiet", "disturbed", "doubt", "low", "high"),
    [
        ([2.0], [], "one round only", 2.0, 2.0),
        ([2.0, 2.1, 2.0, 2.0, 2.0], [], "5 rounds only", 2.0, 2.1),
        ([2.0, 2.0, 2.0, 2.0, 2.0], [0.6, 3.0], "disturbed", 0.6, 3.0),
        ([], [0.6, 1.4], "disturbed", 0.6, 1.4),
        ([1.0, 1.2, 1.4, 2.0, 2.2, 2.4], [], "unstable", 1.0, 2.4),
    ],
)
def test_what_is_no_result(quiet, disturbed, doubt, low, high):
    found = estimated(quiet, disturbed)
    assert (found.doubt, found.low, found.high, found.count) == (doubt, low, high, len(quiet))
    assert not found.narrow


def test_disturbed_rounds_change_no_result():
    quiet = [2.0, 2.01, 2.02, 1.99, 1.98, 2.0]
    assert estimate(quiet, [0.1] * 50) == estimate(quiet)


def test_an_outlier_among_enough_rounds_does_not_matter():
    found = estimated([2.0] * 8 + [40.0])
    assert (found.median, found.low, found.high, found.doubt) == (2.0, 2.0, 2.0, "")
