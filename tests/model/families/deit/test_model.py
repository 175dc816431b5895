import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from tests.closeness import assert_close
from tests.eager_graph import EagerGraph
from tests.model.flash import Flash
from tests.paths import GOLDEN
from vimserve.loadtests.gpu_check.recipe import make_images, make_weights
from vimserve.model.batch import PackedBatch
from vimserve.model.buckets import Bucket, EqualBucket, choose_bucket
from vimserve.model.families.deit.config import (
    DEIT_BASE,
    DEIT_BASE_384,
    DEIT_SMALL,
    DEIT_TINY,
    DeiTConfig,
)
from vimserve.model.families.deit.model import DeiT
from vimserve.model.graphs import GraphedModel

NANO = DeiTConfig(width=64, depth=3, heads=2, num_classes=10, grid=(4, 4))
SIZES = [
    (64, 64), (16, 16), (48, 112), (64, 64), (16, 32), (224, 224),
    (32, 16), (400, 16), (64, 64), (160, 208), (16, 16),
]  # fmt: skip


def make(config: DeiTConfig) -> DeiT:
    model = DeiT(config)
    model.load_state_dict(make_weights(model))
    return model


def random_images(sizes: list[tuple[int, int]]) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(3, *size, generator=random) for size in sizes]


@pytest.mark.parametrize("attention", ["fused", "eager"])
@pytest.mark.parametrize(("name", "config"), [("tiny", DEIT_TINY), ("small", DEIT_SMALL)])
def test_matches_published_outputs(name: str, config: DeiTConfig, attention: str) -> None:
    model = make(dataclasses.replace(config, attention=attention))  # type: ignore[arg-type]
    golden = torch.from_numpy(np.load(GOLDEN / f"deit_{name}_224.npz")["logits"])

    logits = model(PackedBatch.from_images(make_images(1, 224, 224)))

    assert_close("logits", logits, golden, atol=2e-4)
    assert torch.equal(logits.topk(5).indices, golden.topk(5).indices)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (DEIT_TINY, 5_717_416),
        (DEIT_SMALL, 22_050_664),
        (DEIT_BASE, 86_567_656),
        (DEIT_BASE_384, 86_859_496),
    ],
)
def test_published_sizes(config: DeiTConfig, parameters: int) -> None:
    with torch.device("meta"):
        model = DeiT(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_fused_attention_is_eager_attention() -> None:
    batch = PackedBatch.from_images(random_images(SIZES))
    fused, eager = (make(dataclasses.replace(NANO, attention=a)) for a in ("fused", "eager"))
    assert_close("eager", eager(batch), fused(batch), atol=1e-4)


@pytest.mark.parametrize("attention", ["fused", "eager"])
def test_a_packed_batch_equals_its_images_alone_in_any_order(attention: str) -> None:
    model = make(dataclasses.replace(NANO, attention=attention))  # type: ignore[arg-type]
    images = random_images(SIZES)
    alone = torch.cat([model(PackedBatch.from_images([image])) for image in images])

    together = model(PackedBatch.from_images(images))

    assert_close("packed", together, alone, atol=1e-5)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1)).tolist()
    shuffled = model(PackedBatch.from_images([images[i] for i in order]))
    assert_close("shuffled", shuffled, together[order], atol=1e-5)


def test_images_of_one_size_equal_their_images_alone() -> None:
    model = make(NANO)
    images = random_images([(48, 64)] * 3)
    alone = torch.cat([model(PackedBatch.from_images([image])) for image in images])
    assert_close("packed", model(PackedBatch.from_images(images)), alone, atol=1e-5)


@pytest.mark.parametrize("grid", [(7, 7), (2, 6), (1, 3), (9, 1), (4, 4)])
def test_position_embeddings_are_resized_as_timm_does(grid: tuple[int, int]) -> None:
    """Timm resizes with an antialiased bicubic filter, which is Pillow's."""
    model = make(NANO)
    batch = PackedBatch.from_images([torch.zeros(3, 16 * grid[0], 16 * grid[1])])

    tokens, _ = model.embed(batch)

    pos = model.pos_embed.detach()[0]
    channels = pos[1:].T.reshape(-1, 4, 4).numpy()
    resized = [
        np.asarray(Image.fromarray(channel).resize(grid[::-1], Image.Resampling.BICUBIC))
        for channel in channels
    ]
    expected = torch.from_numpy(np.stack(resized)).flatten(1).T + model.patch_embed.proj.bias  # type: ignore[operator]
    assert_close("patches", tokens[1:], expected, atol=1e-5)
    assert_close("class token", tokens[0], pos[0] + model.cls_token[0, 0], atol=1e-6)


def test_pixels_give_the_scores_of_their_normalised_images() -> None:
    model = make(NANO)
    random = torch.Generator().manual_seed(0)
    sizes = [(64, 96), (48, 32)]
    pixels = [torch.randint(256, (3, *s), dtype=torch.uint8, generator=random) for s in sizes]
    mean, std = (torch.tensor(v)[:, None, None] for v in (NANO.pixel_mean, NANO.pixel_std))
    normalised = [(image / 255 - mean) / std for image in pixels]

    scores = model(PackedBatch.from_images(pixels))

    assert_close("scores", scores, model(PackedBatch.from_images(normalised)), atol=1e-5)


def test_features_are_the_tokens_after_the_blocks_asked_for() -> None:
    model = make(NANO)
    batch = PackedBatch.from_images(random_images([(64, 64), (32, 32)]))
    with torch.inference_mode():
        every = [tokens.clone() for tokens in model.run_blocks(*model.embed(batch))]

    features = model.forward_features(batch, out_indices=(0, 2))

    assert features[0].shape == (17 + 5, 64)
    assert_close("block 0", features[0], every[0], atol=1e-7)
    assert_close("block 2", features[1], every[2], atol=1e-7)


def test_loading_other_weights_takes_effect() -> None:
    model = make(NANO)
    batch = PackedBatch.from_images(random_images([(64, 64)]))
    before = model(batch)

    halved = {name: tensor * 0.5 for name, tensor in model.state_dict().items()}
    model.load_state_dict(halved)

    fresh = DeiT(NANO)
    fresh.load_state_dict(halved)
    assert not torch.allclose(model(batch), before)
    assert_close("reloaded", model(batch), fresh(batch), atol=1e-6)


def test_casts_take_effect() -> None:
    model = make(NANO)
    batch = PackedBatch.from_images(random_images([(64, 64)]))
    exact = model(batch)
    cast = model.to(torch.bfloat16)(batch)
    assert cast.dtype == torch.bfloat16
    assert_close("bfloat16", cast.float(), exact, atol=0.05 * exact.abs().max().item())


def test_graphs_are_of_its_own_and_the_common_squares() -> None:
    model = DeiT(DeiTConfig(width=32, depth=1, heads=2, grid=(5, 5), patch_size=32))
    buckets = model.graph_buckets(8192)
    lengths = {bucket.length for bucket in buckets if isinstance(bucket, EqualBucket)}
    assert not any(isinstance(bucket, Bucket) for bucket in buckets)
    assert lengths == {5**2 + 1, 7**2 + 1, 12**2 + 1, 16**2 + 1, 24**2 + 1, 32**2 + 1, 39**2 + 1}


def test_graphs_of_images_of_any_sizes_need_packed_attention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = DeiT(DeiTConfig(width=32, depth=1, heads=2))
    mixed = [[197, 577], [17] * 20, [1025, 6085], [16_000]]
    assert not any(choose_bucket(model.graph_buckets(65_536), lengths) for lengths in mixed)
    Flash(monkeypatch)
    buckets = model.graph_buckets(65_536)
    assert [bucket.tokens for bucket in buckets] == sorted(bucket.tokens for bucket in buckets)
    assert all(choose_bucket(buckets, lengths) for lengths in mixed)
    assert len(buckets) <= 180
    for bucket in buckets:
        if isinstance(bucket, Bucket):
            blocks = bucket.sequences * -(-bucket.longest // 128)
            assert blocks <= 4096  # which are launched, most of them for nothing


def test_the_layers_are_compiled_in_one_piece() -> None:
    model = make(NANO).to(torch.bfloat16)
    with torch.inference_mode():
        inputs = model.embed(PackedBatch.from_images(random_images([(64, 64)] * 3)))
        expected = model.classify(*inputs)
        whole = torch.compile(model.classify, backend="eager", fullgraph=True)
        assert torch.equal(whole(*inputs), expected)


def test_replays_hold_images_of_any_sizes_where_attention_is_packed(
    recorded: list[EagerGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = DeiT(DeiTConfig(width=32, depth=2, heads=2, num_classes=10))
    model.load_state_dict(make_weights(model))
    mixed = [[(224, 224), (384, 384)], [(32, 48)], [(16, 400), (64, 64)], [(224, 224)] * 3]
    batches = [PackedBatch.from_images(random_images(sizes)) for sizes in mixed * 2]
    expected = [model(batch) for batch in batches]

    flash = Flash(monkeypatch)
    graphed = GraphedModel(model, model.graph_buckets(800))
    calls = flash.calls

    for batch, scores in zip(batches, expected, strict=True):
        assert_close(f"{batch.grids}", graphed(batch), scores, atol=1e-5)
    assert sum(graph.replays for graph in recorded) == len(batches)
    assert flash.calls - calls == 2 * 2 * 3  # blocks in the batches that are not of common squares
