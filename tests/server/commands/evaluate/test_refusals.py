"""Whatever cannot be measured is one line that says why."""

import json

import pytest


def one_line(ran):
    assert ran.status in (1, 2)
    assert ran.err.startswith("vimserve: ")
    assert ran.err.count("\n") == 1
    return ran.err


@pytest.fixture
def folders(picture, tmp_path):
    """A picture in a folder of a class that nobody knows, one with a mask, and a list."""
    for name in ("data/zebra", "empty", "images", "masks"):
        (tmp_path / name).mkdir(parents=True)
    picture(40, 40).save(tmp_path / "data" / "zebra" / "a.png")
    picture(40, 40).save(tmp_path / "images" / "a.png")
    picture(40, 40).convert("L").save(tmp_path / "masks" / "b.png")
    (tmp_path / "list.txt").write_text("a.png 1\nb.png 2\n")
    (tmp_path / "bare.txt").write_text("a.png\n")
    (tmp_path / "far.txt").write_text("a.png 7\n")
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "zebra"}]}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    (tmp_path / "part.json").write_text(json.dumps({"images": []}))
    (tmp_path / "torn.json").write_text("{")
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--task classify needs --data"),
        (["--data", "nowhere"], "nowhere does not exist"),
        (["--data", "empty"], "empty has no pictures in a folder for each class"),
        (["--data", "data"], "zebra: 'zebra' is no class of the model, which has 7: class 0, "),
        (["--data", "data", "--images", "images"], "--images is for a list of pictures"),
        (["--data", "list.txt"], "2 of 2 pictures that "),
        (["--data", "list.txt", "--images", "images"], "are missing: b.png; --skip-missing goes"),
        (["--data", "list.txt", "--skip-missing"], "no pictures that "),
        (["--data", "bare.txt", "--images", "images"], "bare.txt, line 1: 'a.png' has no class"),
        (["--data", "far.txt", "--images", "images"], "line 1: class 7 is beyond the model's"),
        (["--data", "data", "--masks", "masks"], "--masks is for --task segment"),
        (["--data", "data", "--window", "512"], "--window is for --task segment"),
        (["--data", "data", "--protocol", "coco-1024"], "coco-1024 is for --task detect"),
        (["--data", "data", "--reduce-zero-label"], "--reduce-zero-label is for --task segment"),
        (["--data", "data", "--resolutions", ","], "--resolutions is empty"),
        (["--task", "detect", "--coco", "x", "--images", "y"], "no model can detect"),
        (["--task", "segment", "--images", "images"], "--task segment needs --masks"),
    ],
)
def test_a_wrong_classification(models, folders, evaluate, monkeypatch, flags, message):
    monkeypatch.chdir(folders)
    assert message in one_line(evaluate(*flags))


@pytest.mark.parametrize("size", ["nan", "0", "-3", "²"])
def test_a_wrong_size(models, labelled, evaluate, size):
    ran = evaluate("--data", labelled([0] * 10), "--resolutions", f"64,{size}")
    assert "resolution must be 'native' or a whole number" in one_line(ran)


def test_sizes_beyond_the_server_s_limit_are_taken(models, labelled, evaluate):
    ran = evaluate("--data", labelled([0] * 10), "--resolutions", "96", "--max-resolution", "64")
    assert ran.status == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--images", "nowhere", "--masks", "masks"], "--images nowhere does not exist"),
        (["--images", "images", "--masks", "list.txt"], "--masks list.txt is not a folder"),
        (["--images", "empty", "--masks", "masks"], "--images empty has no pictures"),
        (["--images", "images", "--masks", "masks"], "1 of 1 masks in masks of the pictures in"),
    ],
)
def test_a_wrong_segmentation(folders, evaluate, monkeypatch, flags, message):
    monkeypatch.chdir(folders)
    assert message in one_line(evaluate("--task", "segment", "--models", "demo-seg", *flags))


def test_no_picture_can_be_read(models, labelled, evaluate, tmp_path):
    for index in range(10):
        (tmp_path / "pictures" / f"{index}.png").write_text("not a picture")
    ran = evaluate("--data", labelled([0] * 10))
    assert "none of 10 pictures has an answer; 0.png: the bytes are not an" in one_line(ran)
