"""Train the demo segmenter.

``python -m vimserve.model.demo.segmentation.train`` needs ``.[train]`` and npm.
"""

from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from vimserve.model.config import UPerNetConfig
from vimserve.model.demo import train as classification
from vimserve.model.demo.icons import TRAINING_SETS, by_class, load_icons
from vimserve.model.demo.segmentation.scenes import CLASSES, STAGES, Batch, draw_batch
from vimserve.model.training.batches import Draw, normalize
from vimserve.model.training.loop import Outcome, Recipe, run
from vimserve.model.training.optimization import is_matrix, muon_and_adamw
from vimserve.model.training.options import Options, read_options
from vimserve.model.training.upernet import SegmentationNetwork

CONFIG = UPerNetConfig(
    classification.CONFIG, out_indices=(1, 3, 5, 7), channels=48, num_classes=len(CLASSES)
)
MATRIX_RATE, BACKBONE_RATE, HEAD_RATE, DECAY = 1e-3, 5e-4, 3e-3, 0.02
# Four pixels in five are background, which is soon learnt; the objects' names are not.
BACKGROUND_WEIGHT = 0.4
DEFAULTS = Options(
    Path(__file__).with_name("demo-seg.safetensors"),
    minutes=30,
    seed=1,
    start_from=classification.DEFAULTS.output,
)


def drawing(tokens: int) -> Draw:
    """A function that draws batches of about ``tokens`` patches."""
    return partial(draw_batch, by_class(load_icons(TRAINING_SETS)), tokens)


def make_network(start_from: Path | None) -> SegmentationNetwork:
    """A network with random weights, a segmenter's, or a classifier's for the backbone."""
    network = SegmentationNetwork(CONFIG)
    if start_from:
        state = load_file(start_from)
        if "cls_token" in state:
            network.start_from_classifier(state)
        else:
            network.load_state_dict(state)
    return network


class Criterion(nn.Module):
    """Cross entropy of the classes' shares in every 4×4 pixels, the background weighing less."""

    def forward(self, network: nn.Module, batch: Batch) -> Outcome:
        """The loss, and the share of the squares of 4×4 pixels whose largest class is right."""
        scores = network(normalize(batch.pixels))
        shares = class_shares(batch.classes, scores.shape[1])
        weight = torch.ones(scores.shape[1])
        weight[0] = BACKGROUND_WEIGHT
        loss = F.cross_entropy(scores, shares, weight)
        correct = (scores.argmax(1) == shares.argmax(1)).float().mean()
        return Outcome(loss, {"loss": float(loss.detach()), "pixels": float(correct)})


def class_shares(classes: Tensor, num_classes: int) -> Tensor:
    """Of classes ``[N, H, W]``, the share of each in every 4×4 pixels: ``[N, C, H / 4, W / 4]``."""
    N, H, W = classes.shape
    shares = torch.zeros(N, num_classes, H // 4, W // 4)
    part = torch.tensor(1 / 16).expand(N, 1, H // 4, W // 4)
    for down in range(4):
        for right in range(4):
            shares.scatter_add_(1, classes[:, None, down::4, right::4].long(), part)
    return shares


def make_optimizers(
    network: SegmentationNetwork, _: nn.Module
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the layers' matrices; AdamW for the rest, faster for what starts from nothing."""
    matrices: list[Tensor] = []
    slow: list[Tensor] = []
    fast: list[Tensor] = []
    for name, parameter in network.named_parameters():
        if is_matrix(name):
            matrices.append(parameter)
        elif parameter.requires_grad:
            known = name.startswith("backbone.") and "fpn" not in name
            (slow if known else fast).append(parameter)
    groups = [
        {"params": slow, "weight_decay": 0.0, "peak": BACKBONE_RATE},
        {"params": fast, "weight_decay": DECAY, "peak": HEAD_RATE},
    ]
    return muon_and_adamw(matrices, MATRIX_RATE, DECAY, groups)


RECIPE = Recipe(
    drawing,
    STAGES,
    make_network,
    Criterion,
    make_optimizers,
    averaging=0.995,
    unit="scenes",
)


def main() -> None:
    """Read the command line and train."""
    options = read_options(__doc__, DEFAULTS)
    load_icons(TRAINING_SETS)  # drawn once, by one process
    run(RECIPE, options)


if __name__ == "__main__":
    main()
