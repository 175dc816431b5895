import numpy as np
import pytest
import torch
from torch import Tensor

from tests.closeness import assert_close
from vimserve.model.heads import probe
from vimserve.model.heads.probe import FOLDS, PENALTIES, choose, fit, folds, learning_curve


class InMemory:
    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> Tensor:
        return self.values[rows]


def clouds(count: int, classes: int, width: int, apart: float) -> tuple[InMemory, Tensor]:
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    centers = apart * torch.randn(classes, width, generator=rng)
    noise = torch.randn(count, width, generator=rng)
    scale = torch.logspace(-2, 2, width)
    return InMemory((centers[labels] + noise) * scale + 5), labels


def test_it_finds_the_minimum_that_others_find() -> None:
    features, labels = clouds(60, 3, 5, 1.0)
    rows = np.arange(60)
    made = fit(features, labels, rows, 0.01)
    # The same loss by plain gradient descent in double precision.
    x = features.values.double()
    x = (x - x.mean(0)) / x.std(0, unbiased=False)
    weight = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    for _ in range(1500):
        loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, labels)
        loss = loss + 0.005 * weight.square().sum()
        gradients = torch.autograd.grad(loss, [weight, bias])
        with torch.no_grad():
            for one, gradient in zip((weight, bias), gradients, strict=True):
                one -= gradient
    expected = (x @ weight.T + bias).detach().float()
    ((_, scores),) = made.scores(features, rows)
    # A constant added to all scores of a picture changes nothing.
    centred = [one - one.mean(1, keepdim=True) for one in (scores, expected)]
    assert_close("scores", *centred, atol=2e-2)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(60, 3, 5, 1.0)
    rows = np.arange(0, 60, 2)
    whole = fit(features, labels, rows, 0.1)
    monkeypatch.setattr(probe, "CHUNK", 7)
    parts = fit(features, labels, rows, 0.1)
    assert_close("weights", parts.weight, whole.weight, atol=1e-3)
    assert [len(some) for some, _ in parts.scores(features, rows)] == [7, 7, 7, 7, 2]


def test_it_repeats() -> None:
    features, labels = clouds(60, 3, 5, 1.0)
    first, second = (
        (choose(features, labels, np.arange(60), 1), fit(features, labels, np.arange(60), 0.1))
        for _ in range(2)
    )
    assert first[0] == second[0]
    assert torch.equal(first[1].weight, second[1].weight)
    assert torch.equal(first[1].bias, second[1].bias)


def test_noise_wants_a_stronger_penalty_than_what_is_clear() -> None:
    clear, labels = clouds(120, 3, 20, 3.0)
    noise, _ = clouds(120, 3, 20, 0.0)
    strong, weak = (choose(one, labels, np.arange(120), 0) for one in (noise, clear))
    assert strong.penalty > weak.penalty
    assert weak.accuracy > 0.95
    assert strong.accuracy < 0.55


def test_a_feature_that_never_differs_counts_nothing() -> None:
    features, labels = clouds(60, 3, 5, 2.0)
    features.values[:, 2] = 7.0
    made = fit(features, labels, np.arange(60), 0.1)
    assert (made.weight[:, 2] == 0).all()


def test_folds_have_a_share_of_each_class_and_each_picture_once() -> None:
    labels = torch.tensor([0] * 30 + [1] * 6 + [2])
    rows = np.arange(1, 37)
    parts = folds(labels, rows, 3)
    assert sorted(row for _, test in parts for row in test) == rows.tolist()
    for train, test in parts:
        assert not {*train} & {*test}
        assert len(train) + len(test) == len(rows)
        assert int((labels[test] == 1).sum()) == 2


def test_of_many_pictures_one_fold_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MANY", 10)
    features, labels = clouds(30, 3, 5, 2.0)
    assert len(folds(labels, np.arange(30), 0)) == 1
    fits: list[int] = []
    choose(features, labels, np.arange(30), 0, lambda: fits.append(1))
    assert len(fits) == len(PENALTIES)
    monkeypatch.undo()
    choose(features, labels, np.arange(30), 0, lambda: fits.append(1))
    assert len(fits) == (1 + FOLDS) * len(PENALTIES)


def test_a_learning_curve_grows_with_pictures_of_each_class() -> None:
    features, labels = clouds(160, 4, 8, 1.0)
    curve = learning_curve(features, labels, np.arange(128), np.arange(128, 160), 0.1, 0)
    assert [count for count, *_ in curve] == [8, 16, 32, 64, 128]
    assert all(0 <= value <= 1 for _, *both in curve for value in both)
    assert curve[-1][2] > curve[0][2]
    whole = fit(features, labels, np.arange(128), 0.1)
    assert curve[-1][2] == whole.accuracy(features, labels, np.arange(128, 160))


def test_a_learning_curve_of_few_pictures_has_few_points() -> None:
    features, labels = clouds(8, 4, 8, 1.0)
    curve = learning_curve(features, labels, np.arange(4), np.arange(4, 8), 0.1, 0)
    assert [count for count, *_ in curve] == [4]
