"""What is measured, and in which order."""

import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from vimserve.loadtests.common.server import serving
from vimserve.loadtests.common.weights import embedded, served_as
from vimserve.loadtests.compare.drive import drive
from vimserve.loadtests.compare.results import Results
from vimserve.model.bench import Measurement, measure
from vimserve.model.families import Task

# A served measurement lasts until so many answers are likely, or so long.
ANSWERS = 12
LONGEST_S = 60.0


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    ``seconds`` is the least time under each load; ``least_runs`` the least number of forward
    passes of a bare model.
    """

    task: Task
    models: Sequence[str]
    sizes: Sequence[int]
    clients: Sequence[int]
    device: str
    threads: int
    seconds: float
    least_runs: int
    published: bool

    @property
    def batches(self) -> tuple[int, ...]:
        """Images in a bare forward pass; a GPU is not filled by one."""
        return (1,) if self.device == "cpu" else (1, 32)


def run(plan: Plan, results: Results, folder: Path) -> None:
    """Fill ``results``, models in turn at each size, so that drift of the machine hits all alike.

    Raises:
        RuntimeError: if a server or Locust fails.
    """
    with ExitStack() as stack:
        weights = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        progress = stack.enter_context(
            tqdm(total=_work(plan), unit="s", bar_format="{l_bar}{bar}| {elapsed}<{remaining}")
        )
        urls = {}
        for model in plan.models:
            progress.set_description(f"starting {model}")
            argument = model if plan.published else served_as(model, weights)
            flags = ["--model", argument, "--device", plan.device, "--threads", str(plan.threads)]
            flags += ["--max-resolution", str(max(plan.sizes)), "--request-timeout", "600"]
            urls[model] = stack.enter_context(serving(flags)).url
        for size in plan.sizes:
            for model in plan.models:
                progress.set_description(f"{model} {size}")
                for measured in _bare(plan, model, size):
                    results.bare.append(measured)
                progress.update(_bare_s(plan, size))
            for model in plan.models:
                progress.set_description(f"{model} {size} over HTTP")
                for clients in plan.clients:
                    alone = results.alone(model, size)
                    expected_s = ANSWERS * alone.median_ms / 1000 if alone else 0
                    seconds = min(max(plan.seconds, expected_s), LONGEST_S)
                    prefix = folder / "locust" / f"{model}-{size}-{clients}"
                    load = (plan.task, model, size, clients, seconds, prefix)
                    results.served.append(drive(urls[model], *load))
                    progress.update(_served_s(plan, size))
        results.partial = False


def _bare(plan: Plan, model: str, size: int) -> Iterator[Measurement]:
    # A process for each: none finds memory that another left behind.
    context = multiprocessing.get_context("spawn")
    weights = None if plan.published or embedded(model) else "random"
    for batch in plan.batches:
        with context.Pool(1) as pool:
            job = (model, weights, size, batch, plan.threads, plan.device, plan.least_runs)
            yield pool.apply(measure, job)


def _work(plan: Plan) -> float:
    """Seconds, very roughly: only their shares matter to the progress bar."""
    return sum(
        len(plan.models) * (_bare_s(plan, size) + len(plan.clients) * _served_s(plan, size))
        for size in plan.sizes
    )


def _bare_s(plan: Plan, size: int) -> float:
    return len(plan.batches) * (6 + plan.least_runs * (size / 700) ** 3)


def _served_s(plan: Plan, size: int) -> float:
    return 4 + max(plan.seconds, min(ANSWERS * (size / 700) ** 3, LONGEST_S))
