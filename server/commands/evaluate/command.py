"""``vimserve evaluate``: accuracy, time and memory of models on the user's pictures."""

import asyncio
import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vimserve import __version__
from vimserve.model.catalog import resolve
from vimserve.model.picture_files import some
from vimserve.model.spec import ModelSpec
from vimserve.model.threads import use_threads
from vimserve.server.commands.evaluate import report
from vimserve.server.commands.evaluate.journal import Journal
from vimserve.server.commands.evaluate.request import Request
from vimserve.server.commands.evaluate.results import Evaluation, Outcome
from vimserve.server.commands.evaluate.run import Setting, answer_all
from vimserve.server.commands.query_flags import able
from vimserve.server.config import Config
from vimserve.server.errors import ServerError
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.task import Plan

INTERRUPTED = 130  # as a shell has it
NO_PLOTS = "no plot was drawn: it needs the extra plots: pip install 'vimserve[plots]'"


def evaluate(config: Config, request: Request) -> int:
    """Measure every model at every size, and write the results into a folder.

    Returns:
        0, or 130 if it was interrupted; the same command then goes on.

    Raises:
        ValueError: for a model, data or a parameter that cannot be used, one line.
        OSError: for files that cannot be read or written.
    """
    use_threads(config.threads)
    config = config.model_copy(update={"max_resolution": request.longest(config.max_resolution)})
    specs = able([resolve(name) for name in config.model], request.task)
    if published := request.published:
        specs = [published.applied(spec) for spec in specs]
    try:
        with ExitStack() as stack:
            settings = _settings(config, request, specs, stack)
            asyncio.run(answer_all(config, settings))
            outcomes = [_outcome(request, one) for one in settings]
    except ServerError as error:
        raise ValueError(error.detail) from error
    except KeyboardInterrupt:
        print("vimserve: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    evaluation = Evaluation(request.task, _environment(config), outcomes, _protocol(request))
    evaluation.save(request.output)
    plots = _plots(evaluation, request.output)
    report.write(evaluation, request.output, plots)
    print("\n".join(report.table(evaluation)))
    print(f"\n{evaluation.advice()}\n{request.output / 'report.md'}")
    _warn(outcomes)
    return 0


def _settings(
    config: Config, request: Request, specs: list[ModelSpec], stack: ExitStack
) -> list[Setting]:
    task = TASKS[request.task]
    answers = request.output / "answers"
    settings = []
    for spec in specs:
        benchmark = request.benchmark(spec)
        for resolution in request.resolutions:
            asked = {**benchmark.defaults(spec), **request.query}
            if resolution is not None:
                asked["resolution"] = resolution
            plan = task.plan(spec, task.ask(asked), config.max_resolution)
            answers.mkdir(parents=True, exist_ok=True)
            name = re.sub(r"[^\w.-]", "_", f"{spec.name}-{resolution or 'own'}")
            depends = _depends(config, spec, plan, asked)
            journal = stack.enter_context(Journal(answers / f"{name}.jsonl", depends))
            settings.append(Setting(spec, resolution, plan, benchmark, journal))
    return settings


def _depends(
    config: Config, spec: ModelSpec, plan: Plan[Any], asked: Mapping[str, Any]
) -> dict[str, Any]:
    """Whatever the answers of a setting depend on besides the pictures."""
    weights = str(spec.source)
    if isinstance(spec.source, Path) and spec.source.is_file():
        stat = spec.source.stat()
        weights = f"{spec.source.name}, {stat.st_size} bytes, {stat.st_mtime_ns}"
    return {
        "task": spec.task,
        "model": spec.name,
        "weights": weights,
        "preprocessing": str(plan.transform),
        "query": {name: str(value) for name, value in sorted(asked.items())},
        "device": config.device,
        "precision": config.model_dtype,
        "version": __version__,
    }


def _outcome(request: Request, setting: Setting) -> Outcome:
    records, failed = setting.journal.records(setting.benchmark.samples)
    if not records:
        name, reason = next(iter(failed.items()))
        raise ValueError(f"none of {len(failed)} pictures has an answer; {name}: {reason}")
    rating = setting.benchmark.rate(records)
    if next(iter(rating.figures.values()), None) is None:
        raise ValueError(
            f"there is nothing to rate {setting.spec.name} by: the truths of all pictures are empty"
        )
    published = request.published
    # Other sizes than the protocol's are not what the figures are for.
    expected = published.expects(setting.spec.name) if published else None
    return Outcome(
        model=setting.spec.name,
        resolution=setting.resolution,
        rating=rating,
        images=len(records),
        image_ms=1e3 * sum(one["seconds"] for one in records) / len(records),
        peak_bytes=max(one["peak_bytes"] for one in records),
        failed=failed,
        missing=setting.benchmark.missing,
        expected=expected if setting.resolution is None else None,
    )


def _environment(config: Config) -> dict[str, str]:
    on_gpu = torch.device(config.device).type == "cuda"
    device = torch.cuda.get_device_name(config.device) if on_gpu else config.device
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "precision": config.model_dtype,
        "threads": str(torch.get_num_threads()),
        "vimserve": __version__,
        "torch": str(torch.__version__),
    }


def _protocol(request: Request) -> dict[str, str]:
    published = request.published
    if published is None:
        return {}
    texts = {
        "name": request.protocol or "",
        "what is done": published.about,
        "source": published.source,
        "differs": published.differs,
    }
    return {name: text for name, text in texts.items() if text}


def _plots(evaluation: Evaluation, folder: Path) -> list[str]:
    try:
        from vimserve.server.commands.evaluate import plots
    except ImportError:
        print(f"vimserve: {NO_PLOTS}", file=sys.stderr)
        return []
    return plots.draw(evaluation, folder)


def _warn(outcomes: list[Outcome]) -> None:
    for failed in dict.fromkeys(tuple(one.failed) for one in outcomes if one.failed):
        print(
            f"vimserve: {len(failed)} pictures have no answer, see the report: {some(failed)}",
            file=sys.stderr,
        )
