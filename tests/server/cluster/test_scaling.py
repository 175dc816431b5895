"""Scaling: up at once, down after a while, and never back and forth."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vimserve.server.cluster.scaling import Scaling

DOWN_AFTER_S = 60.0


def make(least=1, most=8, target_s=1.0, **options):
    return Scaling(least, most, target_s, **{"down_after_s": DOWN_AFTER_S, **options})


def ask(scaling, queued_seconds, begin, seconds):
    """What is wanted, asked once a second for so long."""
    return [scaling.wanted(queued_seconds, begin + second) for second in range(seconds)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"least": 0}, "not 0 to 8"),
        ({"least": 3, "most": 2}, "not 3 to 2"),
        ({"target_s": 0}, "above 0, not 0"),
        ({"target_s": math.nan}, "above 0, not nan"),
        ({"down_after_s": -1}, "-1"),
        ({"most_busy": 0}, "not 0"),
        ({"most_busy": 1.1}, "not 1.1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        make(**arguments)


def test_there_is_at_least_one():
    scaling = make()
    assert scaling.wanted([], 0) == 1
    assert scaling.wanted([0.0], 1000) == 1
    assert make(least=3).wanted([0.0], 0) == 3


def test_up_at_once_by_as_many_as_share_the_work():
    scaling = make()
    assert scaling.wanted([1.0, 1.0], 0) == 2
    assert scaling.wanted([1.5, 1.5, 0.5], 1) == 4
    assert scaling.wanted([2.0] * 4, 2) == 8


def test_no_more_than_twice_those_that_run_and_no_more_than_allowed():
    scaling = make()
    assert scaling.wanted([1000.0], 0) == 2
    assert scaling.wanted([2000.0], 1) == 2  # the second one starts
    assert scaling.wanted([1000.0, 0.0], 2) == 4
    assert scaling.wanted([1000.0] * 6, 3) == 8


def test_what_waits_in_one_replica_alone_is_no_reason():
    assert make().wanted([3.9, 0.0, 0.0, 0.0], 0) == 4


def test_those_that_run_at_first_are_kept():
    scaling = make()
    assert scaling.wanted([], 0) == 1
    assert ask(scaling, [0.0] * 5, 1, 62) == [5] * 60 + [1, 1]
    assert make(most=3).wanted([0.0] * 5, 0) == 3


def test_down_only_after_a_while_to_what_has_work():
    scaling = make()
    scaling.wanted([2.0] * 4, 0)
    wanted = ask(scaling, [0.5, 0.5] + [0.0] * 6, 1, 62)
    assert wanted == [8] * 60 + [3, 3]
    assert ask(scaling, [0.0] * 3, 63, 62) == [3] * 59 + [1] * 3


def test_a_load_between_wants_no_change():
    scaling = make()
    scaling.wanted([2.0] * 4, 0)
    assert ask(scaling, [0.9] * 6 + [0.0, 0.0], 1, 500) == [8] * 500


def test_too_much_in_between_begins_the_wait_anew():
    scaling = make()
    scaling.wanted([2.0] * 4, 0)
    ask(scaling, [0.0] * 8, 1, 59)
    scaling.wanted([1.1] * 8, 60)
    assert ask(scaling, [0.0] * 8, 61, 62) == [8] * 60 + [1, 1]


def test_replicas_that_do_not_run_yet_are_no_sign_of_idleness():
    scaling = make()
    scaling.wanted([2.0] * 4, 0)
    for second in range(200):
        assert scaling.wanted([], 1 + second) == 8


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 100), min_size=1, max_size=10), min_size=1, max_size=60),
    st.integers(1, 3),
    st.integers(3, 9),
    st.floats(0.1, 10),
)
def test_it_keeps_to_its_bounds_and_falls_no_more_often_than_once_in_a_delay(
    asked, least, most, target_s
):
    scaling = make(least, most, target_s, down_after_s=10)
    before, changed = min(max(len(asked[0]), least), most), -math.inf
    for number, queued_seconds in enumerate(asked):
        now = number * 3.0
        wanted = scaling.wanted(queued_seconds, now)
        assert least <= wanted <= most
        if wanted < before:
            assert now - changed > 10
            assert sum(queued_seconds) <= target_s * len(queued_seconds)
        if wanted > before:
            assert wanted <= 2 * len(queued_seconds)
            assert sum(queued_seconds) > target_s * len(queued_seconds)
        if wanted != before:
            before, changed = wanted, now
