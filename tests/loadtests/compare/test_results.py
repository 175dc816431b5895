"""Figures from made-up rounds."""

import json

import pytest

from tests.loadtests.compare.made_up import BUSY, QUIET, ratios, results_of, round_of
from vimserve.loadtests.compare.disturbance import Disturbance
from vimserve.loadtests.compare.results import Case, FirstPass

CASE = Case(224)


def made(rounds, case=CASE):
    results = results_of(["vim", "deit"], [case])
    results.rounds += rounds
    return results


def test_a_ratio_is_taken_within_each_round():
    # The machine is ten times slower in every other round; the ratio is always two.
    slow = [1, 10] * 4
    results = made(round_of(CASE, {"vim": 30.0 * k, "deit": 60.0 * k}) for k in slow)
    ratio = results.ratio(CASE, "vim", "deit")
    assert (ratio.median, ratio.low, ratio.high, ratio.doubt) == (2.0, 2.0, 2.0, "")
    assert results.image_ms(CASE, "vim").doubt == "unstable"
    assert results.settled(CASE)


def test_disturbed_rounds_do_not_count():
    results = made(ratios(CASE, [2.0] * 6) + ratios(CASE, [0.7] * 20, BUSY))
    assert results.ratio(CASE, "vim", "deit").median == 2.0
    assert len(results.turns(CASE, "vim")) == 6


def test_a_slow_product_disturbs_as_judged_by_the_best_of_the_whole_run():
    rounds = ratios(CASE, [2.0] * 6, Disturbance(30.0, 0.0, 0.0))
    assert made(rounds).settled(CASE)
    results = made(rounds + ratios(Case(512), [1.0], QUIET))
    assert results.disturbed() == [True] * 6 + [False]
    assert results.ratio(CASE, "vim", "deit").doubt == "disturbed"


def test_few_or_differing_rounds_do_not_settle():
    assert not made([]).settled(CASE)
    assert not made(ratios(CASE, [2.0] * 5)).settled(CASE)
    assert not made(ratios(CASE, [1.9, 1.95, 2.0, 2.0, 2.05, 2.1])).settled(CASE)


def test_wrong_answers_have_no_speed_and_settle():
    case = Case.http(224, 4)
    results = made([round_of(case, {"vim": 30.0, "deit": 60.0}, wrong=1)], case)
    assert results.wrong(case, "vim") == 1
    assert results.ratio(case, "vim", "deit") is None
    assert results.image_ms(case, "vim") is None
    assert results.p50_ms(case, "vim") is None
    assert results.settled(case)


def test_latencies_are_of_all_turns_that_count():
    case = Case.http(224, 4)
    rounds = [round_of(case, {"vim": ms, "deit": 1.0}) for ms in (10.0, 20.0, 30.0)]
    results = made([*rounds, round_of(case, {"vim": 900.0, "deit": 1.0}, BUSY)], case)
    assert results.latencies_ms(case, "vim") == [10.0] * 4 + [20.0] * 4 + [30.0] * 4
    assert results.p50_ms(case, "vim").median == 20.0


def test_first_passes_are_found_by_model_size_and_batch():
    results = made([])
    backbone = Case(224, backbone=True)
    for case, peak_bytes in ((CASE, 5), (Case(224, 32), 90), (backbone, 3)):
        results.first_passes.append(FirstPass("vim", case, 197, peak_bytes))
    assert results.first_pass("vim", CASE).peak_bytes == 5
    assert results.first_pass("vim", Case(224, 32)).peak_bytes == 90
    assert results.first_pass("vim", backbone).peak_bytes == 3
    assert results.first_pass("deit", CASE) is None


def test_cases_say_what_they_are():
    parts = [Case(224, backbone=True), Case(224, 32, backbone=True)]
    assert [str(case) for case in parts] == [
        "224 pixels, backbone",
        "224 pixels, backbone, 32 images",
    ]
    cases = [Case(224), Case(224, 32), Case.http(512, 1), Case.http(512, 4)]
    assert [str(case) for case in cases] == [
        "224 pixels, bare", "224 pixels, bare, 32 images", "512 pixels, 1 client",
        "512 pixels, 4 clients",
    ]  # fmt: skip
    assert [case.images for case in cases] == [1, 32, 1, 4]
    assert [way.way for way in results_of(["vim"], [*cases, *parts, Case(512)]).ways] == [
        "bare", "bare, 32 images", "1 client", "4 clients", "backbone", "backbone, 32 images"
    ]  # fmt: skip


def test_all_rounds_are_kept_as_json(tmp_path):
    results = made(ratios(CASE, [2.0, 2.1]) + ratios(CASE, [0.7], BUSY))
    results.save(tmp_path)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["environment"]["cores"] >= 1
    assert [Case(**one) for one in kept["cases"]] == [CASE]
    assert [one["turns"][1]["image_ms"] for one in kept["rounds"]] == pytest.approx([200, 210, 70])
    assert kept["rounds"][2]["disturbance"]["others"] == 0.5
