"""Train the demo segmenter.

``python -m vimserve.model.demo.segmentation.train`` needs ``.[train]`` and npm.
"""

import argparse
import json
import multiprocessing
import os
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vimserve.model.config import UPerNetConfig
from vimserve.model.demo import train as classification
from vimserve.model.demo.batches import Batches, normalize
from vimserve.model.demo.icons import TRAINING_SETS, by_class, load_icons
from vimserve.model.demo.segmentation.scenes import CLASSES, STAGES, Batch, draw_batch
from vimserve.model.training.loop import (
    all_go_on,
    clock,
    descend,
    is_matrix,
    join,
    muon_and_adamw,
    save,
    schedule,
    start,
    update_average,
)
from vimserve.model.training.upernet import SegmentationNetwork

HERE = Path(__file__).parent
CONFIG = UPerNetConfig(
    classification.CONFIG, out_indices=(1, 3, 5, 7), channels=48, num_classes=len(CLASSES)
)
MATRIX_RATE, BACKBONE_RATE, HEAD_RATE, DECAY = 1e-3, 5e-4, 3e-3, 0.02
# Four pixels in five are background, which is soon learnt; the objects' names are not.
BACKGROUND_WEIGHT = 0.4
AVERAGING = 0.995
PREFETCH = 6


def train(
    rank: int,
    processes: int,
    output: Path,
    minutes: float,
    budget_tokens: int,
    seed: int,
    start_from: Path,
) -> None:
    """Train for ``minutes`` and write the averaged weights to ``output``, twice a minute.

    One of ``processes`` that average their gradients, each on one core. ``start_from`` is a
    checkpoint of a classifier, for the backbone, or of a segmenter.
    """
    join(rank, processes, output)
    torch.manual_seed(seed)
    progress = multiprocessing.Value("d", 0.0)
    draw = partial(draw_batch, by_class(load_icons(TRAINING_SETS)), budget_tokens)
    data = Batches(draw, STAGES, progress, seed, rank)
    batches = iter(DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=PREFETCH))
    network, average = SegmentationNetwork(CONFIG), SegmentationNetwork(CONFIG)
    state = load_file(start_from)
    if "cls_token" in state:
        network.start_from_classifier(state)
    else:
        network.load_state_dict(state)
    average.load_state_dict(network.state_dict())
    optimizers = make_optimizers(network)
    begin = report = time.monotonic()
    scenes_seen, step, losses, right = 0, 0, [], []
    for step, elapsed in enumerate(clock(begin, 60 * minutes), start=1):
        progress.value = elapsed
        if not all_go_on(elapsed < 1):
            break
        batch: Batch = next(batches)
        loss, correct = train_step(network, optimizers, batch, schedule(elapsed))
        update_average(average, network, min(AVERAGING, step / (step + 10)))
        scenes_seen += len(batch.classes)
        losses.append(loss)
        right.append(correct)
        if rank == 0 and time.monotonic() - report > 30:
            report = time.monotonic()
            print(
                f"{elapsed:6.1%}  step {step}  scenes {scenes_seen}  "
                f"loss {sum(losses) / len(losses):.3f}  pixels {sum(right) / len(right):.3f}",
                flush=True,
            )
            losses, right = [], []
            save(average, output)
    if rank:
        return
    save(average, output)
    facts = {
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "steps": step,
        "scenes": scenes_seen * processes,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    output.with_suffix(".training.json").write_text(json.dumps(facts, indent=1) + "\n")


def train_step(
    network: nn.Module,
    optimizers: tuple[torch.optim.Optimizer, ...],
    batch: Batch,
    rate: float,
) -> tuple[float, float]:
    """One step at ``rate`` of the peak rates; the loss, and the share of right quarter pixels."""
    scores = network(normalize(batch.pixels))
    shares = class_shares(batch.classes, scores.shape[1])
    weight = torch.ones(scores.shape[1])
    weight[0] = BACKGROUND_WEIGHT
    loss = F.cross_entropy(scores, shares, weight)
    descend(loss, optimizers, rate, network)
    correct = (scores.argmax(1) == shares.argmax(1)).float().mean()
    return float(loss.detach()), float(correct)


def class_shares(classes: Tensor, num_classes: int) -> Tensor:
    """Of classes ``[N, H, W]``, the share of each in every 4×4 pixels: ``[N, C, H / 4, W / 4]``."""
    N, H, W = classes.shape
    shares = torch.zeros(N, num_classes, H // 4, W // 4)
    part = torch.tensor(1 / 16).expand(N, 1, H // 4, W // 4)
    for down in range(4):
        for right in range(4):
            shares.scatter_add_(1, classes[:, None, down::4, right::4].long(), part)
    return shares


def make_optimizers(network: SegmentationNetwork) -> tuple[torch.optim.Optimizer, ...]:
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


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="training time (30)")
    parser.add_argument("--tokens", type=int, default=2048, help="patches per step (2048)")
    parser.add_argument("--output", type=Path, default=HERE / "demo-seg.safetensors")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="one for each core (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start-from", type=Path, default=HERE.parent / "demo.safetensors")
    given = parser.parse_args()
    load_icons(TRAINING_SETS)  # drawn once, by one process
    arguments = (given.minutes, given.tokens, given.seed, given.start_from)
    start(train, given.processes, given.output, *arguments)


if __name__ == "__main__":
    main()
