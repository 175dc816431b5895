"""Two processes train one weight; what every step does to it is known."""

import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn

from vimserve.model.training import loop
from vimserve.model.training.batches import Draw, Stage
from vimserve.model.training.loop import Outcome, Recipe
from vimserve.model.training.options import Options
from vimserve.model.training.processes import run_together

START = 5.0
# Of each process. Rates are 1/2, 1 and 1/2 of the peak; the second process then votes for an end.
CLOCKS = ((0.015, 0.03, 0.515, 0.9, 1.0), (0.015, 0.03, 0.515, 1.0))
first_weights = iter((START, START + 2))


class Batch(NamedTuple):
    pixels: Tensor


def draw(tokens: int, rng: np.random.Generator, size: tuple[int, int], progress: float) -> Batch:
    return Batch(torch.zeros(tokens, 3, *size, dtype=torch.uint8))


def drawing(tokens: int) -> Draw:
    return partial(draw, tokens)


def make_network(start_from: Path | None) -> nn.Linear:
    """Another weight every time: the average has to start where the network does."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, next(first_weights))
    return network


class Criterion(nn.Module):
    """Gradients of -0.2 in the first process and -0.6 in the second."""

    def __init__(self, output: Path) -> None:
        super().__init__()
        self.output = output

    def forward(self, network: nn.Linear, batch: Batch) -> Outcome:
        loss = -(0.2 + 0.4 * dist.get_rank()) * network.weight.sum()
        return Outcome(loss, {"saved": float(self.output.exists())})


class Descent:
    """Plain gradient descent; PyTorch's optimizers take a second to import their compiler."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.param_groups: list[dict[str, float]] = [{"peak": 1.0}]

    def step(self) -> None:
        assert self.weight.grad is not None
        self.weight.data -= self.param_groups[0]["lr"] * self.weight.grad

    def zero_grad(self) -> None:
        self.weight.grad = None


def make_optimizers(network: nn.Linear, criterion: nn.Module) -> Any:
    return [Descent(network.weight)]


def train_by_other_clocks(recipe: Recipe, options: Options) -> None:
    """In a process of its own: report after every step, and let time pass as ``CLOCKS`` say."""
    rank = dist.get_rank()
    loop.SECONDS_PER_REPORT = -1
    loop.clock = lambda begin, seconds: iter(CLOCKS[rank])
    with options.output.with_suffix(f".log-{rank}").open("w") as log, redirect_stdout(log):
        loop.train(recipe, options)


@dataclass(frozen=True)
class Result:
    weight: float
    facts: dict[str, Any]
    logs: list[str]
    files: set[str]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("training")
    output = folder / "weights.safetensors"
    recipe = Recipe(
        drawing, [Stage(1.01, (64,), (1,))], make_network, partial(Criterion, output),
        make_optimizers, averaging=0.2, unit="pictures", facts={"config": {"width": 1}},
    )  # fmt: skip
    options = Options(output, minutes=1, tokens=2, processes=2)
    run_together(train_by_other_clocks, 2, folder / "meet", recipe, options)
    return Result(
        load_file(output)["weight"].item(),
        json.loads((folder / "weights.training.json").read_text()),
        [(folder / f"weights.log-{rank}").read_text() for rank in range(2)],
        {file.name for file in folder.iterdir()},
    )


def test_the_average_of_the_weights_is_saved(result: Result) -> None:
    # Steps of 1/2, 1 and 1/2 times 0.4, the mean of the gradients. At first the average keeps 1/11
    # and 2/12 of itself, then as much as the recipe says.
    first, second, third = START + 0.2, START + 0.6, START + 0.8
    average = START / 11 + first * 10 / 11
    average = average * 2 / 12 + second * 10 / 12
    average = average * 0.2 + third * 0.8
    assert result.weight == pytest.approx(average, abs=1e-6)


def test_one_process_ends_the_training_of_all(result: Result) -> None:
    assert result.facts["steps"] == 3


def test_the_facts_are_beside_the_weights(result: Result) -> None:
    facts = dict(result.facts)
    assert facts.pop("minutes") >= 0
    assert facts == {"steps": 3, "pictures": 12, "parameters": 1, "config": {"width": 1}}


def test_the_first_process_reports_and_saves_on_the_way(result: Result) -> None:
    log, nothing = result.logs
    assert log.splitlines() == [
        "  1.5%  step 1  pictures 2  saved 0.000",
        "  3.0%  step 2  pictures 4  saved 1.000",
        " 51.5%  step 3  pictures 6  saved 1.000",
    ]
    assert nothing == ""


def test_nothing_else_is_left(result: Result) -> None:
    logs = {"weights.log-0", "weights.log-1"}
    assert result.files - logs == {"weights.safetensors", "weights.training.json"}


def test_reports_give_weighted_means() -> None:
    measured = [({"loss": 1.0, "right": 0.5}, 1), ({"loss": 4.0, "right": 0.5}, 2)]
    assert loop.means(measured) == "loss 3.000  right 0.500"
