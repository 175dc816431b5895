"""``vimserve evaluate --task segment``: masks are read as their makers mean them, and counted."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vimserve.model.catalog import resolve
from vimserve.server.__main__ import main
from vimserve.server.commands.evaluate.masks import Masks
from vimserve.server.tasks.segment import ClassMap

LABELS = ("wall", "sky", "tree", "road")
SPEC = replace(resolve("vim-tiny-upernet"), labels=LABELS)


@pytest.fixture
def benchmark(tmp_path, picture):
    """A function that makes one of masks, and of pictures with the same names."""

    def make(masks, **options):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir()
        for name, mask in masks.items():
            picture(*mask.shape).save(tmp_path / "images" / f"{name}.jpg")
            Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
        return Masks(SPEC, tmp_path / "images", tmp_path / "masks", **options)

    return make


def answer(classes):
    return ClassMap(np.asarray(classes, np.uint8))


def by_hand(truths, found, num_classes):
    """mIoU and the share of right pixels, in percent, pixel by pixel."""
    hits, union = [0] * num_classes, [0] * num_classes
    right = total = 0
    for truth, answered in zip(truths, found, strict=True):
        for known, guessed in zip(truth.flatten().tolist(), answered.flatten().tolist(),
                                  strict=True):  # fmt: skip
            if known == 255:
                continue
            total += 1
            right += known == guessed
            for index in {known, guessed}:
                union[index] += 1
            hits[known] += known == guessed
    shares = [hit / of for hit, of in zip(hits, union, strict=True) if of]
    return 100 * sum(shares) / len(shares), 100 * right / total


def rated(benchmark, answers):
    pairs = zip(benchmark.samples, answers, strict=True)
    return benchmark.rate([benchmark.record(one, answer(of)) for one, of in pairs])


def test_a_count_by_hand(benchmark):
    rng = np.random.default_rng(0)
    truths = [rng.choice([0, 1, 3, 255], (11, 13)).astype(np.uint8) for _ in range(5)]
    found = [np.where(rng.random(one.shape) < 0.6, one % 255, rng.choice([0, 1, 3], one.shape))
             for one in truths]  # fmt: skip
    rating = rated(benchmark({str(i): mask for i, mask in enumerate(truths)}), found)
    miou, accuracy = by_hand(truths, found, 4)
    assert rating.figures["mIoU"].value == pytest.approx(miou, abs=1e-3)
    assert rating.figures["pixel accuracy"].value == pytest.approx(accuracy, abs=1e-3)
    assert set(rating.classes) == {"wall", "sky", "road"}  # no tree anywhere
    assert rating.figures["mIoU"].low < miou < rating.figures["mIoU"].high


def test_pixels_of_all_pictures_count_together(benchmark):
    """The IoU of a class is over all pictures, not a mean of the pictures'."""
    one, other = np.zeros((10, 10), np.uint8), np.zeros((2, 2), np.uint8)
    rating = rated(benchmark({"a": one, "b": other}), [one, other + 1])
    assert rating.classes == {"wall": pytest.approx(100 * 100 / 104, abs=1e-3), "sky": 0}


def test_zero_is_no_class_as_in_ade20k(benchmark):
    mask = np.array([[0, 1, 2], [4, 255, 3]], np.uint8)
    rating = rated(benchmark({"a": mask}, reduce_zero_label=True), [[[3, 0, 1], [3, 3, 0]]])
    assert rating.figures["pixel accuracy"].value == 75
    assert rating.classes == {"wall": 50, "sky": 100, "tree": 0, "road": 100}


def test_nothing_but_pixels_of_no_class(benchmark):
    mask = np.full((2, 3), 255, np.uint8)
    assert rated(benchmark({"a": mask}), [np.zeros((2, 3))]).figures == {}


def test_truths_without_a_class_are_refused(benchmark, tmp_path, evaluate):
    benchmark({"a": np.full((32, 32), 255, np.uint8)})
    flags = ["--task", "segment", "--images", tmp_path / "images", "--masks", tmp_path / "masks"]
    ran = evaluate(*flags)
    assert ran.status == 1
    assert ran.err.startswith("vimserve: there is nothing to rate demo-seg by")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_kinds_of_masks(benchmark, dtype):
    mask = np.array([[0, 1], [1, 1]], dtype)
    assert rated(benchmark({"a": mask}), [[[0, 1], [1, 1]]]).figures["mIoU"].value == 100


def test_masks_with_a_palette(benchmark, tmp_path):
    made = benchmark({"a": np.zeros((2, 2), np.uint8)})
    image = Image.fromarray(np.array([[0, 3], [3, 3]], np.uint8), "P")
    image.putpalette([9, 9, 9] * 4)
    image.save(tmp_path / "masks" / "a.png")
    assert rated(made, [[[0, 3], [3, 3]]]).figures["mIoU"].value == 100


def test_names_as_cityscapes_has_them(tmp_path, picture):
    for folder in ("images/ulm", "masks/ulm"):
        (tmp_path / folder).mkdir(parents=True)
    picture(4, 4).save(tmp_path / "images/ulm/ulm_1_leftImg8bit.png")
    mask = Image.fromarray(np.zeros((4, 4), np.uint8))
    mask.save(tmp_path / "masks/ulm/ulm_1_gtFine_labelIds.png")
    with pytest.raises(ValueError, match=r"all Cityscapes' labels .* csCreateTrainIdLabelImgs"):
        Masks(SPEC, tmp_path / "images", tmp_path / "masks")
    mask.save(tmp_path / "masks/ulm/ulm_1_gtFine_labelTrainIds.png")
    (sample,) = Masks(SPEC, tmp_path / "images", tmp_path / "masks").samples
    assert sample.name == "ulm/ulm_1_leftImg8bit"
    assert sample.files[0].name == "ulm_1_gtFine_labelTrainIds.png"


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((3, 2), np.uint8), r"mask .*a.png has 3x2 pixels, but its picture has 2x3"),
        (np.full((2, 3), 4, np.uint8), "has class 4, but the model's are from 0 to 3 .*--reduce"),
        (np.zeros((2, 3, 3), np.uint8), "has the bands R, G, B, not one of class numbers"),
    ],
)
def test_a_wrong_mask(benchmark, tmp_path, mask, message):
    made = benchmark({"a": np.zeros((2, 3), np.uint8)})
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    with pytest.raises(ValueError, match=message):
        made.record(made.samples[0], answer(np.zeros((2, 3))))


def test_a_wrong_mask_ends_the_run_in_one_line(benchmark, tmp_path, evaluate):
    right = np.zeros((32, 32), np.uint8)
    benchmark({"a": right, "b": np.full((32, 32), 21, np.uint8), "c": right})
    flags = ["--task", "segment", "--images", tmp_path / "images", "--masks", tmp_path / "masks"]
    ran = evaluate(*flags)
    assert ran.status == 1
    assert "b.png has class 21, but the model's are from 0 to 20" in ran.err
    assert ran.err.count("\n") == 1
    Image.fromarray(right).save(tmp_path / "masks" / "b.png")
    assert evaluate(*flags).results["outcomes"][0]["images"] == 3


def test_pictures_without_a_mask_can_be_left_out(benchmark, tmp_path):
    mask = np.zeros((2, 3), np.uint8)
    made = benchmark({"a": mask, "b": mask})
    assert not made.missing
    (tmp_path / "masks" / "b.png").unlink()
    folders = tmp_path / "images", tmp_path / "masks"
    with pytest.raises(ValueError, match=r"1 of 2 masks in .* are missing: b; --skip-missing"):
        Masks(SPEC, *folders)
    skipped = Masks(SPEC, *folders, skip_missing=True)
    assert [one.name for one in skipped.samples] == ["a"]
    assert skipped.missing == ["b"]


def test_the_demo_s_own_answers_are_all_right(tmp_path, evaluate, picture):
    """Truths are what ``predict`` writes; one of them is then turned, and one cannot be read."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for seed in range(3):
        file = images / f"{seed}.png"
        picture(96 + 16 * seed, 128, seed).save(file)
        output = str(masks / f"{seed}.png")
        assert main(["predict", "--task", "segment", str(file), "--output", output]) == 0
    flags = ["--task", "segment", "--images", images, "--masks", masks]
    ran = evaluate(*flags)
    assert ran.status == 0
    assert ran.value("mIoU") == ran.value("pixel accuracy") == 100

    with Image.open(masks / "1.png") as mask:
        right = np.asarray(mask)
    wrong = np.full_like(right, 7)
    Image.fromarray(wrong).save(masks / "1.png")
    (masks / "2.png").write_text("not a mask")
    ran = evaluate(*flags)
    assert ran.results["outcomes"][0]["failed"] == {"2": f"mask {masks / '2.png'} cannot be read"}
    with Image.open(masks / "0.png") as mask:
        same = np.asarray(mask)
    miou, accuracy = by_hand([same, wrong], [same, right], 21)
    assert ran.value("mIoU") == pytest.approx(miou, abs=1e-3)
    assert ran.value("pixel accuracy") == pytest.approx(accuracy, abs=1e-3)
    assert "## IoU of each class" in ran.report
