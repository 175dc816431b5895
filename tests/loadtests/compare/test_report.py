"""The report of made-up results."""

import json

import pytest
from PIL import Image

from vimserve.loadtests.compare import plots, report
from vimserve.loadtests.compare.drive import percentile
from vimserve.loadtests.compare.results import Results, Served, describe
from vimserve.model.bench import Measurement

TOKENS = {224: 197, 512: 1025, 1248: 6085}


def measured(model, size, ms, peak):
    return Measurement(model, size, 1, TOKENS[size], 5, ms, ms, 1000 / ms, peak)


def served(model, size, clients, wrong=0):
    stages = {"decode": 1.0, "queue": 2.0, "inference": 3.0, "postprocess": 0.5}
    return Served(
        model, size, clients, 10.0, 40, 0, wrong, 4.0, 240.0, 260.0, 300.0, stages, 1.5, 0.97, 2e8
    )


@pytest.fixture
def results():
    """Vim's time grows with the tokens, DeiT's with their square."""
    made = Results(
        describe("cpu", 2), "classify", ["vim", "deit", "deit-eager"], list(TOKENS), partial=False
    )
    for size, tokens in TOKENS.items():
        made.bare += [
            measured("vim", size, tokens / 6.0, tokens * 20_000),
            measured("deit", size, tokens**2 / 12_000, tokens * 15_000),
            measured("deit-eager", size, tokens**2 / 2_500, tokens**2 * 30),
        ]
        made.served += [served(model, size, n) for model in made.models for n in (1, 4)]
    return made


def test_exponents_are_the_slopes(results):
    for model, expected in (("vim", 1), ("deit", 2)):
        mine = [m for m in results.bare if m.model == model]
        assert report.exponent(mine) == pytest.approx(expected)
    with pytest.raises(ValueError, match="two sizes"):
        report.exponent(results.bare[:1])


def test_the_numbers_in_the_table(results, tmp_path):
    report.write(results, tmp_path, ["speed.png"])
    text = (tmp_path / "report.md").read_text()
    speed = (6085**2 / 12_000) / (6085 / 6)
    assert f"{speed:.2f} (reaches the paper's 2.80)" in text
    assert "-33.3% (does not reach the paper's 86.8%)" in text
    saved = 1 - 20_000 / (6085 * 30)
    assert f"{saved:.1%} (reaches the paper's 86.8%)" in text
    assert "| vim | 1.00 | 224, 512, 1248 |" in text
    assert "![speed.png](speed.png)" in text
    assert "Partial" not in text


def test_segmentation_is_not_held_against_the_claim_about_features(results, tmp_path):
    results.task = "segment"
    report.write(results, tmp_path, [])
    text = (tmp_path / "report.md").read_text()
    assert "# Vim against DeiT: segmentation" in text
    assert "the paper" not in text.lower()
    assert f"{(6085**2 / 12_000) / (6085 / 6):.2f}" in text


def test_a_wrong_answer_has_no_speed(results, tmp_path):
    results.served = [served("vim", 224, 1, wrong=3)]
    report.write(results, tmp_path, [])
    (row,) = [
        line for line in (tmp_path / "report.md").read_text().splitlines() if "| 40 |" in line
    ]
    assert row.split(" | ")[5:10] == ["3", "–", "–", "–", "–"]


def test_what_was_not_measured_is_said(results, tmp_path):
    results.bare = results.bare[:4]
    results.partial = True
    report.write(results, tmp_path, [])
    text = (tmp_path / "report.md").read_text()
    assert "**Partial" in text
    assert text.count("not measured") == 4
    assert "| 1248 |" not in text.partition("## Over HTTP")[0]


def test_plots(results, tmp_path):
    names = plots.draw(results, tmp_path)
    assert names == ["speed.png", "memory.png", "latency.png"]
    for name in names:
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 500
            assert len(picture.convert("L").getcolors() or []) > 20


def test_nothing_measured_draws_nothing(tmp_path):
    assert (
        plots.draw(Results(describe("cpu", 1), "classify", ["vim", "deit"], [224]), tmp_path) == []
    )


def test_results_are_kept_as_json(results, tmp_path):
    results.save(tmp_path)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["bare"][0]["tokens"] == 197
    assert kept["environment"]["cores"] >= 1
    assert len(kept["served"]) == 18


def test_percentiles_of_counts():
    counts = {10.0: 98, 20.0: 1, 500.0: 1}
    assert [percentile(counts, part) for part in (0.5, 0.98, 0.99, 1)] == [10, 10, 20, 500]
    with pytest.raises(ValueError, match="nothing"):
        percentile({}, 0.5)
