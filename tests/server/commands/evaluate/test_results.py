"""Which setting is recommended, and how figures stand in the report."""

from dataclasses import replace

import pytest

from vimserve.server.commands.evaluate import report
from vimserve.server.commands.evaluate.benchmark import Figure, Rating
from vimserve.server.commands.evaluate.protocols import PROTOCOLS, Expected
from vimserve.server.commands.evaluate.results import Evaluation, Outcome


def outcome(model, resolution, value, image_ms, half=2.0, peak_bytes=1_000_000, **more):
    figure = Figure(value, value - half, value + half)
    rating = Rating({"top-1": figure}, {"cat": value}, "top-1")
    return Outcome(model, resolution, rating, 100, image_ms, peak_bytes, **more)


def evaluation(*outcomes):
    return Evaluation("classify", {"device": "cpu"}, outcomes)


@pytest.mark.parametrize(
    ("outcomes", "advice"),
    [
        ([outcome("a", "64", 50, 1)], "a at 64 pixels: top-1 50.0 (48.0 to 52.0)."),
        (
            [outcome("a", "64", 47, 1), outcome("a", "128", 50, 4)],
            "a at 128 pixels is best, with top-1 50.0 (48.0 to 52.0); no faster setting reaches "
            "that interval.",
        ),
        (
            [
                outcome("a", "64", 40, 1),
                outcome("a", None, 48, 2, peak_bytes=500_000),
                outcome("b", "native", 49, 3),
                outcome("b", "128", 50, 5),
            ],
            "b at 128 pixels is best, with top-1 50.0 (48.0 to 52.0); the cheapest setting within "
            "that interval is a at its own size, with 48.0 in 2.5 times less time and 50% of the "
            "memory.",
        ),
        (
            [outcome("a", "64", 50, 2), outcome("a", "128", 50, 1)],
            "a at 128 pixels is best, with top-1 50.0 (48.0 to 52.0); no faster setting reaches "
            "that interval.",
        ),
    ],
)
def test_the_cheapest_within_the_best_one_s_interval(outcomes, advice):
    assert evaluation(*outcomes).advice() == advice


def test_no_figures():
    empty = replace(outcome("a", "64", 50, 1), rating=Rating({}))
    with pytest.raises(ValueError, match="nothing to rate a by"):
        _ = empty.main


def test_the_report(tmp_path):
    failed = {"x.png": "torn"}
    first = outcome("a", "64", 50, 1, failed=failed, missing=["m.png"],
                    expected=Expected({"top-1": 51.5, "top-5": 90}, "a paper"))  # fmt: skip
    report.write(evaluation(first, outcome("a", "128", 48, 2, failed=failed)), tmp_path, ["p.png"])
    text = (tmp_path / "report.md").read_text()
    assert "| a | 64 | 50.0 (48.0 to 52.0) | 1.0 | 1.0 | 100 |" in text
    assert "| a | top-1 | 50.0 (48.0 to 52.0) | 51.5 | -1.5 | a paper |" in text
    assert "| a | top-5 | – | 90.0 | – | a paper |" in text
    assert text.count("x.png (torn)") == 1
    assert "a at 64 pixels, a at 128 pixels: without an answer, and not counted" in text
    assert "1 pictures are missing: m.png" in text
    assert "| cat | 50.0 | 48.0 |" in text
    assert "![p](p.png)" in text


def test_a_report_without_anything_to_note(tmp_path):
    report.write(evaluation(outcome("a", "64", 50, 1)), tmp_path, [])
    text = (tmp_path / "report.md").read_text()
    assert "To be noted" not in text
    assert "published" not in text
    few = replace(outcome("a", "64", 50, 1), images=29)
    report.write(evaluation(few), tmp_path, [])
    assert "29 pictures are few" in (tmp_path / "report.md").read_text()


def test_the_published_figures_are_named():
    assert {*PROTOCOLS} == {
        "vim-imagenet", "resnet-imagenet", "resnet-imagenet-v2",
        "ade20k-slide", "ade20k-whole", "coco-1024",
    }  # fmt: skip
