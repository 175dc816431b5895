"""``vimserve evaluate --task classify``, from pictures to figures."""

import sys

import numpy as np
import pytest

from vimserve.model.catalog import resolve
from vimserve.server.commands import evaluate as package
from vimserve.server.commands.evaluate.labelled import Labelled
from vimserve.server.tasks.classify import ClassScores


def scores(*logits):
    return ClassScores(np.array(logits, dtype=np.float64))


def test_the_model_s_own_answers_are_all_right(models, labelled, evaluate):
    ran = evaluate("--data", labelled([0] * 10))
    found = [record["found"] for record in ran.answers("tiny-own").values()]
    assert ran.value("top-1") == pytest.approx(10 * found.count(0))
    right = evaluate("--data", labelled([ran.answers("tiny-own")[f"{i}.png"]["found"]
                                         for i in range(10)]))  # fmt: skip
    assert right.value("top-1") == 100
    assert right.value("top-5") == 100
    assert right.results["outcomes"][0]["images"] == 10


def test_shuffled_answers_are_as_right_as_a_hand_count_says(models, labelled, evaluate):
    first = evaluate("--data", labelled([0] * 10)).answers("tiny-own")
    truths = [(first[f"{i}.png"]["found"] + (i % 3 > 0)) % 7 for i in range(10)]
    ran = evaluate("--data", labelled(truths))
    assert ran.value("top-1") == 40  # pictures 0, 3, 6 and 9
    ranks = [record["rank"] for record in ran.answers("tiny-own").values()]
    assert ran.value("top-5") == 10 * sum(rank < 5 for rank in ranks)
    (outcome,) = ran.results["outcomes"]
    by_class = {f"class {truth}" for truth in truths}
    assert {*outcome["rating"]["classes"]} == by_class
    assert outcome["rating"]["figures"]["top-1"]["low"] < 40
    assert outcome["rating"]["figures"]["top-1"]["high"] > 40


def test_ranks(spec, labelled):
    benchmark = Labelled(spec, labelled([2] * 10))
    sample = benchmark.samples[0]
    assert benchmark.record(sample, scores(1, 2, 3, 0, 0, 0, 0))["rank"] == 0
    assert benchmark.record(sample, scores(9, 8, 3, 7, 0, 0, 0))["rank"] == 3
    # Of equally likely classes the first goes before, as in the answers of the server.
    assert benchmark.record(sample, scores(3, 0, 3, 3, 0, 0, 0))["rank"] == 1


def test_models_and_sizes_make_one_table(models, labelled, evaluate):
    ran = evaluate("--data", labelled([0] * 10), "--resolutions", "32,64", "--models", "a,b")
    assert ran.status == 0
    settings = [(one["model"], one["resolution"]) for one in ran.results["outcomes"]]
    assert settings == [("a", "32"), ("a", "64"), ("b", "32"), ("b", "64")]
    for one in ran.results["outcomes"]:
        assert one["image_ms"] > 0
        assert one["peak_bytes"] >= 0
    assert all(f"| {model} | {size} |" in ran.report for model in "ab" for size in (32, 64))
    assert (ran.folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "![accuracy](accuracy.png)" in ran.report
    assert ran.results["advice"] in ran.out


def test_without_matplotlib_there_is_no_plot_but_all_else(models, labelled, evaluate, monkeypatch):
    monkeypatch.delattr(package, "plots", raising=False)
    monkeypatch.delitem(sys.modules, f"{package.__name__}.plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    ran = evaluate("--data", labelled([0] * 10))
    assert ran.status == 0
    assert ran.err == (
        "vimserve: no plot was drawn: it needs the extra plots: pip install 'vimserve[plots]'\n"
    )
    assert ran.results["outcomes"]
    assert "![" not in ran.report


def test_a_folder_for_each_class(models, picture, tmp_path, evaluate):
    data = tmp_path / "data"
    for name in ("class 1", "Class_2", ".hidden"):
        (data / name / "more").mkdir(parents=True)
        picture(40, 40).save(data / name / "a.png")
        picture(40, 40).save(data / name / "more" / "b.JPEG")
    (data / "class 1" / "notes.txt").write_text("no picture")
    (data / "notes.txt").write_text("no class")
    ran = evaluate("--data", data)
    assert {name: record["class"] for name, record in ran.answers("tiny-own").items()} == {
        "class 1/a.png": 1,
        "class 1/more/b.JPEG": 1,
        "Class_2/a.png": 2,
        "Class_2/more/b.JPEG": 2,
    }


def test_wordnet_ids_are_imagenet_s_classes(picture, tmp_path):
    for name in ("n01440764", "n15075141", "great_white_shark"):
        (tmp_path / name).mkdir()
        picture(40, 40).save(tmp_path / name / "a.png")
    samples = Labelled(resolve("vim-tiny"), tmp_path).samples
    assert [one.truth for one in samples] == [2, 0, 999]


def test_a_list_takes_names_ids_and_numbers(picture, tmp_path):
    picture(40, 40).save(tmp_path / "a.png")
    file = tmp_path / "val.txt"
    file.write_text("\ufeffa.png 65\n\na.png\tgreat white shark\na.png n15075141\n")
    assert [one.truth for one in Labelled(resolve("vim-tiny"), file).samples] == [65, 2, 999]


def test_an_unreadable_picture_is_counted_and_named(models, labelled, evaluate, tmp_path):
    (tmp_path / "pictures" / "3.png").write_text("not a picture")
    ran = evaluate("--data", labelled([0] * 10))
    assert ran.status == 0
    assert ran.err == "vimserve: 1 pictures have no answer, see the report: 3.png\n"
    (outcome,) = ran.results["outcomes"]
    assert outcome["images"] == 9
    assert "are not an image" in outcome["failed"]["3.png"]
    assert "3.png (the bytes are not an image" in ran.report
