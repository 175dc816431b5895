"""Train the demo model: ``python -m vimserve.model.demo.train`` (needs ``.[train]`` and npm)."""

from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from vimserve.model.config import VimConfig
from vimserve.model.demo.batches import STAGES, Batch, draw_batch
from vimserve.model.demo.icons import LABELS
from vimserve.model.demo.training import train, training_icons
from vimserve.model.training.batches import Draw, normalize
from vimserve.model.training.loop import Outcome, Recipe
from vimserve.model.training.optimization import is_matrix, muon_and_adamw
from vimserve.model.training.options import Options
from vimserve.model.training.vim import Network

CONFIG = VimConfig(width=96, depth=8, states=8, num_classes=len(LABELS), grid=(14, 14))
PEAK_RATE, DECAY = 3e-3, 0.05
# Of a large scene nearly all patches are background.
BACKGROUND_WEIGHT = 0.2
TRUNK = "backbone.net."  # of a detector's names
DEFAULTS = Options(Path(__file__).with_name("demo.safetensors"), minutes=36)


def drawing(tokens: int) -> Draw:
    """A function that draws batches of about ``tokens`` patches."""
    return partial(draw_batch, training_icons(), tokens)


def make_network(start_from: Path | None) -> Network:
    """A network with random weights, a classifier's, or a detector's below its class token."""
    network = Network(CONFIG)
    if start_from:
        state = load_file(start_from)
        trunk = {
            name.removeprefix(TRUNK): tensor
            for name, tensor in state.items()
            if name.startswith(TRUNK)
        }
        if trunk:
            network.start_from_trunk(trunk)
        else:
            network.load_state_dict(state)
    return network


class Criterion(nn.Module):
    """Cross entropy of the class token, and of what every patch says it shows.

    Labels for every patch teach much faster than one for each picture; the server needs no such
    answers, so the head for them is not kept.
    """

    def __init__(self, width: int = CONFIG.width) -> None:
        super().__init__()
        self.patch_head = nn.Linear(width, len(LABELS) + 1)

    def forward(self, network: Network, batch: Batch) -> Outcome:
        """The sum of both losses; the figures are of the class token."""
        tokens = network.forward_features(normalize(batch.pixels))
        middle = (tokens.shape[1] - 1) // 2
        logits = network.head(tokens[:, middle])
        patches = self.patch_head(torch.cat((tokens[:, :middle], tokens[:, middle + 1 :]), dim=1))
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=0.1)
        weight = torch.ones(len(LABELS) + 1)
        weight[-1] = BACKGROUND_WEIGHT
        of_patches = F.cross_entropy(
            patches.flatten(0, 1), shown(batch).flatten(), weight, label_smoothing=0.05
        )
        accuracy = (logits.argmax(1) == batch.labels).float().mean()
        figures = {"loss": float(loss.detach()), "accuracy": float(accuracy)}
        return Outcome(loss + of_patches, figures, weight=len(batch.labels))


def shown(batch: Batch) -> Tensor:
    """What each patch shows, ``[N, T]``: the object's class, or one of its own for the background.

    Patches at the object's edge are -100, which the cross entropy leaves out.
    """
    inside = batch.coverage > 0.4
    classes = torch.where(inside, batch.labels[:, None], len(LABELS))
    classes[(batch.coverage > 0.02) & ~inside] = -100
    return classes


def make_optimizers(network: Network, criterion: Criterion) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the layers' matrices; AdamW for the rest, of which only the heads decay."""
    matrices: list[Tensor] = []
    decaying: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in chain(network.named_parameters(), criterion.named_parameters()):
        if is_matrix(name):
            matrices.append(parameter)
        else:
            is_head = name in ("head.weight", "patch_head.weight")
            (decaying if is_head else rest).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": DECAY, "peak": PEAK_RATE / 2},
        {"params": rest, "weight_decay": 0.0, "peak": PEAK_RATE / 2},
    ]
    return muon_and_adamw(matrices, PEAK_RATE, DECAY, groups)


RECIPE = Recipe(
    drawing,
    STAGES,
    make_network,
    Criterion,
    make_optimizers,
    averaging=0.998,
    facts={"config": asdict(CONFIG)},
)


if __name__ == "__main__":
    train(RECIPE, __doc__, DEFAULTS)
