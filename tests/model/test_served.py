"""Every model answers batches in the same way, whatever its family."""

import pytest
import torch

from tests.closeness import assert_close
from tests.eager_graph import EagerGraph
from vimserve.loadtests.gpu_check.recipe import make_weights
from vimserve.model.architecture import ModelConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.families import build
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.resnet.config import ResNetConfig
from vimserve.model.families.upernet.config import UPerNetConfig
from vimserve.model.families.upernet.segmenter import Segmenter
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.graphs import GraphedModel
from vimserve.model.served import ServedModel

VIM = VimConfig(width=32, depth=4, states=8, num_classes=10, grid=(4, 4))
DEIT = DeiTConfig(width=64, depth=4, heads=1, num_classes=10, grid=(4, 4))
RESNET = ResNetConfig(blocks=(1, 2, 1, 1), width=8, inner=8, num_classes=10)
UPERNETS = [
    UPerNetConfig(backbone, (0, 1, 2, 3), 16, num_classes=5) for backbone in (VIM, DEIT, RESNET)
]
ALL = [VIM, DEIT, RESNET, *UPERNETS]
SIZES = [(64, 64), (32, 48), (64, 64), (48, 32)]


def make(config: ModelConfig) -> ServedModel:
    model = build(config)
    model.load_state_dict(make_weights(model))
    return model.eval()


def images() -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(3, *size, generator=random) for size in SIZES]


@pytest.mark.parametrize("config", [VIM, DEIT, RESNET], ids=["vim", "deit", "resnet"])
def test_a_classifier_answers_with_scores_whatever_size_is_wanted(config: ModelConfig) -> None:
    model, batch = make(config), PackedBatch.from_images(images())
    answers = model.answer(batch, [None, (8, 8), None, None])
    (scores,) = answers.outputs
    assert_close("scores", scores, model(batch), atol=1e-7)
    assert scores.dtype == torch.float32
    assert answers.finite.tolist() == [True] * 4


@pytest.mark.parametrize("config", UPERNETS, ids=["vim", "deit", "resnet"])
def test_a_segmenter_answers_each_image_with_what_is_wanted(config: UPerNetConfig) -> None:
    model, batch = make(config), PackedBatch.from_images(images())
    assert isinstance(model, Segmenter)

    answers = model.answer(batch, [(64, 64), None, (100, 30), None])

    outputs = [output for part in answers.outputs for output in part]
    maps, scores = model.segment(batch), model(batch)
    assert torch.equal(outputs[0], maps[0])
    assert_close("scores", outputs[1], scores[1], atol=1e-7)
    assert (outputs[2].dtype, outputs[2].shape) == (torch.uint8, (100, 30))
    assert_close("scores", outputs[3], scores[3], atol=1e-7)
    assert answers.finite.tolist() == [True] * 4


@pytest.mark.parametrize("config", ALL, ids=lambda config: type(config).__name__)
def test_only_the_image_with_a_wrong_number_has_no_finite_scores(config: ModelConfig) -> None:
    spoilt = images()
    spoilt[1] = torch.full((3, *SIZES[1]), torch.nan)
    answers = make(config).answer(PackedBatch.from_images(spoilt), SIZES)
    assert answers.finite.tolist() == [True, False, True, True]


def test_replays_answer_as_the_model_does(recorded: list[EagerGraph]) -> None:
    model, batch = make(VIM), PackedBatch.from_images(images())
    assert isinstance(model, Vim)
    answers = GraphedModel(model, model.graph_buckets(320)).answer(batch, [None] * 4)
    assert_close("scores", answers.outputs[0], model(batch), atol=1e-5)
    assert answers.finite.tolist() == [True] * 4
    assert sum(graph.replays for graph in recorded) == 1


@pytest.mark.parametrize("config", ALL, ids=lambda config: type(config).__name__)
def test_parameters_changed_in_place_take_effect_once_what_is_prepared_is_forgotten(
    config: ModelConfig,
) -> None:
    model, batch, wanted = make(config), PackedBatch.from_images(images()), [None] * 4
    before = model.answer(batch, wanted).outputs[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 0.9  # type: ignore[misc]
    model.forget_prepared()
    fresh = build(config).eval()
    fresh.load_state_dict(model.state_dict())

    after = model.answer(batch, wanted).outputs[0]

    assert not torch.allclose(after, before)
    assert_close("scores", after, fresh.answer(batch, wanted).outputs[0], atol=1e-6)
