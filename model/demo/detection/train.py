"""Train the demo detector.

``python -m vimserve.model.demo.detection.train`` needs ``.[train]`` and npm.
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from vimserve.model.demo import train as classification
from vimserve.model.demo.detection.scenes import CLASSES, STAGES, Batch, draw_batch, to_find
from vimserve.model.demo.segmentation import train as segmentation
from vimserve.model.demo.training import train, training_icons
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.training.batches import Draw, normalize
from vimserve.model.training.cascade import CascadeNetwork
from vimserve.model.training.detection import losses
from vimserve.model.training.loop import Outcome, Recipe
from vimserve.model.training.optimization import HeadRates, muon_and_two_adamw
from vimserve.model.training.options import Options

CONFIG = CascadeConfig(
    classification.CONFIG.without_classifier(),
    channels=48,
    box_width=96,
    num_classes=len(CLASSES),
)
RATES = HeadRates(matrices=1e-3, known=5e-4, new=2e-3, decay=0.02)
# Most pixels are background, which is soon learnt; the objects' names are not.
BACKGROUND_WEIGHT = 0.4
PLACE_STRIDES = (4, 8, 16, 32)
DEFAULTS = Options(
    Path(__file__).with_name("demo-det.safetensors"),
    minutes=70,
    start_from=segmentation.DEFAULTS.output,
    tokens=1024,
)


def drawing(tokens: int) -> Draw:
    """A function that draws batches of about ``tokens`` patches."""
    return partial(draw_batch, training_icons(), tokens)


def make_network(start_from: Path | None) -> CascadeNetwork:
    """A network with random weights, a detector's, or a segmenter's for the backbone."""
    network = CascadeNetwork(CONFIG)
    if start_from:
        state = load_file(start_from)
        if "decode_head.conv_seg.weight" in state:
            network.start_from_segmenter(state)
        else:
            network.load_state_dict(state)
    return network


class Criterion(nn.Module):
    """The detector's losses, and the class at every place of the pyramid.

    Classes of all places teach the features much faster than those of a few boxes, as in Hybrid
    Task Cascade (arXiv 1901.07518); the server needs no such answers, so the heads for them are
    not kept.
    """

    def __init__(self, channels: int = CONFIG.channels) -> None:
        super().__init__()
        self.place_heads = nn.ModuleList(
            nn.Conv2d(channels, len(CLASSES) + 1, 1) for _ in PLACE_STRIDES
        )

    def forward(self, network: CascadeNetwork, batch: Batch) -> Outcome:
        """The sum of all losses, which are the figures."""
        pyramid, levels = network(normalize(batch.pixels))
        objects = [to_find(*one) for one in zip(batch.objects, batch.labels, strict=True)]
        size = torch.tensor(batch.pixels.shape[2:])
        named = losses(network, pyramid, levels, objects, size)
        named["places"] = self._places(pyramid, batch)
        total = torch.stack(list(named.values())).sum()
        return Outcome(total, {name: float(loss.detach()) for name, loss in named.items()})

    def _places(self, pyramid: Sequence[Tensor], batch: Batch) -> Tensor:
        weight = torch.ones(len(CLASSES) + 1)
        weight[0] = BACKGROUND_WEIGHT
        of_levels = [
            F.cross_entropy(head(level), center_classes(batch, stride), weight)
            for head, level, stride in zip(self.place_heads, pyramid, PLACE_STRIDES, strict=False)
        ]
        return torch.stack(of_levels).mean()


def center_classes(batch: Batch, stride: int) -> Tensor:
    """The classes in the middle of every square of ``stride`` pixels, the background 0.

    ``[N, H / stride, W / stride]``; what is left at the right and below belongs to none.
    """
    known = [torch.cat((torch.zeros(1, dtype=torch.long), 1 + one)) for one in batch.labels]
    height, width = (side // stride for side in batch.objects.shape[1:])
    centers = batch.objects[:, stride // 2 :: stride, stride // 2 :: stride].long()
    centers = centers[:, :height, :width]
    return torch.stack([table[one] for table, one in zip(known, centers, strict=True)])


def make_optimizers(
    network: CascadeNetwork, criterion: nn.Module
) -> tuple[torch.optim.Optimizer, ...]:
    """Slower for the backbone, which is trained already."""
    return muon_and_two_adamw(
        chain(network.named_parameters(), criterion.named_parameters()),
        lambda name: name.startswith("backbone.net."),
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
