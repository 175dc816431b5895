"""The command, its measurements replaced."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from tests.loadtests.compare.test_report import served
from vimserve.loadtests.compare import __main__ as compare
from vimserve.loadtests.compare import run
from vimserve.model.bench import Measurement

FEW = ["--model", "vim-tiny", "--model", "deit-tiny", "--resolutions", "224,512", "--clients", "1"]


@pytest.fixture
def measured(monkeypatch):
    """A function that makes the n-th driven model go wrong."""
    state = SimpleNamespace(count=0, fail_at=None, error=None, wrong=0)

    def drive(url, load, table):
        state.count += 1
        if state.count == state.fail_at:
            raise state.error
        return served(load.model, load.size, load.clients, state.wrong)

    def bare(settings, model, size):
        yield Measurement(model, size, 1, size * size // 256 + 1, 5, size / 8, 1, 1, 1_000_000)

    @contextmanager
    def serving(flags):
        yield SimpleNamespace(url="http://127.0.0.1:1")

    monkeypatch.setattr(run, "drive", drive)
    monkeypatch.setattr(run, "_bare", bare)
    monkeypatch.setattr(run, "serving", serving)
    monkeypatch.setattr(run, "served_as", lambda model, folder: model)
    return state


def read(folder):
    return json.loads((folder / "results.json").read_text())


def test_everything_is_measured_and_written(measured, tmp_path):
    assert compare.main([*FEW, "--output", str(tmp_path)]) == 0
    kept = read(tmp_path)
    assert not kept["partial"]
    asked = [(one["model"], one["size"]) for one in kept["served"]]
    assert asked == [(m, s) for s in (224, 512) for m in ("vim-tiny", "deit-tiny")]
    assert (tmp_path / "report.md").exists()
    assert (tmp_path / "latency.png").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no figures")])
def test_what_was_measured_is_kept(measured, tmp_path, error, capsys):
    measured.fail_at, measured.error = 3, error
    assert compare.main([*FEW, "--output", str(tmp_path)]) == 1
    kept = read(tmp_path)
    assert kept["partial"]
    assert len(kept["served"]) == 2
    assert "Partial" in (tmp_path / "report.md").read_text()
    assert "(partial)" in capsys.readouterr().out


def test_wrong_answers_fail_the_run(measured, tmp_path, capsys):
    measured.wrong = 2
    assert compare.main([*FEW, "--output", str(tmp_path)]) == 1
    assert "8 answers were wrong" in capsys.readouterr().err


@pytest.mark.parametrize("sizes", ["0,224", "x"])
def test_sizes_that_are_none(sizes, capsys):
    with pytest.raises(SystemExit):
        compare.main(["--resolutions", sizes])
    assert "--resolutions" in capsys.readouterr().err
