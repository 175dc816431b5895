"""Train the demo model: ``python -m vimserve.model.demo.train`` (needs ``.[train]`` and npm)."""

import argparse
import json
import multiprocessing
import os
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vimserve.model.config import VimConfig
from vimserve.model.demo.batches import STAGES, Batch, Batches, draw_batch, normalize
from vimserve.model.demo.icons import LABELS, TRAINING_SETS, by_class, load_icons
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
from vimserve.model.training.vim import Network

HERE = Path(__file__).parent
CONFIG = VimConfig(width=96, depth=8, states=8, num_classes=len(LABELS), grid=(14, 14))
PEAK_RATE, DECAY = 4e-3, 0.05
AVERAGING = 0.998
PREFETCH = 6


def train(
    rank: int,
    processes: int,
    output: Path,
    minutes: float,
    budget_tokens: int,
    seed: int,
    start_from: Path | None = None,
) -> None:
    """Train for ``minutes`` and write the averaged weights to ``output``, twice a minute.

    One of ``processes`` that average their gradients, each on one core: at this size, threads
    would mostly wait for each other. The first weights are random, or those of ``start_from``.
    """
    join(rank, processes, output)
    torch.manual_seed(seed)
    progress = multiprocessing.Value("d", 0.0)
    draw = partial(draw_batch, by_class(load_icons(TRAINING_SETS)), budget_tokens)
    data = Batches(draw, STAGES, progress, seed, rank)
    batches = iter(DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=PREFETCH))
    network = Network(CONFIG)
    if start_from:
        network.load_state_dict(load_file(start_from))
    average = Network(CONFIG).requires_grad_(False)
    average.load_state_dict(network.state_dict())
    # Labels for every patch teach much faster than one for each picture; the server needs no such
    # answers, so this head is not kept.
    patch_head = nn.Linear(CONFIG.width, len(LABELS) + 1)
    optimizers = _optimizers(network, patch_head)
    begin = report = time.monotonic()
    images_seen, step, loss_sum, right, shown = 0, 0, 0.0, 0, 0
    for step, elapsed in enumerate(clock(begin, 60 * minutes), start=1):
        progress.value = elapsed
        if not all_go_on(elapsed < 1):
            break
        batch: Batch = next(batches)
        logits, loss, of_patches = _losses(network, patch_head, batch)
        descend(loss + of_patches, optimizers, schedule(elapsed), network, patch_head)
        update_average(average, network, min(AVERAGING, step / (step + 10)))
        images_seen += len(batch.labels)
        loss_sum += float(loss.detach()) * len(batch.labels)
        right += int((logits.argmax(1) == batch.labels).sum())
        shown += len(batch.labels)
        if rank == 0 and time.monotonic() - report > 30:
            report = time.monotonic()
            _log(step, images_seen, elapsed, loss_sum / shown, right / shown)
            loss_sum, right, shown = 0.0, 0, 0
            save(average, output)
    if rank:
        return
    save(average, output)
    facts = {
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "steps": step,
        "images": images_seen * processes,
        "parameters": sum(p.numel() for p in network.parameters()),
        "config": asdict(CONFIG),
    }
    output.with_suffix(".training.json").write_text(json.dumps(facts, indent=1) + "\n")


def _losses(network: Network, patch_head: nn.Linear, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the class token, its loss, and the loss of what every patch says it shows.

    A patch shows the object, the background (a class of its own), or, at the object's edge,
    neither.
    """
    tokens = network.forward_features(normalize(batch.pixels))
    middle = (tokens.shape[1] - 1) // 2
    logits = network.head(tokens[:, middle])
    patches = patch_head(torch.cat((tokens[:, :middle], tokens[:, middle + 1 :]), dim=1))
    inside = batch.coverage > 0.4
    shown = torch.where(inside, batch.labels[:, None], len(LABELS))
    shown[(batch.coverage > 0.02) & ~inside] = -100
    loss = F.cross_entropy(logits, batch.labels, label_smoothing=0.1)
    of_patches = F.cross_entropy(patches.flatten(0, 1), shown.flatten(), label_smoothing=0.05)
    return logits, loss, of_patches


def _optimizers(network: Network, patch_head: nn.Linear) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the layers' matrices; AdamW for the rest, of which only the heads decay."""
    matrices: list[Tensor] = []
    decaying: list[Tensor] = [patch_head.weight]
    rest: list[Tensor] = [] if patch_head.bias is None else [patch_head.bias]
    for name, parameter in network.named_parameters():
        if is_matrix(name):
            matrices.append(parameter)
        else:
            (decaying if name == "head.weight" else rest).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": DECAY, "peak": PEAK_RATE / 2},
        {"params": rest, "weight_decay": 0.0, "peak": PEAK_RATE / 2},
    ]
    return muon_and_adamw(matrices, PEAK_RATE, DECAY, groups)


def _log(step: int, images: int, elapsed: float, loss: float, accuracy: float) -> None:
    print(
        f"{elapsed:6.1%}  step {step}  images {images}  loss {loss:.3f}  accuracy {accuracy:.3f}",
        flush=True,
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=36, help="training time (36)")
    parser.add_argument("--tokens", type=int, default=2048, help="patches per step (2048)")
    parser.add_argument("--output", type=Path, default=HERE / "demo.safetensors")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="one for each core (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start-from", type=Path, help="weights to go on from (random ones)")
    given = parser.parse_args()
    load_icons(TRAINING_SETS)  # drawn once, by one process
    arguments = (given.minutes, given.tokens, given.seed, given.start_from)
    start(train, given.processes, given.output, *arguments)


if __name__ == "__main__":
    main()
