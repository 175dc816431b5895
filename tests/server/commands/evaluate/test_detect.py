"""``vimserve evaluate --task detect``, of a detector that finds what it is told."""

import json

import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.server.detector import BOXER, DISC, FULL, SPEC, Thing, loadable

# In parts of a picture's sides: a cat that fills the lower right quarter, and a boat.
CAT = Thing(2, 0.9, (0.5, 0.5, 1.0, 1.0), FULL)
BOAT = Thing(1, 0.8, (0.0, 0.25, 0.5, 0.75), DISC)
SIZE = (64, 96)
NAMES = {7: "Boat", 9: "cat", 4: "zebra"}


@pytest.fixture
def finder(monkeypatch):
    """The only detector there is; ``things`` is what it finds in every picture."""
    specs = {spec.name: spec for spec in (SPEC, BOXER)}
    monkeypatch.setattr(
        "vimserve.server.commands.evaluate.command.resolve", lambda name: specs[name]
    )
    monkeypatch.setenv("VIMSERVE_MODEL", "finder")
    with loadable(SPEC, BOXER) as (found, boxer):
        found.things = boxer.things = (CAT, BOAT)
        yield found


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", SIZE[::-1]).save(folder / name)
    return folder


@pytest.fixture
def coco(tmp_path):
    """A function that writes a file of these objects: (picture, category, box in its parts)."""

    def write(*objects, masks=True, names=NAMES, **changed):
        content = {
            "images": [
                {"id": 30 + number, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
                for number, name in enumerate(("a.png", "b.png"))
            ],
            "categories": [{"id": number, "name": name} for number, name in names.items()],
            "annotations": [annotation(*one, masks=masks) for one in objects],
        } | changed
        file = tmp_path / "coco.json"
        file.write_text(json.dumps(content))
        return file

    return write


def annotation(number, category, box, *, masks):
    left, top, right, bottom = (
        edge * side for edge, side in zip(box, (SIZE[1], SIZE[0]) * 2, strict=True)
    )
    polygon = [left, top, right, top, right, bottom, left, bottom]
    return {
        "id": number,
        "image_id": 30 + number % 2,
        "category_id": category,
        "bbox": [left, top, right - left, bottom - top],
    } | ({"segmentation": [polygon], "area": (right - left) * (bottom - top)} if masks else {})


def test_all_is_found(finder, images, coco, evaluate):
    file = coco((0, 9, CAT.box), (1, 9, CAT.box), (2, 7, BOAT.box), (3, 7, BOAT.box))
    ran = evaluate("--task", "detect", "--coco", file, "--images", images)
    assert ran.status == 0
    assert ran.value("box AP") == ran.value("box AP50") == 100
    # The boat is a disc, in which its rectangle is contained by π / 4, between two thresholds.
    assert ran.value("mask AP50") == 100
    assert ran.value("mask AP") == pytest.approx((100 + 60) / 2)
    (outcome,) = ran.results["outcomes"]
    assert outcome["rating"]["classes"] == {"boat": 100, "cat": 100}
    assert (
        "1 categories of coco.json are no classes of finder and are not rated: zebra" in ran.report
    )


def test_half_is_found_as_a_hand_count_says(finder, images, coco, evaluate):
    """The cat is in one picture of two: of two detections, which score alike, one is right."""
    file = coco((0, 9, CAT.box))
    ran = evaluate("--task", "detect", "--coco", file, "--images", images)
    assert ran.value("box AP") == 100  # the wrong one comes last
    finder.things = (CAT,)
    file = coco((1, 9, CAT.box))
    again = evaluate("--task", "detect", "--coco", file, "--images", images)
    assert again.value("box AP") == 50  # the wrong one comes first
    assert "box AP large" in again.results["outcomes"][0]["rating"]["figures"]


def test_what_a_model_is_asked(finder, images, coco, evaluate):
    file = coco((0, 9, CAT.box))
    evaluate("--task", "detect", "--coco", file, "--images", images, "--score-threshold", "0.3")
    wanted = finder.wanted[-1]
    assert (wanted.score_threshold, wanted.most, wanted.masks) == (0.3, 100, True)


@pytest.mark.parametrize(("model", "masks"), [("boxer", True), ("finder", False)])
def test_boxes_alone(finder, images, coco, evaluate, model, masks):
    file = coco((0, 9, CAT.box), (1, 9, CAT.box), masks=masks)
    ran = evaluate("--task", "detect", "--coco", file, "--images", images, "--models", model)
    assert ran.value("box AP") == 100
    assert not any("mask" in name for name in ran.results["outcomes"][0]["rating"]["figures"])


def test_nothing_is_found(finder, images, coco, evaluate):
    finder.things = ()
    file = coco((0, 9, CAT.box))
    ran = evaluate("--task", "detect", "--coco", file, "--images", images)
    assert ran.value("box AP") == ran.value("mask AP") == 0


def test_masks_are_written_as_pycocotools_reads_them(finder, images, coco, evaluate):
    file = coco((0, 9, CAT.box))
    ran = evaluate("--task", "detect", "--coco", file, "--images", images)
    cat, boat = ran.answers("finder-own")["a.png"]["found"]
    assert (cat["category_id"], boat["category_id"]) == (9, 7)
    assert cat["bbox"] == [48, 32, 48, 32]
    assert coco_mask.toBbox(cat["segmentation"]).tolist() == [48, 32, 48, 32]
    assert coco_mask.area(cat["segmentation"]) == 48 * 32


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"names": {1: "zebra"}},
            "has no category that finder knows: it has zebra, the model apple",
        ),
        (
            {"annotations": [{"id": 5, "image_id": 30}]},
            "category_id of 0 of annotations: Field required",
        ),
        (
            {"images": [{"id": 30, "file_name": "a.png", "height": 9, "width": 96}]},
            "a.png has 64x96 pixels, but ",
        ),
        (
            {"images": [{"id": 3, "file_name": "c.png"}, {"id": 4, "file_name": "a.png"}]},
            "are missing: c.png; --skip-missing goes on",
        ),
        ({"images": [{"id": 3, "file_name": "c.png"}]}, "are missing: c.png"),
        ({"images": [{"id": 3}]}, "file_name of 0 of images: Field required"),
        (
            {"annotations": [{"id": 5, "image_id": 30, "category_id": 9, "bbox": [1, 2, 3]}]},
            "bbox of 0 of annotations: List should have at least 4 items",
        ),
        ({"annotations": [None]}, "0 of annotations: Input should be an object"),
        ({"annotations": []}, "there is nothing to rate finder by"),
    ],
)
def test_a_file_that_cannot_be_used(finder, images, coco, evaluate, changed, message):
    file = coco((0, 9, CAT.box), **changed)
    ran = evaluate("--task", "detect", "--coco", file, "--images", images)
    assert ran.status == 1
    assert message in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "Invalid JSON"), ("[]", "Input should be an object"), ("{}", "images: Field required")],
)
def test_a_file_of_another_form(finder, images, tmp_path, evaluate, text, message):
    file = tmp_path / "other.json"
    file.write_text(text)
    ran = evaluate("--task", "detect", "--coco", file, "--images", images)
    assert ran.status == 1
    assert message in ran.err


def test_missing_pictures_can_be_left_out(finder, images, coco, evaluate):
    (images / "b.png").unlink()
    file = coco((0, 9, CAT.box), (1, 9, CAT.box))
    flags = ["--task", "detect", "--coco", file, "--images", images]
    assert evaluate(*flags).status == 1
    ran = evaluate(*flags, "--skip-missing")
    assert ran.value("box AP") == 100  # the cat that nobody could look for does not count
    assert "1 pictures are missing: b.png" in ran.report
