"""A run with a real process, a real server and Locust, of a model that is part of the project."""

import csv

from tests.loadtests.compare.made_up import results_of
from vimserve.loadtests.compare import run
from vimserve.loadtests.compare.results import Case

SETTINGS = run.Settings(
    task="classify", models=["demo"], sizes=[32, 96], clients=[2], device="cpu", threads=1,
    seconds=0.01, minutes=60, published=False,
)  # fmt: skip


def test_two_rounds_of_each_case(monkeypatch, tmp_path):
    def take_rounds(cases, play, settled, seconds):
        for case in [*cases, *cases]:
            assert play(case) > 0

    monkeypatch.setattr(run, "take_rounds", take_rounds)
    results = results_of(SETTINGS.models, SETTINGS.cases)
    run.run(SETTINGS, results, tmp_path)
    assert [one.case for one in results.rounds] == [*SETTINGS.cases, *SETTINGS.cases]
    assert SETTINGS.cases[0] == Case(96)
    assert not results.partial
    for played in results.rounds:
        (turn,) = played.turns
        assert turn.model == "demo"
        assert 0 < turn.image_ms <= 1e3 * turn.seconds
        assert turn.count >= (played.case.clients or 1)
        assert played.disturbance.product_ms > 0
        served = turn.served
        assert (served is None) == (played.case.clients == 0)
        if served:
            assert served.wrong == served.refused == 0
            assert len(served.latencies_ms) == turn.count
            assert served.stage_ms["inference"] > 0
            assert 1 <= served.images_per_batch <= 2
            assert 0 < served.busy <= 1
    sizes = [(one.case.size, one.tokens > 1) for one in results.first_passes]
    assert sizes == [(96, True), (32, True)]
    with (tmp_path / "locust.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    warm_up, *rows = rows
    assert (warm_up["size"], warm_up["Request Count"]) == ("32", "1")
    assert [(row["model"], row["size"], row["clients"]) for row in rows] == [
        ("demo", "96", "2"), ("demo", "32", "2")
    ] * 2  # fmt: skip
    over_http = [one.turns[0].count for one in results.rounds if one.case.clients]
    assert [int(row["Request Count"]) for row in rows] == over_http
    assert {row["Failure Count"] for row in rows} == {"0"}


def test_a_gpu_is_filled():
    settings = run.Settings(**{**vars(SETTINGS), "device": "cuda", "sizes": [224, 1248]})
    assert settings.cases[:4] == [Case(1248), Case(224), Case(1248, 32), Case(224, 32)]


def test_a_detectors_backbone_is_measured_as_well():
    settings = run.Settings(**{**vars(SETTINGS), "task": "detect", "sizes": [512, 1248]})
    assert settings.cases == [
        Case(1248), Case(512), Case(1248, backbone=True), Case(512, backbone=True),
        Case.http(1248, 2), Case.http(512, 2),
    ]  # fmt: skip
