"""The training loop: batches, steps and an average of the weights until the time is over."""

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vimserve.model.training.batches import Batch, Batches, Draw, Stage
from vimserve.model.training.optimization import descend, schedule, update_average
from vimserve.model.training.options import Options
from vimserve.model.training.processes import all_go_on, run_together
from vimserve.model.whole_files import whole

PREFETCH = 6
SECONDS_PER_REPORT = 30


class Outcome(NamedTuple):
    """What a criterion makes of the network's answers to one batch.

    Attributes:
        loss: what the step lowers.
        figures: for the log, which shows their means over many batches.
        weight: of this batch in those means.
    """

    loss: Tensor
    figures: dict[str, float]
    weight: int = 1


@dataclass(frozen=True)
class Recipe:
    """What distinguishes one training from another; every process calls the functions for itself.

    Attributes:
        draw: takes the number of patches and makes the function that draws batches of so many.
        stages: the sizes of pictures.
        network: takes the weights to start from, if any, and makes the network.
        criterion: makes a module that maps the network and a batch to an ``Outcome``. Its own
            parameters are trained too, but not kept.
        optimizers: of the network and the criterion; each of their groups has a ``peak`` rate.
        averaging: share of the averaged weights that a step keeps; less during the first steps.
        unit: what the log and the facts call the pictures.
        facts: what else to write beside the weights, in JSON.
    """

    draw: Callable[[int], Draw]
    stages: Sequence[Stage]
    network: Callable[[Path | None], nn.Module]
    criterion: Callable[[], nn.Module]
    optimizers: Callable[[Any, Any], Sequence[torch.optim.Optimizer]]
    averaging: float
    unit: str = "images"
    facts: Mapping[str, object] = field(default_factory=dict)


def run(recipe: Recipe, options: Options) -> None:
    """Train in several processes until the time is over; the files are then complete."""
    rendezvous = options.output.with_suffix(".rendezvous")
    run_together(train, options.processes, rendezvous, recipe, options)


def train(recipe: Recipe, options: Options) -> None:
    """Train as one of the processes; the first writes the averaged weights, twice a minute."""
    rank = dist.get_rank()
    torch.manual_seed(options.seed)
    progress = multiprocessing.Value("d", 0.0)
    data = Batches(recipe.draw(options.tokens), recipe.stages, progress, options.seed, rank)
    batches = iter(DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=PREFETCH))
    network, average = recipe.network(options.start_from), recipe.network(options.start_from)
    average.load_state_dict(network.state_dict())
    criterion = recipe.criterion()
    optimizers = recipe.optimizers(network, criterion)
    begin = reported = time.monotonic()
    steps = pictures = 0
    measured: list[tuple[dict[str, float], int]] = []
    for elapsed in clock(begin, 60 * options.minutes):
        progress.value = elapsed
        if not all_go_on(elapsed < 1):
            break
        batch: Batch = next(batches)
        outcome: Outcome = criterion(network, batch)
        descend(outcome.loss, optimizers, schedule(elapsed), network, criterion)
        steps += 1
        update_average(average, network, min(recipe.averaging, steps / (steps + 10)))
        pictures += len(batch.pixels)
        measured.append((outcome.figures, outcome.weight))
        if time.monotonic() - reported > SECONDS_PER_REPORT:
            reported = time.monotonic()
            if rank == 0:
                counts = f"step {steps}  {recipe.unit} {pictures}"
                print(f"{elapsed:6.1%}  {counts}  {means(measured)}", flush=True)
                save(average, options.output)
            measured.clear()
    if rank == 0:
        save(average, options.output)
        facts = {
            "minutes": round((time.monotonic() - begin) / 60, 1),
            "steps": steps,
            recipe.unit: pictures * dist.get_world_size(),
            "parameters": sum(p.numel() for p in network.parameters()),
            **recipe.facts,
        }
        options.output.with_suffix(".training.json").write_text(json.dumps(facts, indent=1) + "\n")


def clock(begin: float, seconds: float) -> Iterator[float]:
    """The share of the time that is over."""
    while True:
        yield min(1.0, (time.monotonic() - begin) / seconds)


def means(measured: Sequence[tuple[dict[str, float], int]]) -> str:
    """The means of figures with their weights, as the log shows them."""
    weights = [weight for _, weight in measured]
    values = {name: [figures[name] for figures, _ in measured] for name in measured[0][0]}
    return "  ".join(
        f"{name} {np.average(column, weights=weights):.3f}" for name, column in values.items()
    )


def save(network: nn.Module, output: Path) -> None:
    """Write the weights under their published names, all at once."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with whole(output) as partial:
        save_file(state, partial, metadata={"format": "pt"})
