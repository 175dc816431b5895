"""Runs the command on pictures and a tiny backbone that are made on the spot."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from vimserve.model.config import VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.heads import probe
from vimserve.server.__main__ import main
from vimserve.server.commands.train import classifier_report, classify

LABELS = ("disc, red", "円 \N{GREEK SMALL LETTER OMEGA}", "frame")


@dataclass(frozen=True)
class Ran:
    """What a run of the command has done.

    Attributes:
        status: the exit status.
        out: what it printed.
        err: on standard error.
        file: the model.
        folder: of the report.
    """

    status: int
    out: str
    err: str
    file: Path
    folder: Path

    @property
    def report(self) -> str:
        return (self.folder / "report.md").read_text()

    @property
    def refusal(self) -> str:
        """The single line that a refused run prints."""
        (line,) = [one for one in self.err.splitlines() if one.startswith("vimserve: ")]
        assert self.status == 1
        assert not self.file.exists()
        return line.removeprefix("vimserve: ")


def draw(label: int, number: int) -> Image.Image:
    """A picture of a class that even a random backbone can tell from the others."""
    rng = np.random.default_rng((label, number))
    size = int(rng.integers(40, 60)), int(rng.integers(40, 60))
    coarse = Image.fromarray(rng.integers(0, 100, (5, 5, 3), dtype=np.uint8))
    picture = coarse.resize(size, Image.Resampling.BILINEAR)
    canvas = ImageDraw.Draw(picture)
    box = (12, 12, size[0] - 12, size[1] - 12)
    if label == 0:
        canvas.ellipse(box, (220, 30, 30))
    elif label == 1:
        canvas.rectangle(box, (30, 200, 60))
    else:
        canvas.rectangle(box, outline=(240, 240, 255), width=6)
    return picture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with ten pictures of each class."""
    folder = tmp_path / "pictures"
    for index, label in enumerate(LABELS):
        (folder / label).mkdir(parents=True)
        for number in range(10):
            draw(index, number).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    """The argument that names a tiny backbone."""
    torch.manual_seed(0)
    config = VimConfig(width=32, depth=2, num_classes=5, grid=(2, 2))
    file = tmp_path / "backbone.safetensors"
    save_file(Vim(config).state_dict(), file)
    return f"tiny={file}"


@pytest.fixture
def train(backbone, pictures, capsys, tmp_path, monkeypatch):
    """A function that runs ``vimserve train`` on the pictures, with further arguments.

    It draws nothing unless ``plots`` are wanted.
    """
    # A few are enough here.
    for module in (probe, classify):
        monkeypatch.setattr(module, "PENALTIES", (1.0, 0.01))
    monkeypatch.setattr(probe, "STEPS", 20)
    draw_all = classifier_report._draw

    def run(*arguments: str | Path, plots: bool = False) -> Ran:
        drawing = draw_all if plots else lambda *_: {}
        monkeypatch.setattr(classifier_report, "_draw", drawing)
        file = tmp_path / "out" / "mine.safetensors"
        capsys.readouterr()
        status = main(
            ["train", "--data", str(pictures), "--backbone", backbone, "--output", str(file),
             "--cache", str(tmp_path / "cache"), *map(str, arguments)]
        )  # fmt: skip
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err, file, file.with_name("mine-report"))

    return run
