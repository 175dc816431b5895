"""The cost curve: what it learns of batches, and what it does not let itself be told."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vimserve.server.engine.cost import CostCurve, CostModel, Load

LENGTHS = (37, 145, 197, 365, 785, 1025, 3073, 6085)


@pytest.fixture(autouse=True)
def nothing_is_learnt():
    """Here it is, unlike in all other tests."""


def batches(number, seed=0):
    choice = random.Random(seed)  # noqa: S311
    return [choice.choices(LENGTHS, k=choice.choice((1, 1, 1, 2, 4, 8))) for _ in range(number)]


def learn(true, number=200, curve=None):
    curve = curve or CostCurve()
    for lengths in batches(number):
        curve.observe(lengths, true.predict(Load.of(lengths)))
    return curve


def worst(model, true):
    """The greatest relative error."""
    loads = [Load.of(lengths) for lengths in batches(100, seed=1)]
    return max(abs(model.predict(load) / true.predict(load) - 1) for load in loads)


def test_a_batch_costs_its_launch_and_its_images():
    model = CostModel(launch=100, per_image=10, per_token=1, per_token_squared=0.5)
    assert model.image(4) == 10 + 4 + 8
    assert model.predict(Load.of([4, 2])) == 100 + model.image(4) + model.image(2)
    assert model.predict(Load.of([4, 2]), batches=2) == 200 + model.image(4) + model.image(2)
    assert CostModel().predict(Load.of([4])) == 0


@settings(max_examples=30, deadline=None)
@given(
    launch=st.floats(1e-4, 0.1),
    per_image=st.floats(0, 1e-2),
    per_token=st.floats(1e-7, 1e-4),
    per_token_squared=st.sampled_from([0, 1e-9, 1e-8]),
)
def test_it_finds_the_curve_that_batches_follow(**coefficients):
    true = CostModel(**coefficients)
    assert worst(learn(true).model, true) < 0.1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(1, 7000), min_size=1), st.floats(1e-6, 1e3))))
def test_nothing_ever_costs_less_than_nothing(observed):
    curve = CostCurve()
    for lengths, seconds in observed:
        curve.observe(lengths, seconds)
        model = curve.model
        least = min(model.launch, model.per_image, model.per_token, model.per_token_squared)
        assert least >= 0
        assert model.predict(Load.of(lengths)) > 0


def test_as_long_as_all_batches_are_alike_they_cost_their_launch():
    curve = CostCurve()
    for _ in range(10):
        curve.observe([197], 0.25)
    assert curve.model.launch == pytest.approx(0.25)
    assert curve.model == CostModel(launch=curve.model.launch)


def test_images_that_come_one_by_one_leave_what_they_share_to_the_launch():
    true = CostModel(launch=7e-3, per_image=5e-4, per_token=1e-5)
    curve = CostCurve()
    choice = random.Random(0)  # noqa: S311
    for _ in range(300):
        lengths = [choice.choice(LENGTHS)]
        held_up = 20 if choice.random() < 0.05 else choice.uniform(0.9, 1.1)
        curve.observe(lengths, held_up * true.predict(Load.of(lengths)))
    assert curve.model.per_image == 0
    assert curve.model.launch > true.launch


def test_it_forgets_that_nothing_was_gained_by_running_images_together():
    true = CostModel(launch=7e-3, per_image=5e-4, per_token=1e-5)
    curve, choice = CostCurve(), random.Random(0)  # noqa: S311
    for lengths in batches(50):  # held up in proportion to their images, as if each were launched
        curve.observe(lengths, sum(true.predict(Load.of([tokens])) for tokens in lengths))
    assert curve.model.launch < 0.2 * true.launch
    for _ in range(400):
        lengths = [choice.choice(LENGTHS)]
        curve.observe(lengths, true.predict(Load.of(lengths)))
    assert curve.model.launch > 0.5 * true.launch


def test_one_batch_that_was_held_up_hardly_matters():
    true = CostModel(launch=7e-3, per_image=5e-4, per_token=1e-5)
    curve = learn(true)
    curve.observe([197], 100 * true.predict(Load.of([197])))
    assert worst(curve.model, true) < 0.25


def test_it_follows_a_machine_that_becomes_slower():
    quick = CostModel(launch=7e-3, per_image=5e-4, per_token=1e-5)
    slow = CostModel(launch=35e-3, per_image=2.5e-3, per_token=5e-5)
    curve = learn(quick)
    assert worst(learn(slow, curve=curve).model, slow) < 0.2
    assert worst(learn(quick, curve=curve).model, quick) < 0.2


@pytest.mark.parametrize(("lengths", "seconds"), [([], 1), ([5], 0), ([5], -1)])
def test_what_is_no_batch_is_refused(lengths, seconds):
    with pytest.raises(ValueError, match=rf"a batch of {len(lengths)} images took {seconds} s"):
        CostCurve().observe(lengths, seconds)
