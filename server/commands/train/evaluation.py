"""``--evaluate``: the trained file, as it is served, on the pictures that were held out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vimserve.model.spec import ModelSpec
from vimserve.server.commands.evaluate.benchmark import Benchmark
from vimserve.server.commands.evaluate.command import evaluate
from vimserve.server.commands.evaluate.request import Request
from vimserve.server.config import Config

# Makes a benchmark of the names of a model's classes.
Rater = Callable[[Sequence[str]], Benchmark]


@dataclass(frozen=True, kw_only=True)
class HeldOutRequest(Request):
    """An evaluation on pictures that were held out.

    Attributes:
        rater: knows these pictures.
    """

    rater: Rater

    def benchmark(self, spec: ModelSpec) -> Benchmark:
        """As ``Request.benchmark``."""
        return self.rater(spec.labels)


def evaluate_file(config: Config, file: Path, task: str, rater: Rater, output: Path) -> int:
    """Measure a file as ``vimserve evaluate`` does.

    Args:
        config: device and limits.
        file: the model.
        task: what it answers.
        rater: knows the pictures that were held out.
        output: folder for the results; answers of an earlier file are deleted.

    Returns:
        As ``evaluate``.
    """
    for old in (output / "answers").glob("*.jsonl"):
        old.unlink()
    request = HeldOutRequest(
        task=task, query={}, resolutions=(None,), paths={}, output=output, rater=rater
    )
    return evaluate(config.model_copy(update={"model": (f"{file.stem}={file}",)}), request)
