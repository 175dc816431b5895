"""A linear head on packed features: as by hand, alone as in a batch, and from its file."""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from tests.closeness import assert_close
from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families import build
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.linear.config import LinearConfig
from vimserve.model.families.linear.model import LinearSegmenter
from vimserve.model.families.vim.config import VimConfig

VIM = LinearConfig(VimConfig(width=32, depth=8, states=8, grid=(4, 4)), 5)
DEIT = LinearConfig(DeiTConfig(width=64, depth=4, heads=1, grid=(4, 4)), 3)
BOTH = pytest.mark.parametrize("config", [VIM, DEIT], ids=["vim", "deit"])


def make(config: LinearConfig) -> LinearSegmenter:
    torch.manual_seed(0)
    model = build(config).eval()
    assert isinstance(model, LinearSegmenter)
    return model


def images() -> list[torch.Tensor]:
    sizes = (64, 96), (48, 48), (64, 96)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]


@BOTH
def test_scores_are_products_with_the_features_of_each_patch(config: LinearConfig) -> None:
    model, (image, *_) = make(config), images()
    batch = PackedBatch.from_images([image])
    tokens = torch.cat(model.encoder.forward_features(batch, config.out_indices), 1)
    (token,) = config.backbone.class_positions(4 * 6)
    patches = torch.cat([tokens[:token], tokens[token + 1 :]])
    weight, bias = model.decoder.weight, model.decoder.bias
    (scores,) = model(batch)
    assert scores.shape == (config.num_classes, 16, 24)
    for row, column, label in ((0, 0, 0), (5, 3, 1), (15, 23, 2)):
        part = (row % 4 * 4 + column % 4) * config.num_classes + label
        by_hand = patches[row // 4 * 6 + column // 4] @ weight[part] + bias[part]
        assert_close("score", by_hand[None], scores[label, row, column][None], atol=1e-5)


@BOTH
def test_packed_is_alone(config: LinearConfig) -> None:
    model, several = make(config), images()
    together = model(PackedBatch.from_images(several))
    for image, scores in zip(several, together, strict=True):
        (alone,) = model(PackedBatch.from_images([image]))
        assert_close("scores", alone, scores, atol=1e-5)
    sizes = [tuple(one.shape) for one in model.segment(PackedBatch.from_images(several))]
    assert sizes == [(64, 96), (48, 48), (64, 96)]


@BOTH
def test_its_file_says_what_it_is(config: LinearConfig, tmp_path) -> None:
    model, batch = make(config), PackedBatch.from_images(images())
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    spec = catalog.resolve(f"mine={tmp_path / 'mine.safetensors'}")
    assert (spec.task, spec.config) == ("segment", config)
    assert spec.palette is not None
    loaded = catalog.load(spec)
    for expected, found in zip(model(batch), loaded(batch), strict=True):
        assert torch.equal(expected, found)


def test_the_head_of_another_backbone_is_refused(tmp_path) -> None:
    state = make(VIM).state_dict()
    state["decoder.weight"] = torch.zeros(80, 4 * 64)
    save_file(state, tmp_path / "mine.safetensors")
    with pytest.raises(CheckpointError, match=r"reads 256 features .* has 128: it belongs to"):
        catalog.resolve(f"mine={tmp_path / 'mine.safetensors'}")
    state["decoder.weight"] = torch.zeros(79, 4 * 32)
    save_file(state, tmp_path / "mine.safetensors")
    with pytest.raises(CheckpointError, match=r"not a linear head: decoder.weight must have 16"):
        catalog.resolve(f"mine={tmp_path / 'mine.safetensors'}")


def test_too_many_classes_or_too_few_blocks() -> None:
    with pytest.raises(ValueError, match=r"at most 256, .*, not 257"):
        dataclasses.replace(VIM, num_classes=257)
    with pytest.raises(ValueError, match=r"reads 4 blocks, but the backbone has 3"):
        LinearConfig(VimConfig(width=32, depth=3, states=8), 2)
