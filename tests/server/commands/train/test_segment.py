"""``vimserve train --task segment``: from pictures with masks to a file that is served."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.closeness import assert_close
from tests.server.commands.train.conftest import Ran
from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import load, resolve
from vimserve.model.config import VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.heads.pixels import fit
from vimserve.server.__main__ import main
from vimserve.server.commands.train import fitted, segmenter_report

LABELS = ("background", "disc, red", "円")
COLORS = ((40, 40, 40), (220, 30, 30), (30, 200, 60))


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(fit, "LEAST_PICTURES", 8)
    monkeypatch.setattr(fit, "EPOCHS", 4)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten pictures of two sizes: a class for each half, the border between them without one."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for number in range(10):
        height, width = (48, 64) if number % 2 else (64, 64)
        mask = np.full((height, width), number % 3, np.uint8)
        edge = int(rng.integers(16, 48))
        mask[:, edge:] = (number + 1) % 3
        pixels = np.array(COLORS, np.uint8)[mask] + rng.integers(0, 30, (height, width, 1))
        mask[:, edge : edge + 2] = 255
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"data/images/{number}.png")
        Image.fromarray(mask).save(tmp_path / f"data/masks/{number}.png")
    (tmp_path / "data" / "labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    return tmp_path / "data"


@pytest.fixture
def train(data: Path, tmp_path: Path, capsys, monkeypatch) -> Callable[..., Ran]:
    """A function that runs the command with further arguments."""
    torch.manual_seed(0)
    backbone = tmp_path / "backbone.safetensors"
    config = VimConfig(width=32, depth=4, states=8, num_classes=5, grid=(4, 4))
    save_file(Vim(config).state_dict(), backbone)

    def run(
        *arguments: str | Path, output: str = "mine", cache: str = "cache", drawn: bool = False
    ) -> Ran:
        file = tmp_path / "out" / f"{output}.safetensors"
        capsys.readouterr()
        if not drawn:
            monkeypatch.setattr(segmenter_report, "_draw", lambda *_: [])
        status = main(
            ["train", "--task", "segment", "--images", str(data / "images"), "--masks",
             str(data / "masks"), "--backbone", f"tiny={backbone}", "--output", str(file),
             "--resolutions", "64", "--cache", str(tmp_path / cache), *map(str, arguments)]
        )  # fmt: skip
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err, file, file.with_name(f"{output}-report"))

    return run


@pytest.mark.parametrize("head", ["linear", "upernet"])
def test_the_file_is_served_and_as_good_as_was_said(train, data, head) -> None:
    """What is measured as ``vimserve evaluate`` does it is what the training code has found."""
    channels = ("--channels", "8") if head == "upernet" else ()
    ran = train(
        "--labels", data / "labels.txt", "--head", head, *channels, "--evaluate", drawn=True
    )
    assert ran.status == 0
    said = ran.report.partition("has an mIoU of ")[2].partition(" %")[0]
    assert said
    assert said in (ran.folder / "evaluation" / "report.md").read_text()
    spec = resolve(f"mine={ran.file}")
    assert (spec.task, spec.labels) == ("segment", LABELS)
    assert spec.family == ("vim-linear" if head == "linear" else "vim-upernet")
    assert (spec.transform.resolution, spec.transform.fit) == (64, "contain")
    assert spec.palette is not None
    assert (ran.folder / "worst-pictures.png").is_file()
    assert (ran.folder / "learning-curve.png").is_file()
    assert "| disc, red |" in ran.report


def test_a_linear_head_learns_colours(train, monkeypatch) -> None:
    monkeypatch.setattr(fit, "LEAST_PICTURES", 80)
    ran = train("--no-flips", "--evaluate")
    assert ran.status == 0
    assert float(ran.report.partition("has an mIoU of ")[2].split()[0]) > 60
    assert "class 2" in ran.report


def test_a_second_run_looks_at_no_picture_and_has_the_same_weights(train, monkeypatch) -> None:
    first = train()
    monkeypatch.setattr(fitted, "freeze", lambda *_: pytest.fail("the backbone was loaded"))
    second = train(output="other")
    assert second.status == 0, second.err
    state, again = (load_file(one.file) for one in (first, second))
    assert state.keys() == again.keys()
    assert all(torch.equal(state[name], again[name]) for name in state)


def test_an_interrupted_run_goes_on_to_the_same_weights(train, monkeypatch) -> None:
    whole = train(output="whole")
    add, count = fitted.Table.add, 0

    def interrupt(*arguments) -> None:
        nonlocal count
        add(*arguments)
        count += 1
        if count == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fitted.Table, "add", interrupt)
        cut = train(cache="other")
    assert (cut.status, cut.file.exists()) == (130, False)
    assert "the same command goes on from here" in cut.err
    resumed = train(cache="other")
    assert resumed.status == 0
    state, again = (load_file(one.file) for one in (whole, resumed))
    assert all(torch.equal(state[name], again[name]) for name in state)


def test_scales_and_class_weights(train) -> None:
    ran = train("--scales", "0.75,1,1.5", "--class-weights", "balanced")
    assert ran.status == 0
    assert "as they are, flipped, at 0.75, at 1.5: 50 in all" in ran.report


def test_the_best_of_several_sizes_is_taken(train) -> None:
    ran = train("--resolutions", "32,64")
    rows = [line.split(" | ") for line in ran.report.splitlines() if line[:5] in ("| 32 ", "| 64 ")]
    mious = {int(row[0].strip("| ")): float(row[1].split()[0]) for row in rows}
    assert mious.keys() == {32, 64}
    spec = resolve(f"mine={ran.file}")
    assert spec.transform.resolution == max(mious, key=lambda size: mious[size])


def test_a_head_alone(train, data) -> None:
    """Beside the catalog's backbone it answers as the whole model does."""
    assert "a head alone needs a backbone of the catalog" in train("--head-only").refusal
    whole, alone = (
        train("--backbone", "demo", *flags, output=name)
        for flags, name in (((), "whole"), (("--head-only",), "alone"))
    )
    assert alone.file.stat().st_size < whole.file.stat().st_size / 10
    specs = [resolve(f"mine={one.file}") for one in (whole, alone)]
    pixels = specs[0].transform(Image.open(data / "images" / "0.png"))
    expected, found = (load(one)(PackedBatch.from_images([pixels]))[0] for one in specs)
    assert torch.equal(expected, found)


def test_masks_as_ade20k_has_them(train, data) -> None:
    for file in (data / "masks").iterdir():
        mask = np.asarray(Image.open(file))
        Image.fromarray(np.where(mask == 255, 0, mask + 1).astype(np.uint8)).save(file)
    ran = train("--labels", data / "labels.txt")
    assert "has class 3, but the model's are from 0 to 2 (are they from 1" in ran.refusal
    ran = train("--labels", data / "labels.txt", "--reduce-zero-label")
    assert ran.status == 0


def test_masks_that_do_not_fit(train, data) -> None:
    Image.fromarray(np.zeros((64, 65), np.uint8)).save(data / "masks" / "4.png")
    assert train().refusal.endswith("4.png has 64x65 pixels, but its picture has 64x64")
    Image.new("RGB", (64, 64)).save(data / "masks" / "4.png")
    assert "has the bands R, G, B, not one of class numbers" in train().refusal
    (data / "masks" / "4.png").unlink()
    assert "1 of 10 masks" in train().refusal
    ran = train("--skip-missing")
    assert ran.status == 0
    assert "1 pictures have no mask, and are left out: 4" in ran.report


def test_unreadable_pictures(train, data) -> None:
    (data / "images" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    whole = (data / "images" / "4.png").read_bytes()
    (data / "images" / "4.png").write_bytes(whole[: len(whole) // 2])
    assert "of 10 pictures cannot be read: 3 (" in train().refusal
    ran = train("--skip-unreadable")
    assert ran.status == 0
    assert "2 pictures cannot be read, and are left out: 3 (" in ran.report
    assert "4 (" in ran.report


def test_fewer_than_two_classes(train, data) -> None:
    (data / "labels.txt").write_text("only one\n")
    refusal = train("--labels", data / "labels.txt").refusal
    assert refusal.endswith("labels.txt have 1 classes: there must be at least two")
    for file in (data / "masks").iterdir():
        mask = np.zeros_like(np.asarray(Image.open(file)))
        Image.fromarray(mask).save(file)
    assert train().refusal.endswith("masks have 1 classes: there must be at least two")


def test_a_class_that_no_mask_has_is_named(train, data) -> None:
    (data / "labels.txt").write_text("\n".join([*LABELS, "unicorn"]))
    ran = train("--labels", data / "labels.txt")
    assert "1 classes are in no mask that is trained on: unicorn" in ran.report


def test_pictures_on_both_sides_that_are_nearly_the_same_are_named(train, data) -> None:
    for number in range(5):
        for kind in ("images", "masks"):
            copied = (data / kind / f"{number}.png").read_bytes()
            (data / kind / f"{number + 5}.png").write_bytes(copied)
    ran = train("--held-out", "0.5")
    assert "nearly the same as pictures that are trained on" in ran.report


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["--channels", "8"], "--channels is for --head upernet"),
        (["--head", "upernet", "--channels", "0"], "--channels must be at least 1, not 0"),
        (["--head", "upernet", "--head-only"], "--head-only is for --head linear"),
        (["--resolutions", "2000"], "--resolutions 2000 is above --max-resolution 1248"),
        (["--scales", "5"], "--scales must be from 0.25 to 4, not 5"),
        (["--scales", "big"], "--scales big: 'big' is no number"),
        (["--cache-gb", "0.0001"], "more than the 100000 that the cache may take"),
        (["--backbone", "demo-seg"], "demo-seg is a vim-upernet: a head is trained on a Vim"),
    ],
)
def test_other_refusals(train, arguments, refusal) -> None:
    assert refusal in train(*arguments).refusal


def test_flags_of_the_other_task(capsys, tmp_path) -> None:
    flags = ["--data", str(tmp_path), "--backbone", "demo", "--output", "x.safetensors"]
    assert main(["train", *flags, "--head", "linear"]) == 1
    assert "--head is for --task segment" in capsys.readouterr().err


def test_packed_is_alone(train, data) -> None:
    """The model that was trained answers together as it does one by one."""
    spec = resolve(f"mine={train().file}")
    served = load(spec)
    several = [spec.transform(Image.open(data / "images" / f"{i}.png")) for i in range(3)]
    together = served(PackedBatch.from_images(several))
    for one, scores in zip(several, together, strict=True):
        (alone,) = served(PackedBatch.from_images([one]))
        assert_close("scores", scores, alone, atol=1e-5)
