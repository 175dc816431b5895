"""Vim against DeiT on this machine: bare and over HTTP, with a report and plots.

``make compare`` or ``python -m vimserve.loadtests.compare``; ``--task segment`` compares UPerNets
on both. Random weights, unless told otherwise: times and memory do not depend on them. Interrupted,
it keeps what it has.
"""

import argparse
import multiprocessing
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from vimserve.loadtests.comparison import plots, report
from vimserve.loadtests.comparison.drive import drive
from vimserve.loadtests.comparison.results import Results, describe
from vimserve.loadtests.load.server import serving
from vimserve.loadtests.load.weights import embedded, served_as
from vimserve.model.bench import Measurement, measure

MODELS: dict[str, Sequence[str]] = {
    "classify": ("vim-tiny", "deit-tiny", "deit-tiny-eager"),
    "segment": ("vim-tiny-upernet", "deit-tiny-upernet", "deit-tiny-upernet-eager"),
}
SIZES = (224, 512, 768, 1024, 1248)
QUICK_SIZES = (224, 512)
CLIENTS = (1, 4)
RESULTS = Path(__file__).parent / "results"
# A served measurement lasts until so many answers are likely, or so long.
ANSWERS = 12
LONGEST_S = 60.0


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    ``seconds`` is the least time under each load; ``least_runs`` the least number of forward
    passes of a bare model.
    """

    task: str
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the results whatever happens; 1 if an answer was wrong."""
    options = _parse(arguments)
    plan = Plan(
        task=options.task,
        models=options.model or MODELS[options.task],
        sizes=options.resolutions or (QUICK_SIZES if options.quick else SIZES),
        clients=options.clients or CLIENTS,
        device=options.device,
        threads=options.threads,
        seconds=options.seconds or (3 if options.quick else 10),
        least_runs=3 if options.quick else 5,
        published=options.weights == "published",
    )
    environment = describe(plan.device, plan.threads)
    results = Results(environment, plan.task, list(plan.models), list(plan.sizes))
    folder = options.output or RESULTS / _folder_name(environment, plan.task)
    (folder / "locust").mkdir(parents=True, exist_ok=True)
    try:
        run(plan, results, folder)
    except KeyboardInterrupt:
        print("interrupted: what was measured is kept", file=sys.stderr)
    except RuntimeError as error:
        print(f"stopped: {error}", file=sys.stderr)
    finally:
        results.save(folder)
        report.write(results, folder, plots.draw(results, folder))
        print(f"{folder / 'report.md'}{' (partial)' if results.partial else ''}")
    wrong = sum(served.wrong for served in results.served)
    if wrong:
        print(f"{wrong} answers were wrong", file=sys.stderr)
    return int(bool(wrong) or results.partial)


def _folder_name(environment: dict[str, str | int], task: str) -> str:
    device = re.sub(r"[^a-z0-9]+", "-", str(environment["device"]).lower()).strip("-")
    return f"{str(environment['date'])[:10]}-{device}-{task}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.compare", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--task", choices=MODELS, default="classify")
    parser.add_argument(
        "--model", action="append", help="of the catalog and the task, Vim first, repeatable"
    )
    parser.add_argument(
        "--resolutions", type=_sizes, metavar="N,N", help=f"sides in pixels {SIZES}"
    )
    parser.add_argument("--clients", type=_sizes, metavar="N,N", help=f"at once {CLIENTS}")
    parser.add_argument("--seconds", type=float, help="least time under each load [10]")
    parser.add_argument("--device", default="cpu", help="torch device [%(default)s]")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="on a CPU")
    parser.add_argument("--weights", choices=("random", "published"), default="random")
    parser.add_argument("--quick", action="store_true", help="under three minutes on two cores")
    parser.add_argument("--output", type=Path, help="folder [loadtests/results/DATE-DEVICE-TASK]")
    return parser.parse_args(arguments)


def _sizes(text: str) -> list[int]:
    sizes = sorted({int(part) for part in text.split(",")})
    if sizes[0] < 1:
        raise argparse.ArgumentTypeError(f"whole numbers of at least 1, not {text!r}")
    return sizes


if __name__ == "__main__":
    raise SystemExit(main())
