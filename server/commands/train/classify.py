"""``--task classify``: a linear probe for pictures in a folder for each class."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from vimserve.model.catalog import resolve
from vimserve.model.heads.data import Labelled, read_folders, remarks, split
from vimserve.model.heads.features import frozen, readable
from vimserve.model.heads.probe import PENALTIES, choose, fit, learning_curve, num_folds
from vimserve.model.heads.saving import Trained, check_head_only
from vimserve.model.packed import PackedModel
from vimserve.model.picture_files import some
from vimserve.model.spec import ModelSpec
from vimserve.server.commands.train.attempt import Attempt, Data
from vimserve.server.commands.train.classifier_report import WORST, write_report
from vimserve.server.commands.train.cost import measure
from vimserve.server.commands.train.evaluation import evaluate_file
from vimserve.server.commands.train.held_out import HeldOut
from vimserve.server.commands.train.pictures import check_problems, left_out
from vimserve.server.commands.train.request import Request
from vimserve.server.commands.train.sight import Sight
from vimserve.server.config import Config
from vimserve.server.engine.device import usable_device

ROW = "{:>8}  {:<7}  {:>8}  {:>15}  {:>9}"


def train_classifier(config: Config, request: Request) -> int:
    """Train a probe at each resolution, and write the best one's file and a report.

    Returns:
        0, or what the evaluation returns.

    Raises:
        ValueError: for a backbone or data that cannot be used, one line.
        OSError: for files that cannot be read or written.
    """
    spec = resolve(request.backbone)
    readable(spec)
    if request.head_only:
        check_head_only(spec)
    found = read_folders(request.paths["data"])
    device, dtype = usable_device(config.device), getattr(torch, config.model_dtype)
    model: partial[PackedModel] = partial(cache(frozen), spec, device, dtype)
    begin = time.monotonic()
    with ExitStack() as opened:
        sights = [
            opened.enter_context(Sight(config, request, spec, size)) for size in request.resolutions
        ]
        problems: dict[str, str] = {}
        for sight in sights:
            problems |= sight.look(found.pictures, model)
            check_problems(problems, len(found.pictures), skip=request.skip_unreadable)
        looked = time.monotonic() - begin
        data = _data(request, found, problems, sights[0])
        for text in data.remarks:
            print(f"vimserve: {text}", file=sys.stderr)
        attempts = _attempts(request, sights, data, model)
        best = max(attempts, key=lambda one: one.rank)
        trained = _trained(spec, data, best)
        request.output.parent.mkdir(parents=True, exist_ok=True)
        trained.save(request.output, head_only=request.head_only)
        curve = learning_curve(
            best.features, data.classes, data.train, data.held, best.choice.penalty, request.seed
        )
        by_name = {one.name: one for one in data.pictures}
        worst = [(one, best.sight.load(by_name[one["image"]])) for one in best.errors()[:WORST]]
        facts = {"seconds for features": f"{looked:.1f}"}
        report = write_report(config, request, data, attempts, best, curve, worst, facts)
    print(f"\n{best.told()}\n{request.output}\n{report}")
    if request.evaluate:
        rater = partial(HeldOut, pictures=[data.pictures[row] for row in data.held])
        folder = request.report / "evaluation"
        return evaluate_file(config, request.output, request.task, rater, folder)
    return 0


def _data(request: Request, found: Labelled, problems: dict[str, str], sight: Sight) -> Data:
    """What can be read, and which of it is held out."""
    read = found.without([*problems]) if problems else found
    train, held = split(read.pictures, request.held_out, request.seed)
    notes = [*remarks(read), *left_out(problems)]
    twins = sight.near_duplicates(train, held)
    if twins:
        named = some([f"{one} and {other}" for one, other in twins])
        notes.append(
            f"{len(twins)} of the {len(held)} pictures that are held out are nearly the same as "
            f"pictures that are trained on, so that the accuracy is too high: {named}"
        )
    out = {one.name for one in held}
    rows = np.arange(len(read.pictures))
    is_held = np.array([one.name in out for one in read.pictures])
    return Data(read.labels, read.pictures, rows[~is_held], rows[is_held], notes, twins)


def _attempts(
    request: Request, sights: Sequence[Sight], data: Data, model: partial[PackedModel]
) -> list[Attempt]:
    """The best probe at each resolution; what is tried is printed as it is known."""
    print(ROW.format("pixels", "reads", "penalty", "cross-validated", "held out"))
    fits = (
        sum(len(sight.readouts) for sight in sights) * len(PENALTIES) * num_folds(len(data.train))
    )
    with tqdm(total=fits, desc="probes", unit="fit", disable=None, leave=False) as bar:
        attempts = [
            max(_tried(request, sight, data, bar), key=lambda one: one.rank) for sight in sights
        ]
    if len(attempts) > 1:  # what the sizes cost is only worth the time where there is a choice
        pixels = [one.sight.load(data.pictures[data.held[0]]) for one in attempts]
        costs = [measure(model(), one) for one in pixels]
        attempts = [replace(one, cost=cost) for one, cost in zip(attempts, costs, strict=True)]
    return attempts


def _tried(request: Request, sight: Sight, data: Data, bar: "tqdm[Any]") -> Iterator[Attempt]:
    """A probe for each of what it can read."""
    held = HeldOut(data.labels, [data.pictures[row] for row in data.held])
    for readout in sight.readouts:
        features = sight.features(data.pictures, readout)
        choice = choose(features, data.classes, data.train, request.seed, bar.update)
        probe = fit(features, data.classes, data.train, choice.penalty)
        records = [*held.records(probe.scores(features, data.held))]
        made = Attempt(sight, readout, features, choice, probe, records, held.rate(records))
        bar.clear()
        cells = (f"{choice.penalty:g}", f"{choice.accuracy:.1%}", f"{made.top_1:.1f}%")
        print(ROW.format(sight.size, readout, *cells), flush=True)
        yield made


def _trained(spec: ModelSpec, data: Data, best: Attempt) -> Trained:
    """The whole model with the best probe."""
    config = replace(readable(spec), num_classes=len(data.labels), readout=best.readout)  # type: ignore[type-var]
    tensors = {"head.weight": best.probe.weight, "head.bias": best.probe.bias}
    return Trained(config, data.labels, best.sight.transform, spec, "", tensors)
