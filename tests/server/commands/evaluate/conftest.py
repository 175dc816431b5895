"""Runs the command on pictures made on the spot."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from vimserve.server.__main__ import main


@dataclass(frozen=True)
class Ran:
    """What a run of the command has done.

    Attributes:
        status: the exit status.
        out: what it printed.
        err: on standard error, without the progress bar.
        folder: where the results are.
    """

    status: int
    out: str
    err: str
    folder: Path

    @property
    def results(self) -> dict[str, Any]:
        return json.loads((self.folder / "results.json").read_text())

    @property
    def report(self) -> str:
        return (self.folder / "report.md").read_text()

    def value(self, name: str, outcome: int = 0) -> float:
        return self.results["outcomes"][outcome]["rating"]["figures"][name]["value"]

    def answers(self, setting: str) -> dict[str, dict[str, Any]]:
        lines = (self.folder / "answers" / f"{setting}.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines[1:]]
        return {record["image"]: record for record in records}


@pytest.fixture
def evaluate(capsys, tmp_path):
    """A function that runs ``vimserve evaluate`` with these arguments."""

    def run(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        folder = tmp_path / "results"
        status = main(["evaluate", *map(str, arguments), "--output", str(folder)])
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err, folder)

    return run


@pytest.fixture
def models(tiny, spec, monkeypatch):
    """The tiny classifier is the only model, under whatever name."""
    monkeypatch.setattr(
        "vimserve.server.commands.evaluate.command.resolve", lambda name: replace(spec, name=name)
    )
    monkeypatch.setenv("VIMSERVE_MODEL", "tiny")
    return tiny


@pytest.fixture
def labelled(picture, tmp_path):
    """Ten pictures, and a function that writes a list of them with these classes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = [f"{index}.png" for index in range(10)]
    for index, name in enumerate(names):
        picture(40 + 8 * index, 64, index).save(folder / name)

    def listed(classes: list[Any]) -> Path:
        file = folder / "list.txt"
        file.write_text("".join(f"{name} {of}\n" for name, of in zip(names, classes, strict=True)))
        return file

    return listed
