"""Train the demo segmenter.

``python -m vimserve.model.demo.segmentation.train`` needs ``.[train]`` and npm.
"""

from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from vimserve.model.config import UPerNetConfig
from vimserve.model.demo import train as classification
from vimserve.model.demo.segmentation.scenes import CLASSES, STAGES, Batch, draw_batch
from vimserve.model.demo.training import train, training_icons
from vimserve.model.training.batches import Draw, normalize
from vimserve.model.training.class_shares import class_shares
from vimserve.model.training.loop import Outcome, Recipe
from vimserve.model.training.optimization import HeadRates, muon_and_two_adamw
from vimserve.model.training.options import Options
from vimserve.model.training.upernet import SegmentationNetwork

CONFIG = UPerNetConfig(
    classification.CONFIG, out_indices=(1, 3, 5, 7), channels=48, num_classes=len(CLASSES)
)
RATES = HeadRates(matrices=1e-3, known=5e-4, new=3e-3, decay=0.02)
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
    return partial(draw_batch, training_icons(), tokens)


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


def make_optimizers(
    network: SegmentationNetwork, _: nn.Module
) -> tuple[torch.optim.Optimizer, ...]:
    """Slower for the backbone, which is trained already."""
    return muon_and_two_adamw(
        network.named_parameters(),
        lambda name: name.startswith("backbone.") and "fpn" not in name,
        RATES,
    )


RECIPE = Recipe(
    drawing,
    STAGES,
    make_network,
    Criterion,
    make_optimizers,
    averaging=0.995,
    unit="scenes",
)


if __name__ == "__main__":
    train(RECIPE, __doc__, DEFAULTS)
