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
from vimserve.loadtests.compare.drive import Load, drive
from vimserve.loadtests.compare.results import Results
from vimserve.model.bench import Measurement, measure

# Every load lasts until so many requests have ended, or for so long if that takes longer.
REQUESTS = 12
LONGEST_S = 60.0


@dataclass(frozen=True)
class Settings:
    """What is to be measured.

    Attributes:
        task: of all models.
        models: by their names in the catalog, Vim first.
        sizes: sides of the square images, in pixels.
        clients: how many send at once, for each load.
        device: a name that torch knows.
        threads: of a forward pass on a CPU.
        seconds: least time under each load.
        least_runs: least number of forward passes of a bare model.
        published: whether to take the published weights instead of random ones.
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
        """Numbers of images in a forward pass of a bare model: one does not fill a GPU."""
        return (1,) if self.device == "cpu" else (1, 32)


def run(settings: Settings, results: Results, folder: Path) -> None:
    """Fill ``results``, and write Locust's own figures to ``locust.csv`` in ``folder``.

    The models take turns at each size, so that a drift of the machine's speed hits all alike.

    Raises:
        RuntimeError: if a server or Locust fails.
    """
    table = folder / "locust.csv"
    table.unlink(missing_ok=True)
    with ExitStack() as stack:
        weights = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        progress = stack.enter_context(
            tqdm(total=_work(settings), unit="s", bar_format="{l_bar}{bar}| {elapsed}<{remaining}")
        )
        urls = {}
        for model in settings.models:
            progress.set_description(f"starting {model}")
            argument = model if settings.published else served_as(model, weights)
            flags = [
                "--model", argument, "--device", settings.device,
                "--threads", str(settings.threads),
                "--max-resolution", str(max(settings.sizes)), "--request-timeout", "600",
            ]  # fmt: skip
            urls[model] = stack.enter_context(serving(flags)).url
        for size in settings.sizes:
            for model in settings.models:
                progress.set_description(f"{model} {size}")
                for measured in _bare(settings, model, size):
                    results.bare.append(measured)
                progress.update(_bare_s(settings, size))
            for model in settings.models:
                progress.set_description(f"{model} {size} over HTTP")
                for clients in settings.clients:
                    longest_s = max(settings.seconds, LONGEST_S)
                    load = Load(
                        settings.task, model, size, clients, settings.seconds, REQUESTS, longest_s
                    )
                    results.served.append(drive(urls[model], load, table))
                    progress.update(_served_s(settings, size))
        results.partial = False


def _bare(settings: Settings, model: str, size: int) -> Iterator[Measurement]:
    # Each in a process of its own, so that none finds memory that another left behind.
    context = multiprocessing.get_context("spawn")
    weights = None if settings.published or embedded(model) else "random"
    how = (settings.threads, settings.device, settings.least_runs)
    for batch in settings.batches:
        with context.Pool(1) as pool:
            yield pool.apply(measure, (model, weights, size, batch, *how))


def _work(settings: Settings) -> float:
    """Seconds of the whole run, very roughly, for the progress bar."""
    return sum(
        len(settings.models)
        * (_bare_s(settings, size) + len(settings.clients) * _served_s(settings, size))
        for size in settings.sizes
    )


def _bare_s(settings: Settings, size: int) -> float:
    return len(settings.batches) * (6 + settings.least_runs * (size / 700) ** 3)


def _served_s(settings: Settings, size: int) -> float:
    return 4 + max(settings.seconds, min(REQUESTS * (size / 700) ** 3, LONGEST_S))
