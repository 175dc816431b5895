"""Linear classifiers of frozen features: multinomial logistic regression by L-BFGS.

The features are standardised, so that one penalty suits all of them; this is undone in the weights.
What a probe reads and how strongly it is penalised is chosen by cross-validation among the pictures
to train on, so that those that are held out have no part in it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Of half the squared weights, beside the mean cross entropy. The strongest comes first: each fit
# begins where the one before has ended.
PENALTIES = (10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
STEPS = 200  # of L-BFGS at most
FOLDS = 3
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)  # of the pictures, in a learning curve
MANY = 20_000  # pictures, of which one fold tells enough
CONSTANT = 1e-6  # deviation, beside the mean, of a feature that does not differ
ALONE = 50_000_000  # products that one thread computes in some milliseconds
CHUNK = 8192  # pictures that are in memory at a time

Ints = np.ndarray[Any, np.dtype[np.int64]]


class Features(Protocol):
    """The features of pictures, which may be on a disk."""

    def __len__(self) -> int:
        """How many pictures."""
        ...

    def take(self, rows: Ints) -> Tensor:
        """Of some pictures, float32 ``[rows, features]``."""
        ...


@dataclass(frozen=True)
class Probe:
    """A linear classifier.

    Attributes:
        weight: float32 ``[classes, features]``.
        bias: float32 ``[classes]``.
    """

    weight: Tensor
    bias: Tensor

    def scores(self, features: Features, rows: Ints) -> Iterator[tuple[Ints, Tensor]]:
        """Yield some of the rows at a time, and their class scores ``[some, classes]``."""
        for begin in range(0, len(rows), CHUNK):
            some = rows[begin : begin + CHUNK]
            yield some, F.linear(features.take(some), self.weight, self.bias)

    def accuracy(self, features: Features, labels: Tensor, rows: Ints) -> float:
        """The share of the rows, from 0 to 1, whose highest score is that of their class."""
        right = (
            int((scores.argmax(1) == labels[some]).sum())
            for some, scores in self.scores(features, rows)
        )
        return sum(right) / len(rows)


@dataclass(frozen=True)
class Choice:
    """A penalty, and how well probes with it do in cross-validation.

    Attributes:
        penalty: one of ``PENALTIES``.
        accuracy: from 0 to 1.
        loss: mean cross entropy.
    """

    penalty: float
    accuracy: float
    loss: float


def choose(
    features: Features,
    labels: Tensor,
    rows: Ints,
    seed: int,
    on_fit: Callable[[], object] = lambda: None,
) -> Choice:
    """The penalty that does best in cross-validation: the lowest loss.

    Args:
        features: of all pictures.
        labels: of all pictures, int64.
        rows: the pictures to train on.
        seed: of the folds.
        on_fit: is called ``len(PENALTIES)`` times for each of ``folds``.
    """
    right, loss, tested = np.zeros(len(PENALTIES)), np.zeros(len(PENALTIES)), 0
    for train, test in folds(labels, rows, seed):
        tested += len(test)
        for index, probe in enumerate(path(features, labels, train, PENALTIES)):
            for some, scores in probe.scores(features, test):
                truths = labels[some]
                right[index] += int((scores.argmax(1) == truths).sum())
                loss[index] += float(F.cross_entropy(scores, truths, reduction="sum"))
            on_fit()
    best = int(loss.argmin())
    return Choice(PENALTIES[best], right[best] / tested, loss[best] / tested)


def folds(labels: Tensor, rows: Ints, seed: int) -> list[tuple[Ints, Ints]]:
    """Pictures to train on and to test by, of which each class has its share in each fold.

    Of many pictures there is one fold.
    """
    order = _by_class(labels, rows, seed)
    fold = np.arange(len(order)) % FOLDS
    count = num_folds(len(rows))
    return [(np.sort(order[fold != k]), np.sort(order[fold == k])) for k in range(count)]


def _by_class(labels: Tensor, rows: Ints, seed: int) -> Ints:
    """The rows class by class, those of each in an order by chance."""
    order = np.random.default_rng(seed).permutation(rows)
    return order[np.argsort(labels[order].numpy(), kind="stable")]


def num_folds(rows: int) -> int:
    """How many ``folds`` there are of so many pictures."""
    return FOLDS if rows <= MANY else 1


def fit(features: Features, labels: Tensor, rows: Ints, penalty: float) -> Probe:
    """A probe trained on some of the pictures; as ``path``."""
    stronger = [one for one in PENALTIES if one > penalty]
    *_, probe = path(features, labels, rows, [*stronger, penalty])
    return probe


def path(
    features: Features, labels: Tensor, rows: Ints, penalties: Sequence[float]
) -> Iterator[Probe]:
    """Yield a probe for each of the penalties.

    Args:
        features: of all pictures.
        labels: of all pictures, int64; the classes are those up to the highest.
        rows: the pictures to train on.
        penalties: the strongest first.
    """
    mean, scale = _standard(features, rows)
    classes = int(labels.max()) + 1
    weight = torch.zeros(classes, len(mean), requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    truths = labels[rows]
    for penalty in penalties:
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=STEPS,
            tolerance_grad=1e-5,
            tolerance_change=1e-7,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def closure(optimizer: Any = optimizer, penalty: float = penalty) -> Tensor:
            optimizer.zero_grad()
            total = penalty / 2 * weight.square().sum()
            total.backward()
            for part, of_part in zip(_chunks(features, rows), truths.split(CHUNK), strict=True):
                scores = F.linear((part - mean) * scale, weight, bias)
                loss = F.cross_entropy(scores, of_part, reduction="sum") / len(rows)
                loss.backward()
                total = total.detach() + loss.detach()
            return total

        with _threads_for(len(rows) * weight.numel()):
            optimizer.step(closure)
        own = weight.detach() * scale
        yield Probe(own, bias.detach() - own @ mean)


@contextmanager
def _threads_for(products: int) -> Iterator[None]:
    """Compute so many products at a time on one thread if others would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if products > ALONE else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _standard(features: Features, rows: Ints) -> tuple[Tensor, Tensor]:
    """The mean ``[features]``, and what features are multiplied by to have variance 1."""
    sums = squares = torch.zeros((), dtype=torch.float64)
    for part in _chunks(features, rows):
        sums = sums + part.double().sum(0)
    mean = sums / len(rows)
    for part in _chunks(features, rows):
        squares = squares + (part.double() - mean).square().sum(0)
    deviation = (squares / len(rows)).sqrt()
    # One that never differs tells nothing, whatever it may be in other pictures.
    scale = torch.where(deviation > CONSTANT * (1 + mean.abs()), 1 / deviation, 0)
    return mean.float(), scale.float()


def _chunks(features: Features, rows: Ints) -> Iterator[Tensor]:
    for begin in range(0, len(rows), CHUNK):
        yield features.take(rows[begin : begin + CHUNK])


def learning_curve(
    features: Features, labels: Tensor, train: Ints, test: Ints, penalty: float, seed: int
) -> list[tuple[int, float, float]]:
    """How well probes do that are trained on fewer pictures of each class.

    Returns:
        Rising numbers of pictures, each with the accuracy on these, and that on ``test``.
    """
    order = _by_class(labels, train, seed)
    of_classes = np.split(order, np.bincount(labels[train].numpy()).cumsum()[:-1])
    points: dict[int, tuple[float, float]] = {}
    for share in SHARES:
        rows = np.sort(np.concatenate([one[: math.ceil(share * len(one))] for one in of_classes]))
        if len(rows) not in points:
            probe = fit(features, labels, rows, penalty)
            both = (probe.accuracy(features, labels, those) for those in (rows, test))
            points[len(rows)] = (next(both), next(both))
    return [(count, *accuracies) for count, accuracies in points.items()]
