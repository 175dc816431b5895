import dataclasses

import pytest
import torch
import torch.nn.functional as F

from tests.closeness import assert_close
from vimserve.loadtests.gpu_check.recipe import make_weights
from vimserve.model.batch import PackedBatch
from vimserve.model.buckets import choose_bucket, make_buckets
from vimserve.model.families.vim.config import (
    VIM_BASE,
    VIM_SMALL,
    VIM_SMALL_PLUS,
    VIM_TINY,
    VIM_TINY_PLUS,
    Rope,
    VimConfig,
)
from vimserve.model.families.vim.model import Vim

NANO = VimConfig(width=64, depth=4, num_classes=10, grid=(4, 4))
TEN_SIZES = [
    (16, 16), (16, 32), (64, 64), (48, 112), (224, 224),
    (320, 192), (16, 400), (96, 96), (400, 16), (160, 208),
]  # fmt: skip
EVERY_KIND = [
    *(dataclasses.replace(NANO, bidirectional=b) for b in ("none", "layer", "ssm", "ssm+conv")),
    *(dataclasses.replace(NANO, pooling=p) for p in ("head", "double", "mean", "max", "last")),
    dataclasses.replace(NANO, stride=8, grid=(7, 7)),
    dataclasses.replace(NANO, states=8, grid=(3, 5)),
    dataclasses.replace(NANO, pooling="head", divide=False),
    dataclasses.replace(NANO, pooling="registers", registers=4, reduce=2),
    dataclasses.replace(NANO, pooling="registers", registers=5),
    *(dataclasses.replace(NANO, pooling=p, rope=Rope()) for p in ("middle", "head", "mean")),
    dataclasses.replace(NANO, pooling="double", rope=Rope(8, residual=False)),
    dataclasses.replace(NANO, bidirectional="layer", rope=Rope()),
]


def make(config: VimConfig) -> Vim:
    model = Vim(config)
    model.load_state_dict(make_weights(model))
    return model


def pack(config: VimConfig, images: list[torch.Tensor]) -> PackedBatch:
    return PackedBatch.from_images(images, config.patch_size, config.stride)


@pytest.mark.parametrize("config", EVERY_KIND, ids=str)
def test_a_packed_batch_equals_its_images_alone_in_any_order(config: VimConfig) -> None:
    model = make(config)
    torch.manual_seed(0)
    images = [torch.randn(3, *size) for size in TEN_SIZES]
    alone = torch.cat([model(pack(config, [image])) for image in images])

    together = model(pack(config, images))

    assert_close("packed", together, alone, atol=1e-5)
    order = torch.randperm(10).tolist()
    shuffled = model(pack(config, [images[i] for i in order]))
    assert_close("shuffled", shuffled, together[order], atol=1e-5)


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (VIM_TINY, 7.148008),
        (VIM_SMALL, 25.796584),
        (VIM_BASE, 97.598440),
        (VIM_TINY_PLUS, 7.250344),
        (VIM_SMALL_PLUS, 26.001256),
    ],
)
def test_published_sizes(config: VimConfig, millions: float) -> None:
    with torch.device("meta"):
        model = Vim(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == round(millions * 1e6)


@pytest.mark.parametrize("pooling", ["middle", "head", "double", "mean"])
def test_position_embeddings_are_resized_around_the_class_tokens(pooling: str) -> None:
    config = dataclasses.replace(NANO, pooling=pooling)  # type: ignore[arg-type]
    model = make(config)
    grid, patches = (2, 6), 12
    zeros = pack(config, [torch.zeros(3, 32, 96)])
    zeros.patches.zero_()

    tokens, _ = model.embed(zeros)

    places = {"middle": [6], "head": [0], "double": [0, 13]}.get(pooling, [])
    trained = {"middle": [8], "head": [0], "double": [0, 17]}.get(pooling, [])
    pos = model.pos_embed.detach()[0]
    of_patches = [i for i in range(len(pos)) if i not in trained]
    square = pos[of_patches].T.reshape(1, -1, 4, 4)
    resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
    expected = resized[0].flatten(1).T + model.patch_embed.proj.bias  # type: ignore[operator]
    rest = [i for i in range(patches + len(places)) if i not in places]
    assert_close("patches", tokens[rest], expected, atol=1e-6)
    class_tokens = [p[0, 0] for n, p in model.named_parameters() if n.startswith("cls_token")]
    for old, new, token in zip(trained, places, class_tokens, strict=True):
        assert_close("class token", tokens[new], pos[old] + token, atol=1e-6)


def test_loading_other_weights_takes_effect() -> None:
    model = make(NANO)
    batch = pack(NANO, [torch.randn(3, 64, 64)])
    before = model(batch)

    model.load_state_dict({name: tensor * 0.5 for name, tensor in model.state_dict().items()})

    assert not torch.allclose(model(batch), before)


def test_features_are_the_hidden_states_of_the_blocks_asked_for() -> None:
    model = make(NANO)
    batch = pack(NANO, [torch.randn(3, 64, 64), torch.randn(3, 32, 32)])
    with torch.inference_mode():
        every = [hidden.clone() for hidden, _ in model.run_blocks(*model.embed(batch))]

    features = model.forward_features(batch, out_indices=(1, 3))

    assert_close("block 1", features[0], every[1], atol=1e-7)
    assert_close("block 3", features[1], every[3], atol=1e-7)


def test_patches_of_another_size_are_refused() -> None:
    with pytest.raises(
        ValueError, match="192 values, the model takes 768: pack with patch_size=16"
    ):
        make(NANO)(PackedBatch.from_images([torch.zeros(3, 32, 32)], patch_size=8, stride=8))


def test_graphs_hold_any_images() -> None:
    buckets = make(NANO).graph_buckets(8192)
    assert set(buckets) < set(make_buckets(8192))
    for lengths in ([8192], [197, 2, 577], [17] * 100):
        assert choose_bucket(buckets, lengths) is not None


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_poolings_that_cannot_be_recorded_are_refused(pooling: str) -> None:
    with pytest.raises(ValueError, match=f"pooling='{pooling}' cannot be recorded"):
        Vim(VimConfig(width=32, depth=1, pooling=pooling)).graph_buckets(256)  # type: ignore[arg-type]
