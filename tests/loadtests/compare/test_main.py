"""The command, its measurements replaced."""

import json
from types import SimpleNamespace

import pytest

from tests.loadtests.compare.made_up import round_of
from vimserve.loadtests.compare import __main__ as compare
from vimserve.loadtests.compare import run
from vimserve.loadtests.compare.results import Case

FEW = ["--model", "vim-tiny", "--model", "deit-tiny", "--resolutions", "224,512", "--clients", "1"]


@pytest.fixture
def measured(monkeypatch):
    """What makes the n-th round go wrong, or all answers."""
    state = SimpleNamespace(fail_at=None, error=None, wrong=0)

    class Contest:
        def __init__(self, settings, results, folder, stack):
            self.results = results

        def play(self, case):
            if len(self.results.rounds) == state.fail_at:
                raise state.error
            times_ms = {"vim-tiny": 30.0, "deit-tiny": 60.0}
            self.results.rounds.append(round_of(case, times_ms, wrong=state.wrong))
            return 0.09

    monkeypatch.setattr(run, "Contest", Contest)
    return state


def read(folder):
    return json.loads((folder / "results.json").read_text())


def test_everything_is_measured_and_written(measured, tmp_path, capsys):
    assert compare.main([*FEW, "--output", str(tmp_path)]) == 0
    kept = read(tmp_path)
    assert not kept["partial"]
    played = [Case(**one["case"]) for one in kept["rounds"]]
    assert played[:6] == [Case(512)] * 6  # the nearest to the paper's size
    assert {case: played.count(case) for case in played} == dict.fromkeys(
        [Case(224), Case(512), Case.http(224, 1), Case.http(512, 1)], 6
    )
    assert (tmp_path / "report.md").exists()
    assert (tmp_path / "latency.png").exists()
    assert "| 512 | deit-tiny | 2.00 (2.00 to 2.00) |" in capsys.readouterr().out


def test_the_time_is_up(measured, tmp_path):
    assert compare.main([*FEW, "--minutes", "0.000001", "--output", str(tmp_path)]) == 0
    kept = read(tmp_path)
    assert [one["case"]["size"] for one in kept["rounds"]] == [512]
    assert not kept["partial"]
    assert "Not measured before the end: 224 pixels, bare" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no figures")])
def test_what_was_measured_is_kept(measured, tmp_path, error, capsys):
    measured.fail_at, measured.error = 3, error
    assert compare.main([*FEW, "--output", str(tmp_path)]) == 1
    kept = read(tmp_path)
    assert kept["partial"]
    assert len(kept["rounds"]) == 3
    assert "Partial" in (tmp_path / "report.md").read_text()
    assert "(partial)" in capsys.readouterr().out


def test_wrong_answers_fail_the_run(measured, tmp_path, capsys):
    measured.wrong = 2
    assert compare.main([*FEW, "--output", str(tmp_path)]) == 1
    assert "8 answers were wrong" in capsys.readouterr().err


def test_a_quick_run_begins_with_the_claim(measured, tmp_path):
    options = ["--quick", "--model", "vim-tiny", "--model", "deit-tiny", "--output", str(tmp_path)]
    assert compare.main(options) == 0
    kept = read(tmp_path)
    assert Case(**kept["rounds"][0]["case"]) == Case(1248)
    assert sorted({one["size"] for one in kept["cases"]}) == [224, 512, 1248]


def test_objects_are_detected_in_large_pictures(measured, tmp_path):
    models = ["--model", "vim-tiny", "--model", "deit-tiny"]
    assert compare.main(["--task", "detect", *models, "--output", str(tmp_path)]) == 0
    sizes = {one["size"] for one in read(tmp_path)["cases"]}
    assert sizes == {512, 768, 1024, 1248}


@pytest.mark.parametrize(
    ("option", "value"), [("--resolutions", "0,224"), ("--resolutions", "x"), ("--minutes", "0")]
)
def test_values_that_are_none(option, value, capsys):
    with pytest.raises(SystemExit):
        compare.main([option, value])
    assert option in capsys.readouterr().err
