"""A head for pixels at one resolution: its features, its training, its answers."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vimserve.model.families import family_of
from vimserve.model.families.linear.config import LinearConfig
from vimserve.model.heads.pixels.backbone import Config as HeadConfig
from vimserve.model.heads.pixels.backbone import freeze, prefix_of
from vimserve.model.heads.pixels.fit import EPOCHS, Data, Epoch, Settings, balanced, fit
from vimserve.model.heads.pixels.head import PixelHead
from vimserve.model.heads.pixels.linear import LinearHead, moments
from vimserve.model.heads.pixels.maps import PixelCaches
from vimserve.model.heads.pixels.upernet import UPerNetHead
from vimserve.model.heads.saving import Trained
from vimserve.model.palette import Palette
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Transform
from vimserve.server.commands.evaluate.benchmark import Rating
from vimserve.server.commands.evaluate.results import told_figure
from vimserve.server.commands.evaluate.samples import Record, Sample
from vimserve.server.commands.train.held_out_masks import HeldOutMasks, answer
from vimserve.server.commands.train.pictures import check_problems, weights_key
from vimserve.server.commands.train.request import Request
from vimserve.server.commands.train.sample_facts import Size
from vimserve.server.commands.train.views import View, look, views_of
from vimserve.server.config import Config
from vimserve.server.engine.device import usable_device

ROW = "{:>8}  {:>5}  {:>8}  {:>8}"
MOMENTS_OF = 256  # pictures
WORST = 6
# Peak learning rate and decay of AdamW.
RATES = {"linear": (3e-3, 0.05), "upernet": (2e-3, 0.02)}


@dataclass(frozen=True)
class Pictures:
    """Pictures with masks.

    Attributes:
        labels: the names of the classes.
        train: to train on.
        held_out: to choose by and to be tested by.
        sizes: (height, width) of each by its name.
    """

    labels: tuple[str, ...]
    train: Sequence[Sample]
    held_out: Sequence[Sample]
    sizes: Mapping[str, Size]


@dataclass(frozen=True)
class Fitted:
    """A trained head.

    Attributes:
        config: of the model that it makes.
        transform: how that wants its pictures.
        trained: the head.
        changed: tensors of the backbone that are not the classifier's, by their names in the model.
        history: its epochs.
        rating: of its answers for the pictures that were held out.
        worst: the pictures with the worst answers, each with the answer and its mean IoU.
        pixels: to train on, of each class.
        held_out: the pictures that were held out and could be read.
        problems: why pictures are left out, by their names.
        seconds: for the features, and for the training.
        views: how many pictures and variants of them have features.
    """

    config: HeadConfig
    transform: Transform
    trained: PixelHead
    changed: Mapping[str, Tensor]
    history: Sequence[Epoch]
    rating: Rating
    worst: Sequence[tuple[View, "np.ndarray[Any, np.dtype[np.uint8]]", float]]
    pixels: Sequence[int]
    held_out: Sequence[Sample]
    problems: Mapping[str, str]
    seconds: tuple[float, float]
    views: int

    @property
    def size(self) -> str:
        """The resolution in words."""
        return str(self.transform.resolution or "native")

    @property
    def miou(self) -> float:
        """Of the pictures that were held out, in percent, at their own size; 0 without any."""
        figure = self.rating.figures.get("mIoU")
        return figure.value if figure else 0.0

    def told(self) -> str:
        """What it is and how good, in a sentence."""
        kind = "A linear head" if isinstance(self.config, LinearConfig) else "A UPerNet's head"
        figure, pictures = told_figure(self.rating.figures.get("mIoU")), len(self.held_out)
        return (
            f"{kind} at {self.size} pixels has an mIoU of {figure} % on {pictures} pictures that "
            "were held out."
        )

    def model(self, spec: ModelSpec, labels: tuple[str, ...], palette: Palette) -> Trained:
        """The whole model, to be saved."""
        tensors, prefix = {**self.changed, **self.trained.served()}, prefix_of(self.config)
        return Trained(self.config, labels, self.transform, spec, prefix, tensors, palette)


def fitted(
    config: Config,
    request: Request,
    spec: ModelSpec,
    head: HeadConfig,
    pictures: Pictures,
    resolution: int | None,
) -> Fitted:
    """Train a head at one resolution; None is the backbone's own.

    Raises:
        ValueError: for pictures or masks that cannot be used, or if the cache has no room.
        OSError: for files that cannot be read or written.
    """
    own = resolution or spec.transform.resolution
    transform = family_of(head).transform(head, resolution=own)
    views = {
        one.name: views_of(one, pictures.sizes[one.name], transform, head, request.pixels)
        for one in (*pictures.train, *pictures.held_out)
    }
    train = [views[one.name] for one in pictures.train]
    held = [views[one.name][0] for one in pictures.held_out]
    every = [*(view for of_one in train for view in of_one), *held]
    key = weights_key(spec, config, transform, f"{head.backbone!r} {head.out_indices}")
    width = len(head.out_indices) * head.backbone.width
    device, dtype = usable_device(config.device), getattr(torch, config.model_dtype)
    frozen = cache(partial(freeze, spec, head, device, dtype))
    count, began = len(pictures.labels), time.monotonic()
    entries = [view.entry for view in every]
    with PixelCaches(request.cache, key, entries, width, request.cache_bytes) as caches:
        problems = look(every, caches, frozen, count, head.out_indices, config.max_pixels)
        gone = {view.sample.name: problems[view.name] for view in every if view.name in problems}
        check_problems(gone, len(views), skip=request.skip_unreadable)
        train = [of_one for of_one in train if of_one[0].sample.name not in gone]
        held = [view for view in held if view.sample.name not in gone]
        if not train or not held:
            raise ValueError(
                "too few pictures can be read: none is left to train on, or to test by"
            )
        looked = time.monotonic()
        of_train = [[view.entry for view in of_one] for of_one in train]
        data = Data(caches, of_train, [view.entry for view in held])
        pixels = caches.pixels([of_one[0] for of_one in of_train], count)
        module = _module(head, data, request.seed)
        weights = balanced(pixels, request.pixels.power)
        settings = Settings(*RATES[request.pixels.head], request.seed, weights)
        depends = _digest([key, head, *((view.name, view.entry.key) for view in every), *gone])
        with Table(str(transform.resolution or "native")) as table:
            progress = request.report / f"training-{table.size}.pt"
            history = fit(module, data, settings, progress, depends, table.add)
        trained = time.monotonic()
        benchmark = HeldOutMasks(pictures.labels, [view.sample for view in held])
        records = benchmark.records(caches, held, module)
        worst = [
            (view, answer(caches, view, module).classes, miou)
            for view, miou in _worst(held, records)
        ]
    changed = {} if isinstance(head, LinearConfig) else frozen().changed
    return Fitted(
        head, transform, module, changed, history, benchmark.rate(records), worst,
        pixels.tolist(), benchmark.samples, gone, (looked - began, trained - looked), len(every),
    )  # fmt: skip


def _module(head: HeadConfig, data: Data, seed: int) -> PixelHead:
    """The head with its first weights."""
    if isinstance(head, LinearConfig):
        plain = [of_one[0] for of_one in data.train[:MOMENTS_OF]]
        return LinearHead(head, *moments(*data.caches.sums(plain)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UPerNetHead(head)


def _worst(views: Sequence[View], records: Sequence[Record]) -> list[tuple[View, float]]:
    """The pictures with the lowest mean IoU of their classes, with that share."""
    mious = [
        float(np.mean([both / (truth + found - both) for _, truth, found, both in one["pixels"]]))
        if one["pixels"]
        else 1.0
        for one in records
    ]
    order = sorted(zip(views, mious, strict=True), key=lambda one: one[1])
    return order[:WORST]


def _digest(parts: Sequence[Any]) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class Table:
    """Prints what each epoch has come to, and how much time is left.

    Args:
        size: the resolution in words.
    """

    def __init__(self, size: str) -> None:
        self.size = size
        self._bar: tqdm[Any] | None = None
        self._epochs = 0
        print(ROW.format("pixels", "epoch", "loss", "mIoU"), flush=True)

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, epoch: Epoch) -> None:
        """An epoch."""
        if self._bar is None:
            self._bar = tqdm(total=EPOCHS, desc="epochs", unit="epoch", disable=None, leave=False)
        self._epochs += 1
        self._bar.update()
        self._bar.clear()
        cells = self._epochs, f"{epoch.loss:.4f}", f"{epoch.miou:.1%}"
        print(ROW.format(self.size, *cells), flush=True)
