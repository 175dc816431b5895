"""A model on its device, by what a runner promises whatever the model."""

from itertools import count
from types import SimpleNamespace

import pytest
import torch

from vimserve.kernels.upsample_argmax import upsample_argmax
from vimserve.model import catalog
from vimserve.model.catalog import resolve
from vimserve.server.config import Config
from vimserve.server.engine import runner as runners
from vimserve.server.engine.request import Image
from vimserve.server.engine.runner import Runner

SEGMENTER = resolve("demo-seg")


@pytest.fixture
def runner(tiny, spec):
    return Runner(spec, Config())


@pytest.fixture(scope="module")
def segmenter():
    return Runner(SEGMENTER, Config())


def image(runner, seed, height=32, width=48, map_size=None):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (3, height, width), dtype=torch.uint8, generator=generator)
    tokens = runner.tokens(height, width)
    return Image((height, width), runner.pack(pixels), tokens, map_size)


def test_tokens_are_the_patches_and_what_the_model_adds(runner, segmenter):
    assert runner.tokens(16, 16) == 2
    assert runner.tokens(32, 80) == 2 * 5 + 1
    assert segmenter.tokens(32, 80) == 2 * 5


def test_an_image_is_cut_into_the_models_patches(runner):
    pixels = torch.arange(3 * 32 * 48).remainder(256).to(torch.uint8).view(3, 32, 48)
    batch = runner.pack(pixels)
    assert batch.grids == ((2, 3),)
    assert batch.patches.dtype == torch.uint8
    assert torch.equal(batch.patches[4], pixels[:, 16:32, 16:32].flatten())


@pytest.mark.parametrize("side", [16, 64])
def test_black_squares(runner, side):
    square = runner.black(side)
    assert square.size == square.wanted == (side, side)
    assert square.tokens == runner.tokens(side, side)
    assert not square.patches.patches.any()


def test_the_smallest_image_is_one_patch(runner, segmenter):
    assert runner.smallest().size == (16, 16)
    assert len(runner.smallest().patches.patches) == 1
    (classes,) = segmenter.run([segmenter.smallest()])
    assert classes.shape == segmenter.smallest().size


def test_sides_are_rounded_up_to_whole_patches(runner):
    assert [runner.largest_side(side) for side in (1, 16, 17, 100, 1248)] == [16, 16, 32, 112, 1248]


def test_scores_of_each_image_in_order(runner):
    images = [image(runner, 0), image(runner, 1, 16, 16), image(runner, 2, 64, 32)]
    together = runner.run(images)
    assert [(scores.dtype, scores.shape) for scores in together] == [(torch.float32, (7,))] * 3
    for one, scores in zip(images, together, strict=True):
        (alone,) = runner.run([one])
        torch.testing.assert_close(scores, alone, rtol=0, atol=1e-5)
    assert not torch.equal(together[0], together[1])


def test_maps_of_the_size_asked_for_or_the_scores_that_they_are_made_of(segmenter):
    images = [
        image(segmenter, 0, map_size=(37, 50)),
        image(segmenter, 1, 64, 32),
        image(segmenter, 2, map_size=(32, 48)),
    ]
    first, scores, last = segmenter.run(images)
    assert (first.dtype, first.shape) == (torch.uint8, (37, 50))
    assert (last.dtype, last.shape) == (torch.uint8, (32, 48))
    assert scores.dtype == torch.float32
    assert scores.shape[0] == SEGMENTER.config.num_classes
    (mapped,) = segmenter.run([image(segmenter, 1, 64, 32, map_size=(64, 32))])
    expected, _ = upsample_argmax(scores, (64, 32))
    assert (mapped == expected).float().mean() > 0.99


def test_started_on_a_cpu_is_done(runner):
    started = runner.start([image(runner, 0), image(runner, 1)])
    assert started.done
    first, second = started.outputs()
    assert torch.equal(first, runner.run([image(runner, 0)])[0])
    assert torch.equal(second, runner.run([image(runner, 1)])[0])


def test_nothing_is_kept_for_gradients(runner):
    (scores,) = runner.run([image(runner, 0)])
    assert not scores.requires_grad


def filled(runner, value, map_size=None):
    pixels = torch.full((3, 32, 32), value)
    return Image((32, 32), runner.pack(pixels), runner.tokens(32, 32), map_size)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_none_for_an_image_whose_scores_are_not_finite(runner, value):
    good, bad, other = runner.run([filled(runner, v) for v in (0.5, value, -0.5)])
    assert bad is None
    assert good.isfinite().all()
    assert other.isfinite().all()


def test_none_for_a_map_whose_scores_are_not_finite(segmenter):
    size = (40, 40)
    good, *bad = segmenter.run(
        [
            filled(segmenter, 0.5, size),
            filled(segmenter, torch.nan, size),
            filled(segmenter, torch.nan),
        ]
    )
    assert good.shape == size
    assert bad == [None, None]


@pytest.fixture
def warmed(runner, tiny, monkeypatch):
    """``warmed(limit, seconds)``: the sides of the squares that are run if each takes so long."""
    monkeypatch.setattr(runners, "WARM_UP_ENOUGH_S", 0.5)
    compiled = []
    monkeypatch.setattr(tiny, "warm_up", lambda: compiled.append(len(tiny.batches)))

    def warm(limit, seconds):
        ticks = count()
        clock = SimpleNamespace(monotonic=lambda: next(ticks) * seconds)
        monkeypatch.setattr(runners, "time", clock)
        runner.warm_up(limit)
        assert compiled == [0]
        return [16 * batch.grids[0][0] for batch in tiny.batches]

    return warm


def test_warming_up_tries_the_common_sizes_up_to_the_largest(warmed):
    assert warmed(1248, seconds=0.1) == [224, 512, 1024, 1248]


@pytest.mark.parametrize(
    ("limit", "sides"),
    [
        (100, [112]),
        (224, [224]),
        (600, [224, 512, 608]),
        (4096, [224, 512, 1024, 1248]),
    ],
)
def test_warming_up_goes_no_further_than_the_largest(warmed, limit, sides):
    assert warmed(limit, seconds=0.1) == sides


def test_warming_up_ends_with_the_first_size_that_takes_long(warmed):
    assert warmed(1248, seconds=0.6) == [224]


def test_no_such_device(tiny, spec):
    with pytest.raises(ValueError, match="device 'nonsense' cannot be used"):
        Runner(spec, Config(device="nonsense"))


def test_the_model_does_not_learn(tiny, spec, monkeypatch):
    tiny.train()
    monkeypatch.setattr(catalog, "load", lambda *_: tiny)
    assert not Runner(spec, Config()).module.training
