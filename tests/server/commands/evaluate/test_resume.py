"""A run that was interrupted goes on; what has changed is done anew."""

import io
import json
import os
import signal

import pytest
from tqdm import tqdm

from tests.processes import Command
from vimserve.server.commands.evaluate.journal import Journal
from vimserve.server.commands.evaluate.samples import Sample


def asked(tiny):
    """How many images the model has seen since this was asked last, warm-up included."""
    seen = sum(len(batch.cu_seqlens) - 1 for batch in tiny.batches)
    tiny.batches.clear()
    return seen


def test_what_is_done_is_not_done_again(models, labelled, evaluate):
    file = labelled([0] * 10)
    first = evaluate("--data", file)
    asked(models)
    again = evaluate("--data", file)
    assert asked(models) == 0  # not even loaded
    assert again.results["outcomes"] == first.results["outcomes"]


def test_it_goes_on_behind_the_last_whole_line(models, labelled, evaluate):
    file = labelled([0] * 10)
    first = evaluate("--data", file)
    asked(models)
    journal = first.folder / "answers" / "tiny-own.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:7]) + lines[7][:20])
    again = evaluate("--data", file)
    assert len(again.answers("tiny-own")) == 10
    assert journal.read_bytes().startswith(b"".join(lines[:7]))
    for outcomes in (first.results["outcomes"], again.results["outcomes"]):
        outcomes[0].pop("image_ms")
    assert again.results["outcomes"] == first.results["outcomes"]


def test_the_progress_bar_counts_what_was_done_before(models, labelled, evaluate, monkeypatch):
    bars = []

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, **options):
            super().__init__(**options | {"disable": False, "file": io.StringIO()})
            bars.append(self)

    monkeypatch.setattr("vimserve.server.commands.evaluate.run.tqdm", Bar)
    file = labelled([0] * 10)
    first = evaluate("--data", file)
    journal = first.folder / "answers" / "tiny-own.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:7]))
    evaluate("--data", file, "--resolutions", "64")
    evaluate("--data", file)
    assert [(bar.initial, bar.n, bar.total) for bar in bars] == [
        (0, 10, 10),
        (0, 10, 10),
        (6, 10, 10),
    ]
    assert [bar.desc for bar in bars] == ["tiny: ", "tiny 64: ", "tiny: "]


def test_a_changed_picture_and_a_changed_truth_are_done_anew(
    models, labelled, picture, evaluate, tmp_path
):
    first = evaluate("--data", labelled([0] * 10)).answers("tiny-own")
    picture(48, 80, 99).save(tmp_path / "pictures" / "4.png")
    ran = evaluate("--data", labelled([0] * 9 + [1]))
    changed = {name for name, record in ran.answers("tiny-own").items() if record != first[name]}
    assert changed == {"4.png", "9.png"}


def test_a_failure_is_tried_again(models, labelled, picture, evaluate, tmp_path):
    bad = tmp_path / "pictures" / "3.png"
    bad.write_text("not a picture")
    assert evaluate("--data", labelled([0] * 10)).results["outcomes"][0]["images"] == 9
    picture(64, 64, 3).save(bad)
    assert evaluate("--data", labelled([0] * 10)).results["outcomes"][0]["images"] == 10


def test_a_failing_model_ends_the_run_and_the_answers_stay(
    models, labelled, evaluate, monkeypatch, tmp_path
):
    monkeypatch.setattr("vimserve.server.commands.evaluate.run.FILES_AT_ONCE", 1)
    answers = tmp_path / "results" / "answers" / "tiny-own.jsonl"

    def fail(batch):
        if answers.exists() and answers.read_text().count("\n") == 5:
            raise RuntimeError("broken")

    models.check = fail
    ran = evaluate("--data", labelled([0] * 10))
    assert ran.status == 1
    assert ran.err.startswith("vimserve: ")
    assert len(ran.answers("tiny-own")) == 4
    models.check = lambda batch: None
    again = evaluate("--data", labelled([0] * 10))
    assert again.results["outcomes"][0]["images"] == 10


def test_an_interrupted_run_says_how_it_goes_on(models, labelled, evaluate, monkeypatch, tmp_path):
    monkeypatch.setattr("vimserve.server.commands.evaluate.run.FILES_AT_ONCE", 1)
    answers = tmp_path / "results" / "answers" / "tiny-own.jsonl"
    sent: list[int] = []

    def interrupt(batch):
        if not sent and answers.exists() and answers.read_text().count("\n") == 5:
            sent.append(5)
            os.kill(os.getpid(), signal.SIGINT)

    models.check = interrupt
    ran = evaluate("--data", labelled([0] * 10))
    assert ran.status == 130
    assert ran.err == "vimserve: interrupted; the same command goes on from here\n"
    assert 4 <= len(ran.answers("tiny-own")) < 10
    assert not (ran.folder / "results.json").exists()
    assert evaluate("--data", labelled([0] * 10)).results["outcomes"][0]["images"] == 10


@pytest.mark.parametrize("flags", [["--fit", "contain"], ["--range", "p2,p98"]])
def test_other_settings_are_refused_and_nothing_is_lost(models, labelled, evaluate, flags):
    file = labelled([0] * 10)
    first = evaluate("--data", file)
    refused = evaluate("--data", file, *flags)
    assert refused.status == 1
    assert "tiny-own.jsonl has answers for other settings (" in refused.err
    assert "choose another --output" in refused.err
    assert evaluate("--data", file).results["outcomes"] == first.results["outcomes"]


def test_more_models_and_sizes_may_be_added(models, labelled, evaluate):
    file = labelled([0] * 10)
    evaluate("--data", file, "--resolutions", "64")
    asked(models)
    assert evaluate("--data", file, "--resolutions", "64,1600").status == 0
    assert evaluate("--data", file, "--resolutions", "64,1600", "--models", "a,tiny").status == 0


def test_a_killed_run_goes_on(labelled, tmp_path, evaluate):
    file = labelled(["dog"] * 10)
    out = tmp_path / "results"
    flags = ["--data", str(file), "--models", "demo", "--resolutions", "64,1248"]
    with Command("evaluate", *flags, "--output", str(out)) as running:
        small, large = (out / "answers" / f"demo-{size}.jsonl" for size in (64, 1248))
        while not (large.exists() and large.read_text().count("\n") > 1):
            assert running.running
        running.send_signal(signal.SIGKILL)
        running.ended()
    before = large.read_text().splitlines()
    ran = evaluate(*flags)
    assert ran.status == 0
    assert len(ran.answers("demo-1248")) == 10
    assert large.read_text().splitlines()[: len(before) - 1] == before[:-1]
    assert len(small.read_text().splitlines()) == 11


def test_a_file_that_is_something_else(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("hello\n")
    with pytest.raises(ValueError, match="has answers for something else; choose another"):
        Journal(file, {"model": "a"})
    assert file.read_text() == "hello\n"


def test_the_last_line_of_a_picture_counts(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"")
    sample = Sample("a.png", picture)
    with Journal(tmp_path / "a.jsonl", {}) as journal:
        journal.add(sample, "1", {"error": "no"})
        assert not journal.answered(sample, "1")
        journal.add(sample, "1", {"rank": 0})
        assert journal.answered(sample, "1")
        assert not journal.answered(sample, "2")
    with Journal(tmp_path / "a.jsonl", {}) as journal:
        records, failed = journal.records([sample])
    assert [json.dumps(one["rank"]) for one in records] == ["0"]
    assert not failed
