"""Trains a head on kept features until held-out pictures are not segmented any better.

A head is trained in epochs, each of which sees pictures in any of their variants: every picture
once, if that makes neither too few nor too many. Whatever is random depends on the seed and the
number of the epoch alone, so a run that was interrupted goes on to the weights that it would have
had.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vimserve.kernels.upsample_argmax import upsample_argmax
from vimserve.model.heads.pixels.head import PixelHead
from vimserve.model.heads.pixels.maps import Entry, PixelCaches, by_grid
from vimserve.model.mask_files import count_pixels, ious
from vimserve.model.training.class_shares import class_shares
from vimserve.model.whole_files import whole

EPOCHS = 30
LEAST_PICTURES, MOST_PICTURES = 160, 512  # of an epoch
BATCH = 8  # pictures
BATCH_PATCHES = 8192
PATIENCE = 8  # epochs without a better figure, after which there are no more
WARM_UP = 20  # steps


@dataclass(frozen=True)
class Settings:
    """How a head is trained.

    Attributes:
        rate: peak learning rate of AdamW.
        decay: of the weights.
        seed: of whatever is random.
        class_weights: of each class in the loss.
    """

    rate: float
    decay: float
    seed: int
    class_weights: tuple[float, ...]


@dataclass(frozen=True)
class Epoch:
    """What an epoch has come to.

    Attributes:
        loss: the mean over its steps.
        miou: of the held-out pictures at the model's own size, from 0 to 1.
    """

    loss: float
    miou: float


@dataclass(frozen=True)
class Data:
    """What a head is trained on and chosen by.

    Attributes:
        caches: have all entries.
        train: for each picture its variants.
        held_out: the held-out pictures as they are.
    """

    caches: PixelCaches
    train: Sequence[Sequence[Entry]]
    held_out: Sequence[Entry]


def fit(
    head: PixelHead,
    data: Data,
    settings: Settings,
    progress: Path,
    depends: str,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Train a head, which then has the weights of its best epoch.

    Args:
        head: with its first weights.
        data: the pictures.
        settings: of the training.
        progress: file that is written after each epoch, and read by a run that goes on.
        depends: whatever the weights depend on besides the settings; another run's is not read.
        on_epoch: is told of each epoch, those that were read included.

    Raises:
        OSError: if ``progress`` cannot be written.
    """
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.rate, weight_decay=settings.decay)
    depends = f"{depends} {asdict(settings)}"
    state = _read(progress, depends) or {"history": [], "best": None}
    history = [Epoch(*one) for one in state["history"]]
    best: dict[str, Tensor] | None = state["best"]
    if history:
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
    for epoch in history:
        on_epoch(epoch)
    while len(history) < EPOCHS and not _over(history):
        loss = _train(head, optimizer, data, settings, len(history))
        history.append(Epoch(loss, miou(head, data, len(settings.class_weights))))
        if history[-1].miou > max((one.miou for one in history[:-1]), default=-1.0):
            best = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        state = {
            "depends": depends,
            "history": [(one.loss, one.miou) for one in history],
            "best": best,
            "head": head.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        _write(progress, state)
        on_epoch(history[-1])
    assert best is not None
    head.load_state_dict(best)
    head.eval()
    return history


def _over(history: Sequence[Epoch]) -> bool:
    """Whether the last epochs were no better than one before them."""
    values = [one.miou for one in history]
    return len(values) > PATIENCE and max(values[-PATIENCE:]) <= max(values[:-PATIENCE])


def _train(
    head: PixelHead,
    optimizer: torch.optim.Optimizer,
    data: Data,
    settings: Settings,
    epoch: int,
) -> float:
    """The mean loss of an epoch."""
    rng = np.random.default_rng((settings.seed, epoch))
    batches = draw_batches(data.train, rng)
    weights = torch.tensor(settings.class_weights)
    losses = []
    head.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))  # of dropout
        for number, batch in enumerate(batches):
            share = (epoch + number / len(batches)) / EPOCHS
            warm = min((epoch * len(batches) + number + 1) / WARM_UP, 1)
            for group in optimizer.param_groups:
                group["lr"] = settings.rate * warm * (0.5 + 0.5 * math.cos(math.pi * share))
            scores = head(data.caches.features(batch))
            shares = class_shares(data.caches.classes(batch), len(weights))
            loss = soft_cross_entropy(scores, shares, weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return sum(losses) / len(losses)


def draw_batches(
    pictures: Sequence[Sequence[Entry]], rng: np.random.Generator
) -> list[list[Entry]]:
    """Pictures in any of their variants, in batches of one grid, in any order.

    Each comes once, or of few pictures as often as it takes, or of many some.

    A batch norm needs more than one picture: one that is alone in its grid is there twice, if
    possible in two variants.
    """
    count = min(max(len(pictures), LEAST_PICTURES), MOST_PICTURES)
    orders = [rng.permutation(len(pictures)) for _ in range(math.ceil(count / len(pictures)))]
    order = np.concatenate(orders)[:count]
    drawn = [pictures[i][int(rng.integers(len(pictures[i])))] for i in order]
    others = {entry: of_one for of_one in pictures for entry in of_one}
    batches = []
    for group in by_grid(drawn, BATCH_PATCHES):
        for first in range(0, len(group), BATCH):
            batch = group[first : first + BATCH]
            if len(batch) == 1:
                (alone,) = batch
                like = [one for one in others[alone] if one.grid == alone.grid and one != alone]
                batch = [alone, *(like or [alone])[:1]]
            batches.append(batch)
    return [batches[i] for i in rng.permutation(len(batches))]


def soft_cross_entropy(scores: Tensor, shares: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy of class scores ``[N, C, h, w]`` and the classes' shares, each with its weight.

    What is of no class, and is missing in the shares, does not count.
    """
    weighted = shares * weights[:, None, None]
    loss: Tensor = -(weighted * scores.log_softmax(1)).sum() / weighted.sum().clamp(min=1e-6)
    return loss


@torch.inference_mode()
def miou(head: PixelHead, data: Data, num_classes: int) -> float:
    """The mean IoU of the held-out pictures at the model's own size, from 0 to 1."""
    head.eval()
    counts = np.zeros((3, num_classes), np.int64)
    for batch in by_grid(data.held_out, BATCH_PATCHES):
        truths = data.caches.classes(batch)
        for scores, truth in zip(head(data.caches.features(batch)), truths, strict=True):
            found, _ = upsample_argmax(scores.contiguous(), (len(truth), truth.shape[1]))
            counts += count_pixels(truth.numpy(), found.numpy(), num_classes)
    shares = ious(counts)
    return 0.0 if np.isnan(shares).all() else float(np.nanmean(shares))


def balanced(pixels: Tensor, power: float) -> tuple[float, ...]:
    """A weight for each class: the median share of pixels over its own, to a power.

    With a power of 1 that is median frequency balancing (Eigen and Fergus, arXiv 1411.4734,
    section 4.2). Classes without pixels have no say in the median, and a weight of 1.
    """
    known = pixels > 0
    weights = torch.ones(len(pixels), dtype=torch.float64)
    weights[known] = (pixels[known].double().median() / pixels[known]) ** power
    return tuple(weights.tolist())


def _read(file: Path, depends: str) -> dict[str, Any] | None:
    """What was written for the same training; None if there is nothing."""
    try:
        state: dict[str, Any] = torch.load(file, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError):
        return None
    return state if state.get("depends") == depends else None


def _write(file: Path, state: dict[str, Any]) -> None:
    try:
        with whole(file) as partial:
            torch.save(state, partial)
    except (OSError, RuntimeError) as error:  # PyTorch's writer raises the latter for a full disk
        raise OSError(f"the training's state cannot be kept in {file}: {error}") from error
