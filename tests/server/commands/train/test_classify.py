"""From pictures in folders to a file that is served."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.server.commands.train.conftest import LABELS, draw
from vimserve.model import catalog, heads
from vimserve.model.batch import PackedBatch
from vimserve.model.config import VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.heads.features import columns, extract, frozen, readable
from vimserve.server.commands.standalone import standalone
from vimserve.server.commands.train import pictures as train_pictures
from vimserve.server.config import Config
from vimserve.server.engine.urgency import Urgency
from vimserve.server.images.source import EncodedImage
from vimserve.server.tasks.classify import Classify, ClassifyQuery


def served(file: Path, picture: Path) -> np.ndarray:
    """The class scores of the pipeline that serves HTTP."""
    spec = catalog.resolve(f"mine={file}")
    config = Config(model=("mine",))

    async def ask() -> np.ndarray:
        plan = Classify().plan(spec, ClassifyQuery(), config.max_resolution)
        async with standalone(config, [spec]) as pipeline:
            urgency = Urgency(0.0, timeout_s=float("inf"), priority=1)
            image = EncodedImage(picture.read_bytes())
            model = pipeline.engine.loaded("mine")
            done = await pipeline.run(model, plan, [image], urgency, lambda _, result: result)
            return done.results[0].logits

    return asyncio.run(ask())


def test_the_served_file_answers_what_the_probe_says_of_the_features(train, pictures, backbone):
    ran = train("--resolutions", "48,32")
    assert (ran.status, ran.err) == (0, "")
    spec = catalog.resolve(f"mine={ran.file}")
    assert spec.labels == tuple(sorted(LABELS))
    head = load_file(ran.file)
    readout = spec.config.readout  # type: ignore[attr-defined]
    own = catalog.resolve(backbone)
    for picture in sorted(pictures.rglob("*.png"))[::9]:
        pixels = EncodedImage(picture.read_bytes()).open(1 << 20).pixels(spec.transform)
        (features,) = frozen(own)(PackedBatch.from_images([pixels]))
        read = features[columns(readable(own), readout)]
        expected = read @ head["head.weight"].T + head["head.bias"]
        np.testing.assert_allclose(served(ran.file, picture), expected, rtol=0, atol=1e-4)
        truth = spec.labels.index(picture.parent.name)
        assert int(served(ran.file, picture).argmax()) == truth


def test_the_report_tells_what_was_made_of_which_pictures(train):
    ran = train("--resolutions", "48,32", plots=True)
    assert "| 48 |" in ran.report
    assert "| 32 |" in ran.report
    assert "24 to train on, 6 held out" in ran.report
    for name in ("learning-curve.png", "confusion.png", "accuracy.png"):
        assert f"]({name})" in ran.report
        with Image.open(ran.folder / name) as picture:
            assert min(picture.size) > 100
    assert all(label in ran.report for label in LABELS)
    assert "There are none." in ran.report  # no errors
    lines = ran.out.splitlines()
    assert lines[0].split() == ["pixels", "reads", "penalty", "cross-validated", "held", "out"]
    assert [line.split()[:2] for line in lines[1:7]] == [
        [size, readout] for size in ("48", "32") for readout in ("class", "mean", "both")
    ]


def test_errors_are_shown_the_surest_first(train, pictures):
    for index, (wrong, right) in enumerate([(0, 1), (1, 0)]):
        for number in range(20, 24):
            draw(right, number).save(pictures / LABELS[wrong] / f"wrong {index} {number}.png")
    ran = train(plots=True)
    rows = [line for line in ran.report.splitlines() if "/wrong " in line]
    assert rows
    sure = [float(row.split("|")[-2].strip(" %")) for row in rows]
    assert all(0 < one <= 100 for one in sure)
    with Image.open(ran.folder / "worst-errors.png") as sheet:
        assert sheet.width > 500


def test_the_same_seed_makes_the_same_file(train):
    first = train().file.read_bytes()
    assert train().file.read_bytes() == first
    other = train("--seed", "1")
    assert other.file.read_bytes() != first


def test_features_that_do_not_fit_into_memory_make_the_same_file(train, monkeypatch):
    first = train().file.read_bytes()
    monkeypatch.setattr(train_pictures, "IN_MEMORY", 0)
    assert train().file.read_bytes() == first


def test_a_second_run_looks_at_no_picture_again(train, monkeypatch):
    first = train()
    monkeypatch.setattr(
        train_pictures, "extract", lambda *_: pytest.fail("a picture was looked at again")
    )
    again = train()
    assert again.file.read_bytes() == first.file.read_bytes()


def test_a_picture_that_changes_is_looked_at_again(train, pictures, monkeypatch):
    train()
    draw(0, 99).save(pictures / LABELS[0] / "0.png")
    names: list[str] = []

    def spied(items, *rest):
        names.extend(one.name for one in items)
        return extract(items, *rest)

    monkeypatch.setattr(train_pictures, "extract", spied)
    train()
    assert names == [f"{LABELS[0]}/0.png"]


def test_an_interrupted_run_goes_on_to_the_same_file(train, monkeypatch, tmp_path):
    whole = train("--cache", tmp_path / "other").file.read_bytes()
    looked: list[str] = []

    def interrupted(*arguments):
        for number, seen in enumerate(extract(*arguments)):
            if number == 13:
                raise KeyboardInterrupt
            looked.append(seen.item.name)
            yield seen

    def counted(*arguments):
        for seen in extract(*arguments):
            looked.append(seen.item.name)
            yield seen

    monkeypatch.setattr(train_pictures, "extract", interrupted)
    ran = train()
    assert ran.status == 130
    assert ran.err == "vimserve: interrupted; the same command goes on from here\n"
    monkeypatch.setattr(train_pictures, "extract", counted)
    assert train().file.read_bytes() == whole
    assert len(looked) == len({*looked}) == 30


def test_evaluate_measures_the_file_on_what_was_held_out(train):
    ran = train("--evaluate", "--held-out", "0.3")
    assert ran.status == 0
    results = json.loads((ran.folder / "evaluation" / "results.json").read_text())
    (outcome,) = results["outcomes"]
    assert outcome["images"] == 9
    assert outcome["rating"]["figures"]["top-1"]["value"] == 100
    assert train("--evaluate", "--seed", "3").status == 0  # another file, the same folder


def test_near_duplicates_and_imbalance_are_named(train, pictures):
    for label in LABELS[1:]:
        for number in range(2, 10):
            (pictures / label / f"{number}.png").unlink()
    for number in range(8):
        draw(0, number).save(pictures / LABELS[0] / f"copy {number}.png")
    ran = train()
    assert "classes are imbalanced" in ran.err
    assert "fewer than 5 pictures of 2 classes" in ran.err
    assert "are nearly the same as pictures that are trained on" in ran.err
    assert "## Nearly the same" in ran.report
    assert all(line.startswith("vimserve: ") for line in ran.err.splitlines())


def test_a_backbone_without_class_token_is_read_by_its_mean(train, tmp_path):
    config = VimConfig(width=32, depth=2, num_classes=5, grid=(2, 2), pooling="mean")
    file = tmp_path / "mean.safetensors"
    save_file(Vim(config).state_dict(), file)
    ran = train("--backbone", f"mean={file}")
    assert [line.split()[1] for line in ran.out.splitlines()[1:2]] == ["mean"]
    assert "reads the mean of the patches" in ran.out
    assert catalog.resolve(f"mine={ran.file}").config.num_classes == 3


def test_plots_need_an_extra_and_the_rest_does_not(train, monkeypatch):
    monkeypatch.setitem(sys.modules, "vimserve.model.heads.plots", None)
    monkeypatch.delattr(heads, "plots", raising=False)  # of an earlier import
    ran = train(plots=True)
    assert ran.status == 0
    assert "pip install 'vimserve[plots]'" in ran.err
    assert ".png" not in ran.report
    assert not [*ran.folder.glob("*.png")]


def test_features_of_another_size_or_backbone_are_others(train, tmp_path, monkeypatch):
    counts: list[int] = []

    def counted(items, *rest):
        counts.append(len(items))
        return extract(items, *rest)

    monkeypatch.setattr(train_pictures, "extract", counted)
    train("--resolutions", "32")
    train("--resolutions", "48")
    train("--resolutions", "48,32")
    file = tmp_path / "backbone.safetensors"
    state = load_file(file)
    state["norm_f.weight"] *= 1.5
    save_file(state, file)
    train("--resolutions", "32")
    assert counts == [30, 30, 30]
