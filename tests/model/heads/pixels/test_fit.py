"""Training on kept features: batches, losses, when it stops, and that it goes on."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.model.heads.pixels.test_heads import CONFIGS
from vimserve.model.families.linear.config import LinearConfig
from vimserve.model.heads.pixels import fit as fitting
from vimserve.model.heads.pixels.backbone import Kind, config_of
from vimserve.model.heads.pixels.fit import (
    Data,
    Settings,
    balanced,
    draw_batches,
    fit,
    miou,
    soft_cross_entropy,
)
from vimserve.model.heads.pixels.linear import LinearHead
from vimserve.model.heads.pixels.maps import Entry, PixelCaches
from vimserve.model.heads.pixels.upernet import UPerNetHead
from vimserve.model.spec import ModelSpec
from vimserve.model.training.class_shares import class_shares
from vimserve.model.transform import Transform

SPEC = ModelSpec("own", CONFIGS["vim"], (), Transform(), Path("unused"))
GRIDS = [(2, 2), (2, 2), (2, 3), (2, 2), (3, 3)]
SETTINGS = Settings(rate=1e-2, decay=0.01, seed=0, class_weights=(1.0, 1.0, 1.0))


@pytest.fixture
def data(tmp_path):
    """Pictures whose patches say by a feature what class all of their pixels are of."""
    entries = [[Entry(f"{i} {flip}", grid) for flip in range(2)] for i, grid in enumerate(GRIDS)]
    every = [entry for of_one in entries for entry in of_one]
    rng = np.random.default_rng(0)
    with PixelCaches(tmp_path, "key", every, 128, 10**8) as caches:
        for entry in every:
            classes = rng.integers(3, size=entry.grid).astype(np.uint8)
            features = rng.standard_normal((4, 32, *entry.grid), np.float32)
            for label in range(3):
                features[0, label] += 3 * (classes == label)
            caches.put(entry, torch.from_numpy(features), classes.repeat(16, 0).repeat(16, 1))
        yield Data(caches, entries[:4], [entries[4][0]])


def head(kind: Kind):
    torch.manual_seed(0)
    config = config_of(SPEC, kind, 8, 3)
    if isinstance(config, LinearConfig):
        return LinearHead(config, torch.zeros(128), torch.ones(128))
    return UPerNetHead(config)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(fitting, "LEAST_PICTURES", 8)
    monkeypatch.setattr(fitting, "EPOCHS", 8)
    monkeypatch.setattr(fitting, "PATIENCE", 2)


class KilledError(Exception):
    pass


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("kind", ["linear", "upernet"])
def test_a_killed_run_goes_on_to_the_same_weights(data, kind, tmp_path) -> None:
    told: list[list[fitting.Epoch]] = [[], []]
    whole = head(kind)
    history = fit(whole, data, SETTINGS, tmp_path / "a.pt", "", told[0].append)
    assert history[-1].loss < history[0].loss

    def die(epoch: fitting.Epoch) -> None:
        told[1].append(epoch)
        if len(told[1]) == 3:
            raise KilledError

    with pytest.raises(KilledError):
        fit(head(kind), data, SETTINGS, tmp_path / "b.pt", "", die)
    resumed = head(kind)
    assert fit(resumed, data, SETTINGS, tmp_path / "b.pt", "", lambda _: None) == history
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    again = head(kind)
    other = fit(again, data, SETTINGS, tmp_path / "b.pt", "other", lambda _: None)
    assert other == history  # made anew, from the same seed


@pytest.mark.usefixtures("short")
def test_the_best_epoch_is_kept_and_more_epochs_without_a_better_one_are_not_run(
    data, tmp_path, monkeypatch
) -> None:
    figures = iter([0.1, 0.5, 0.3, 0.5, 0.4, 0.4, 0.4, 0.4])
    kept = []

    def figure(module, *_):
        kept.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return next(figures)

    monkeypatch.setattr(fitting, "miou", figure)
    made = head("linear")
    history = fit(made, data, SETTINGS, tmp_path / "a.pt", "", lambda _: None)
    assert [one.miou for one in history] == [0.1, 0.5, 0.3, 0.5]
    assert all(torch.equal(kept[1][name], tensor) for name, tensor in made.state_dict().items())


def test_a_damaged_file_begins_anew(data, tmp_path, monkeypatch, short) -> None:
    (tmp_path / "a.pt").write_bytes(b"not a file of torch.save")
    assert fit(head("linear"), data, SETTINGS, tmp_path / "a.pt", "", lambda _: None)


def test_a_full_disk_is_one_line(data, tmp_path, short) -> None:
    folder = tmp_path / "gone"
    with pytest.raises(OSError, match=r"the training's state cannot be kept in .*gone/a.pt"):
        fit(head("linear"), data, SETTINGS, folder / "a.pt", "", lambda _: None)


def test_pictures_come_in_batches_of_one_grid_and_never_alone(monkeypatch) -> None:
    monkeypatch.setattr(fitting, "LEAST_PICTURES", 1)
    pictures = [[Entry(f"{i} {v}", (2, 2 + i % 3 // 2)) for v in range(2)] for i in range(30)]
    pictures.append([Entry("alone", (9, 9)), Entry("alone, flipped", (9, 9))])
    pictures.append([Entry("single", (7, 7))])
    batches = draw_batches(pictures, np.random.default_rng(0))
    assert all(len({entry.grid for entry in batch}) == 1 for batch in batches)
    assert all(2 <= len(batch) <= fitting.BATCH for batch in batches)
    names = [entry.key.partition(" ")[0] for batch in batches for entry in batch]
    every = {of_one[0].key.split()[0] for of_one in pictures}
    assert {*names} - {"alone,"} == every
    assert len(names) == len(pictures) + 2  # one more of each that would be alone
    (alone,) = [batch for batch in batches if batch[0].grid == (9, 9)]
    assert {entry.key for entry in alone} == {"alone", "alone, flipped"}
    (single,) = [batch for batch in batches if batch[0].grid == (7, 7)]
    assert single == [Entry("single", (7, 7))] * 2
    drawn = [str(draw_batches(pictures, np.random.default_rng(seed))) for seed in (0, 0, 1)]
    assert [one == other for one, other in pairwise(drawn)] == [True, False]


def test_few_pictures_come_several_times_and_of_many_some(monkeypatch) -> None:
    monkeypatch.setattr(fitting, "LEAST_PICTURES", 25)
    monkeypatch.setattr(fitting, "MOST_PICTURES", 40)
    for count, shown, least, most in ((10, 25, 2, 3), (30, 30, 1, 1), (100, 40, 0, 1)):
        pictures = [[Entry(str(i), (2, 2))] for i in range(count)]
        batches = draw_batches(pictures, np.random.default_rng(0))
        keys = [entry.key for batch in batches for entry in batch]
        times = [keys.count(of_one[0].key) for of_one in pictures]
        assert len(keys) in (shown, shown + 1)  # one more where one would be alone
        assert least <= min(times)
        assert max(times) <= most + 1


def test_the_loss_is_that_of_pytorch_and_leaves_out_what_has_no_class() -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 4, 5)
    classes = torch.randint(3, (2, 4, 5))
    weights = torch.tensor([0.5, 1.0, 3.0])
    shares = F.one_hot(classes, 3).permute(0, 3, 1, 2).float()
    expected = F.cross_entropy(scores, classes, weights)
    assert torch.isclose(soft_cross_entropy(scores, shares, weights), expected)
    shares[0, :, 2:] = 0
    classes[0, 2:] = 255
    expected = F.cross_entropy(scores, classes, weights, ignore_index=255)
    assert torch.isclose(soft_cross_entropy(scores, shares, weights), expected)
    nothing = soft_cross_entropy(scores, torch.zeros_like(shares), weights)
    assert nothing == 0


def test_shares_of_pixels_without_a_class() -> None:
    classes = torch.full((1, 8, 4), 255, dtype=torch.uint8)
    classes[0, :4] = 2
    classes[0, 0, 0] = 0
    shares = class_shares(classes, 3)[0, :, :, 0]
    assert shares.tolist() == [[1 / 16, 0], [0, 0], [15 / 16, 0]]


def test_weights_of_classes() -> None:
    pixels = torch.tensor([800, 100, 0, 50])
    assert balanced(pixels, 0) == (1, 1, 1, 1)
    assert balanced(pixels, 1) == (0.125, 1, 1, 2)
    assert balanced(pixels, 0.5) == pytest.approx((0.125**0.5, 1, 1, 2**0.5))


def test_miou_by_hand(data) -> None:
    """The linear head with the weights that the features were made by is right everywhere."""
    right = head("linear")
    with torch.no_grad():
        weight = right.linear.weight.view(16, 3, 128)
        for label in range(3):
            weight[:, label, label] = 1
    assert miou(right, data, 3) > 0.9
    assert miou(head("linear"), data, 3) < 0.4
