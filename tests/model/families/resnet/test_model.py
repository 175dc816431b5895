"""A ResNet gives the numbers of another implementation, whatever else rides in the batch."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tests.closeness import assert_close
from tests.model.families.resnet.published import their_classifier
from tests.model.families.resnet.small import NARROW, SMALL, made_weights
from vimserve.model import threads
from vimserve.model.architecture import IMAGENET_MEAN, IMAGENET_STD
from vimserve.model.batch import PackedBatch
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families.resnet.config import ResNetConfig
from vimserve.model.families.resnet.model import ResNet

SIZES = [(64, 64), (16, 16), (48, 80), (64, 64), (112, 16)]


def made(config: ResNetConfig) -> ResNet:
    model = ResNet(config).eval()
    model.load_state_dict(made_weights(model))
    return model


def channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "config",
    [NARROW, dataclasses.replace(SMALL, deep_stem=True)],
    ids=["as torchvision's", "deep stem"],
)
def test_matches_another_implementation(config: ResNetConfig) -> None:
    """Both the scores and what heads read, at sizes of which not all are whole patches."""
    model = made(config)
    theirs = their_classifier(config, model.state_dict())
    torch.manual_seed(0)
    for height, width in ((64, 96), (75, 53), (1, 1)):
        images = torch.randn(2, 3, height, width)
        with torch.inference_mode():
            expected = theirs(images.double(), output_hidden_states=True)
            levels = list(model.levels(channels_last(images)))
            scores = model.fc(levels[-1].mean((2, 3)))
        for level, feature in zip(levels, expected.hidden_states[1:], strict=True):
            assert level.is_contiguous(memory_format=torch.channels_last)
            assert_close(f"features {height}x{width}", level, feature, atol=1e-4)
        assert_close(f"scores {height}x{width}", scores, expected.logits, atol=1e-4)


def test_pixels_of_packed_images_are_normalised_and_put_together() -> None:
    model = made(NARROW)
    theirs = their_classifier(NARROW, model.state_dict())
    torch.manual_seed(0)
    images = [torch.randint(256, (3, *size), dtype=torch.uint8) for size in SIZES]
    mean, std = (torch.tensor(v).double()[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))

    scores = model(PackedBatch.from_images(images))

    with torch.inference_mode():
        normalised = [(image.double() / 255 - mean) / std for image in images]
        expected = torch.cat([theirs(image[None]).logits for image in normalised])
    assert_close("scores", scores, expected, atol=1e-4)


def test_images_together_equal_the_same_alone() -> None:
    model = made(SMALL)
    torch.manual_seed(0)
    images = [torch.randn(3, height, width) for height, width in SIZES]
    together = model(PackedBatch.from_images(images))
    alone = torch.cat([model(PackedBatch.from_images([image])) for image in images])
    assert_close("scores", together, alone, atol=1e-5)


def test_many_equal_images_run_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(SMALL)
    batch = PackedBatch.from_images([torch.randn(3, 32, 48) for _ in range(5)])
    whole = model(batch)
    monkeypatch.setattr("vimserve.model.families.resnet.model.GROUP_PATCHES", 12)
    assert [group for group, _ in model.groups(batch)] == [[0, 1], [2, 3], [4]]
    assert_close("scores", model(batch), whole, atol=1e-5)


def test_shortcuts_do_not_spoil_what_heads_have_got() -> None:
    """Blocks add to their input in place."""
    model = made(dataclasses.replace(SMALL, blocks=(2, 2, 2, 2)))
    with torch.inference_mode():
        levels = model.levels(channels_last(torch.randn(1, 3, 64, 64)))
        copies = [(level, level.clone()) for level in levels]
    assert all(torch.equal(level, copy) for level, copy in copies)


def test_norms_are_folded_again_after_loading() -> None:
    model = made(SMALL)
    batch = PackedBatch.from_images([torch.randn(3, 48, 48)])
    before = model(batch)
    for name in ("bn1.running_mean", "layer2.0.downsample.1.bias", "layer4.0.bn2.running_var"):
        state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        model.load_state_dict(state | {name: state[name] + 1})
        after = model(batch)
        assert (after - before).abs().max() > 1e-3
        before = after


def test_bfloat16_keeps_the_statistics_and_comes_close() -> None:
    model = made(SMALL)
    torch.manual_seed(0)
    batch = PackedBatch.from_images([torch.randn(3, 64, 64) for _ in range(4)])
    exact, statistics = model(batch), model.bn1.running_var
    model.to(torch.bfloat16)
    assert model.bn1.running_var is not None
    assert torch.equal(model.bn1.running_var, statistics)  # type: ignore[arg-type]
    assert model.bn1.weight.dtype == torch.float32
    assert model.conv1.weight.dtype == torch.bfloat16
    rounded = model(batch)
    assert rounded.dtype == torch.bfloat16
    # About twenty roundings to 8 bits, each off by 1/256 at most.
    assert ((rounded - exact).norm() / exact.norm()).item() < 0.05


@pytest.mark.parametrize("name", ["layer3.0.conv2.weight", "layer2.0.downsample.1.running_var"])
def test_weights_that_are_no_numbers_are_refused(name: str) -> None:
    """A fused ReLU would hide what comes of them."""
    model = made(SMALL)
    model.state_dict()[name].view(-1)[3] = -torch.inf
    with pytest.raises(CheckpointError, match="weights of a convolution are not all finite"):
        model.warm_up()


def test_patches_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="patches have 192 values, the model takes 768: pack with"):
        made(SMALL)(PackedBatch.from_images([torch.randn(3, 64, 64)], patch_size=8, stride=8))


def test_only_equal_blocks_tell_how_many_threads_are_best(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def each_block(blocks: list[nn.Module]) -> Iterator[nn.Module]:
        compared.append(blocks)
        return threads.each_block(blocks)

    monkeypatch.setattr("vimserve.model.families.resnet.model.each_block", each_block)
    model = made(NARROW)
    model(PackedBatch.from_images([torch.randn(3, 32, 32)]))
    assert compared == [list(model.get_submodule("layer3").children())[1:]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": (3, 4, 6)}, r"blocks must be 4 numbers of at least 1, not \(3, 4, 6\)"),
        ({"blocks": (3, 4, 0, 3)}, "blocks must be 4 numbers"),
        ({"width": 0}, "width must be at least 1, not 0"),
        ({"num_classes": -1}, "num_classes must be at least 0"),
        ({"width": 7, "deep_stem": True}, "width 7 must be even for a deep stem"),
        ({"grid": (0, 3)}, "grid must have at least one row"),
    ],
)
def test_what_is_no_configuration(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)  # type: ignore[arg-type]
