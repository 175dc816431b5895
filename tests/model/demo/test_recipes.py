"""What the demos tell the training loop."""

import pickle
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vimserve.model.demo import train as classification
from vimserve.model.demo.batches import Batch
from vimserve.model.demo.detection import train as detection
from vimserve.model.demo.icons import LABELS
from vimserve.model.demo.segmentation import train as segmentation
from vimserve.model.training.loop import Recipe

RECIPES = {
    "classification": classification.RECIPE,
    "segmentation": segmentation.RECIPE,
    "detection": detection.RECIPE,
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_other_processes_can_be_told(recipe: Recipe) -> None:
    assert pickle.loads(pickle.dumps(recipe)) == recipe  # noqa: S301


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_optimizers_step_every_parameter_once(recipe: Recipe) -> None:
    network, criterion = recipe.network(None), recipe.criterion()
    groups = [g for o in recipe.optimizers(network, criterion) for g in o.param_groups]
    stepped = [id(parameter) for group in groups for parameter in group["params"]]
    trained = chain(network.parameters(), criterion.parameters())
    assert sorted(stepped) == sorted(id(p) for p in trained if p.requires_grad)
    assert all(group["peak"] > 0 for group in groups)


def test_the_classifier_starts_from_a_detector_but_for_its_class_token(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = detection.make_network(None).state_dict()
    save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "detector")
    network = classification.make_network(tmp_path / "detector").state_dict()
    name = "layers.3.mixer.out_proj.weight"
    assert torch.equal(network[name], state[f"backbone.net.{name}"])
    middle = network["pos_embed"].shape[1] // 2
    patches = torch.cat(
        (network["pos_embed"][:, :middle], network["pos_embed"][:, middle + 1 :]), 1
    )
    assert torch.equal(patches, state["backbone.net.pos_embed"])
    assert network["cls_token"].any()


def test_patches_show_the_object_the_background_or_its_edge() -> None:
    coverage = torch.tensor([[0.0, 0.1, 0.5], [1.0, 0.0, 0.3]])
    batch = Batch(torch.empty(0), torch.tensor([7, 2]), coverage)
    background, edge = len(LABELS), -100
    assert classification.shown(batch).tolist() == [[background, edge, 7], [2, background, edge]]


def test_the_criterion_teaches_the_class_token_and_the_patches() -> None:
    torch.manual_seed(0)
    network, criterion = classification.make_network(None), classification.Criterion()
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    batch = Batch(pixels, torch.tensor([7, 2]), torch.rand(2, 16))
    outcome = criterion(network, batch)
    outcome.loss.backward()
    assert outcome.loss > outcome.figures["loss"] > 0
    assert outcome.weight == 2
    for module in (network, criterion):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
