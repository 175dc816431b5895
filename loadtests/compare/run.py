"""What is measured, and by whom."""

import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from vimserve.loadtests.common.server import serving
from vimserve.loadtests.common.weights import embedded, served_as
from vimserve.loadtests.compare import bare, claim
from vimserve.loadtests.compare.disturbance import Product, Watch
from vimserve.loadtests.compare.drive import Driver, driving
from vimserve.loadtests.compare.load import Load
from vimserve.loadtests.compare.results import Case, Results, Round, Turn
from vimserve.loadtests.compare.rounds import order, take_rounds

# A turn takes at least this part of the longest one in the round before it.
TURN_SHARE = 0.25


@dataclass(frozen=True)
class Settings:
    """What is to be measured.

    Attributes:
        task: of all models.
        models: by their names in the catalog, Vim first.
        sizes: sides of the square images, in pixels.
        clients: how many send at once over HTTP; a case for each.
        device: a name that torch knows.
        threads: of a forward pass on a CPU.
        seconds: least time of a turn.
        minutes: time for everything.
        published: whether to take the published weights instead of random ones.
    """

    task: str
    models: Sequence[str]
    sizes: Sequence[int]
    clients: Sequence[int]
    device: str
    threads: int
    seconds: float
    minutes: float
    published: bool

    @property
    def cases(self) -> list[Case]:
        """All that is measured, the paper's claim first, or what comes nearest to it."""
        nearest = min(self.sizes, key=lambda size: abs(size - claim.SIZE))
        sizes = [nearest, *(size for size in self.sizes if size != nearest)]
        batches = (1,) if self.device == "cpu" else (1, 32)  # one image does not fill a GPU
        parts = (False, True) if self.task == "detect" else (False,)  # whether backbones alone
        bare_cases = [
            Case(size, batch, backbone=part)
            for part in parts
            for batch in batches
            for size in sizes
        ]
        return bare_cases + [Case.http(size, n) for n in self.clients for size in sizes]


def run(settings: Settings, results: Results, folder: Path) -> None:
    """Fill ``results``, and write Locust's own figures to ``locust.csv`` in ``folder``.

    Raises:
        RuntimeError: if a model, the server or Locust fails.
    """
    (folder / "locust.csv").unlink(missing_ok=True)
    seconds = 60 * settings.minutes
    with ExitStack() as stack:
        progress = stack.enter_context(
            tqdm(total=seconds, bar_format="{l_bar}{bar}| {elapsed}<{remaining}")
        )
        contest = Contest(settings, results, folder, stack)
        begin = time.monotonic()

        def play(case: Case) -> float:
            progress.set_description(str(case))
            round_s = contest.play(case)
            progress.n = min(time.monotonic() - begin, seconds)
            progress.refresh()
            return round_s

        take_rounds(results.cases, play, results.settled, seconds)
    results.partial = False


class Contest:
    """The models, each resident in a process of its own and all in one server: one runs at a time.

    What a case needs is started before its first round. All ends with ``stack``.
    """

    def __init__(
        self, settings: Settings, results: Results, folder: Path, stack: ExitStack
    ) -> None:
        self._settings, self._results, self._folder = settings, results, folder
        self._stack = stack
        self._bare = {model: stack.enter_context(self._process(model)) for model in settings.models}
        self._driver: Driver | None = None
        self._product: Product | None = None

    def play(self, case: Case) -> float:
        """Play a round, put it into the results, and return its seconds."""
        self._prepare(case)
        if self._product is None:
            self._product = Product(self._settings.device)
        product_ms = self._product.ms()
        watch = Watch()
        models = order(self._settings.models, len(self._results.rounds_of(case)))
        seconds = self._turn_s(case)
        turns = [self._turn(case, model, seconds) for model in models]
        played = Round(case, turns, watch.seconds, watch.disturbance(product_ms))
        self._results.rounds.append(played)
        return played.seconds

    def _turn(self, case: Case, model: str, seconds: float) -> Turn:
        if case.batch:
            return self._bare[model].submit(bare.turn, case, seconds).result()
        if self._driver is None:
            raise RuntimeError("the server has not been started")
        return self._driver.turn(Load(model, case.size, case.clients, seconds))

    def _turn_s(self, case: Case) -> float:
        """Least time of a turn. Where the slowest model needs long for its only pass, the fast ones
        take several meanwhile and are known the better, at little cost.
        """
        turns = (turn for played in self._results.rounds_of(case)[-1:] for turn in played.turns)
        longest_s = max((turn.seconds for turn in turns), default=0.0)
        return max(self._settings.seconds, TURN_SHARE * longest_s)

    def _prepare(self, case: Case) -> None:
        if not case.batch:
            if self._driver is None:
                self._driver = self._serve()
                for model in self._settings.models:
                    self._driver.turn(Load(model, min(self._settings.sizes), 1, 0.0))
        elif self._results.first_pass(self._settings.models[0], case) is None:
            self._first_passes(case)

    def _first_passes(self, case: Case) -> None:
        """Measure the memory of a first pass in new processes, all at once: it depends on nobody.

        The resident ones are new at the first case. Later they have an untimed pass meanwhile.
        """
        with ExitStack() as stack:
            processes, untimed = list(self._bare.values()), []
            if self._results.first_passes:
                untimed = [one.submit(bare.turn, case, 0.0) for one in processes]
                processes = [
                    stack.enter_context(self._process(model)) for model in self._settings.models
                ]
            jobs = [one.submit(bare.first_pass, case) for one in processes]
            self._results.first_passes += [job.result() for job in jobs]
            for turn in untimed:
                turn.result()

    def _process(self, model: str) -> ProcessPoolExecutor:
        settings = self._settings
        weights = None if settings.published or embedded(model) else "random"
        loading = (model, weights, settings.threads, settings.device)
        spawn = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, spawn, initializer=bare.load, initargs=loading)

    def _serve(self) -> Driver:
        settings = self._settings
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        flags = ["--device", settings.device, "--threads", str(settings.threads)]
        flags += ["--max-resolution", str(max(settings.sizes)), "--request-timeout", "600"]
        for model in settings.models:
            flags += ["--model", model if settings.published else served_as(model, folder)]
        server = self._stack.enter_context(serving(flags))
        table = self._folder / "locust.csv"
        return self._stack.enter_context(driving(server.url, settings.task, table))
