"""The fit finds the costs again that batches had."""

import random

import pytest

from vimserve.loadtests.cluster.fit import BATCH_TOKENS, fit
from vimserve.loadtests.cluster.trace_load import Batch
from vimserve.loadtests.mixed_sizes.simulate import Device


def batches(seconds):
    choice = random.Random(0)  # noqa: S311
    loads = [(images := choice.randint(1, 8), images * choice.randint(40, 1000)) for _ in range(90)]
    return [Batch(images, tokens, seconds(images, tokens)) for images, tokens in loads]


def test_costs_are_found_again():
    ran = batches(lambda images, tokens: 7e-3 + 5e-4 * images + 1e-5 * tokens)
    found = fit([*ran, *ran[:20]])  # several images tell of the same batch
    costs = (found.launch, found.per_image, found.per_token, found.noise)
    assert costs == pytest.approx((7e-3, 5e-4, 1e-5, 0.0), abs=1e-9)
    assert found.batch_tokens == BATCH_TOKENS


def test_nothing_costs_less_than_nothing():
    found = fit(batches(lambda images, tokens: 1e-5 * tokens - 1e-5 * images))
    assert isinstance(found, Device)
    assert found.per_image == 0
    assert found.launch >= 0
    assert found.per_token == pytest.approx(1e-5, rel=0.2)
