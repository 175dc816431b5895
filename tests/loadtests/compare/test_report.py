"""The report of made-up results."""

import pytest
from PIL import Image

from tests.loadtests.compare.made_up import BUSY, results_of, round_of
from vimserve.loadtests.compare import plots, report
from vimserve.loadtests.compare.results import Case, FirstPass

TOKENS = {224: 197, 512: 1025, 1248: 6085}
MODELS = ["vim", "deit", "deit-eager"]
SPEED = (6085**2 / 12_000) / (6085 / 6)


def times_ms(size, clients=1):
    """Vim's time grows with the tokens, DeiT's with their square."""
    tokens = TOKENS[size]
    return {
        "vim": tokens / 6 * clients,
        "deit": tokens**2 / 12_000 * clients,
        "deit-eager": tokens**2 / 2_500 * clients,
    }


def made(task="classify", rounds=6):
    cases = [case for size in TOKENS for case in (Case(size), Case.http(size, 4))]
    results = results_of(MODELS, cases, task)
    for size, tokens in TOKENS.items():
        peaks = (tokens * 20_000, tokens * 15_000, tokens**2 * 30)
        results.first_passes += [
            FirstPass(model, Case(size), tokens, peak)
            for model, peak in zip(MODELS, peaks, strict=True)
        ]
        results.rounds += [round_of(Case(size), times_ms(size)) for _ in range(rounds)]
        results.rounds += [round_of(Case.http(size, 4), times_ms(size, 4)) for _ in range(rounds)]
    return results


@pytest.fixture
def results():
    return made()


def text_of(results, folder):
    report.write(results, folder, ["speed.png"])
    return (folder / "report.md").read_text()


def test_exponents_are_the_slopes():
    for power in (1, 1.5, 2):
        assert report.exponent([(n, 3 * n**power) for n in TOKENS]) == pytest.approx(power)
    with pytest.raises(ValueError, match="two sizes"):
        report.exponent([(197, 5.0), (197, 6.0)])


def test_the_numbers_in_the_tables(results, tmp_path):
    text = text_of(results, tmp_path)
    told = f"{SPEED:.2f} ({SPEED:.2f} to {SPEED:.2f})"
    assert f"| {told}, reaches the paper's 2.80 |" in text
    assert f"| 1248 | deit | {told} | {told} |" in text
    assert "-33.3%, does not reach the paper's 86.8%" in text
    saved = 1 - 20_000 / (6085 * 30)
    assert f"{saved:.1%}, reaches the paper's 86.8%" in text
    assert "| vim | 1.00 | 224, 512, 1248 |" in text
    assert "| deit | 2.00 | 512, 1248 |" in text
    assert "**12 of 12 ratios are results.**" in text
    assert "| vim | 1248 | 4 | 6 | 24 | 0 | 0 | 0.25 | 4057 | 4057 | 4057 | 1.5 | 97% |" in text
    assert "![speed.png](speed.png)" in text
    assert "Partial" not in text
    assert "Not measured" not in text


@pytest.mark.parametrize(
    ("ratios", "told"),
    [
        ([2.9] * 6, "2.90 (2.90 to 2.90), reaches the paper's 2.80"),
        ([2.75] * 6, "2.75 (2.75 to 2.75), does not reach the paper's 2.80"),
        ([2.7, 2.9] * 3, "2.80 (2.70 to 2.90), cannot be told from the paper's 2.80"),
        ([0.6, 1.4] * 3, "unstable: 0.60 to 1.40, not a result |"),
        ([5.0] * 5, "5 rounds only: 5.00, not a result |"),
        ([], "not measured |"),
    ],
)
def test_only_a_result_says_something_of_the_claim(ratios, told, tmp_path):
    results = results_of(["vim", "deit"], [Case(1248)])
    results.rounds += [round_of(Case(1248), {"vim": 10.0, "deit": 10 * r}) for r in ratios]
    (row,) = [line for line in text_of(results, tmp_path).splitlines() if "against deit" in line]
    assert f"| {told}" in row
    assert ("the paper's" in row) == ("the paper's" in told)


def test_a_resnet_is_not_held_against_the_claim_about_deit(results, tmp_path):
    times = {"vim": 100.0, "deit": 300.0, "resnet-50": 400.0}
    results = results_of(times, [Case(1248)])
    results.rounds += [round_of(Case(1248), times) for _ in range(6)]
    text = text_of(results, tmp_path)
    assert "# Vim against DeiT and ResNet: classification" in text
    assert "vim against deit, one image of 1248 | 3.00 (3.00 to 3.00), reaches" in text
    assert "vim against resnet-50" not in text
    assert "| 1248 | resnet-50 | 4.00 (4.00 to 4.00) |" in text


def test_a_disturbed_run_has_no_results(results, tmp_path):
    results.rounds = [round_of(one.case, times_ms(one.case.size), BUSY) for one in results.rounds]
    text = text_of(results, tmp_path)
    assert "**0 of 12 ratios are results.**" in text
    assert "36 of 36 rounds were disturbed" in text
    assert "| other programs, % | 50.00 | 50.00 |" in text
    assert f"| 1248 | deit | disturbed: {SPEED:.2f}, not a result | disturbed: " in text
    assert "reach the paper's 2.8" not in text
    assert f"{6085 / 6:.1f} (disturbed)" in text
    assert "| vim | 1248 | 4 | 6 (disturbed) |" in text
    assert "| vim | 1.00 |" not in text


def test_segmentation_is_not_held_against_the_claim_about_features(tmp_path):
    text = text_of(made("segment"), tmp_path)
    assert "# Vim against DeiT: segmentation" in text
    assert "the paper" not in text.lower()
    assert f"{SPEED:.2f}" in text


def test_a_detectors_parts_are_told_apart(tmp_path):
    cases = [case for size in TOKENS for case in (Case(size), Case(size, backbone=True))]
    results = results_of(["vim", "deit"], cases, "detect")
    for case in cases:
        tokens, heads_ms = TOKENS[case.size], 0 if case.backbone else 1000
        times = {"vim": tokens / 6 + heads_ms, "deit": tokens**2 / 12_000 + heads_ms}
        results.rounds += [round_of(case, times) for _ in range(6)]
        for model, masks in (("vim", 100), ("deit", case.size)):
            boxes = (0, 0) if case.backbone else (1000, masks)
            results.first_passes.append(FirstPass(model, case, tokens, tokens * 1000, *boxes))
    text = text_of(results, tmp_path)
    assert "# Vim against DeiT: detection" in text
    assert "| pixels | than | bare | backbone |" in text
    whole = (6085**2 / 12_000 + 1000) / (6085 / 6 + 1000)
    told = [f"{ratio:.2f} ({ratio:.2f} to {ratio:.2f})" for ratio in (whole, SPEED)]
    assert f"| 1248 | deit | {' | '.join(told)} |" in text
    assert "| vim | 1000 | 100 |" in text
    assert "| deit | 1000 | 224 to 1248 |" in text
    shares = [ms / (ms + 1000) for ms in (6085 / 6, 6085**2 / 12_000)]
    assert f"| 1248 | {shares[0]:.1%}, 1014 | {shares[1]:.1%}, 3086 |" in text
    assert "| vim | 1.00 | 224, 512, 1248 |" in text
    assert "| deit | 2.00 | 512, 1248 |" in text
    assert text.count("| 1248 | 1 | 6085 |") == 2  # as a whole, and its backbone


def test_a_wrong_answer_has_no_speed(results, tmp_path):
    case = Case.http(224, 4)
    results.rounds.append(round_of(case, times_ms(224), wrong=3))
    text = text_of(results, tmp_path)
    (row,) = [line for line in text.splitlines() if line.startswith("| vim | 224 | 4 |")]
    assert row.split(" | ")[5:11] == ["0", "3", "–", "–", "–", "–"]
    (row,) = [line for line in text.splitlines() if line.startswith("| 224 | deit | ")]
    assert row.endswith(" | wrong answers |")


def test_what_was_not_measured_is_said(results, tmp_path):
    results.rounds = [one for one in results.rounds if one.case in (Case(224), Case(512))]
    results.first_passes = [one for one in results.first_passes if one.case.size != 1248]
    results.partial = True
    text = text_of(results, tmp_path)
    assert "**Partial" in text
    assert (
        "Not measured before the end: 224 pixels, 4 clients; 512 pixels, 4 clients; "
        "1248 pixels, bare; 1248 pixels, 4 clients." in text
    )
    assert "against deit, one image of 1248 | not measured | not measured |" in text
    assert "| 1248 | deit | not measured | not measured |" in text


def test_plots(results, tmp_path):
    names = plots.draw(results, tmp_path)
    assert names == ["ratio.png", "speed.png", "memory.png", "latency.png"]
    for name in names:
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 500
            assert len(picture.convert("L").getcolors() or []) > 20


def test_nothing_measured_draws_nothing_and_reports_that(tmp_path):
    results = results_of(["vim", "deit"], [Case(224)])
    assert plots.draw(results, tmp_path) == []
    assert "Not measured before the end: 224 pixels, bare." in text_of(results, tmp_path)
