"""The plot is drawn whatever the figures are, and says what it shows."""

import numpy as np
import pytest
from PIL import Image

from vimserve.server.commands.evaluate import plots
from vimserve.server.commands.evaluate.benchmark import Figure, Rating
from vimserve.server.commands.evaluate.results import Evaluation, Outcome


def evaluation(*figures):
    outcomes = [
        Outcome(f"m{index % 2}", str(64 << index), Rating({"mIoU": figure}), 50, 2.0**index, 10**6)
        for index, figure in enumerate(figures)
    ]
    return Evaluation("segment", {}, outcomes)


@pytest.mark.parametrize(
    "figures",
    [
        [Figure(50, 40, 60)],
        [Figure(50, 40, 60), Figure(60, 55, 65), Figure(70, 65, 75)],
        [Figure(50)],
        [Figure(50, 51, 60), Figure(50, 40, 49)],  # intervals beside their figures
        [Figure(0, 0, 0), Figure(100, 100, 100)],
    ],
)
def test_a_picture_of_it(tmp_path, figures):
    assert plots.draw(evaluation(*figures), tmp_path) == ["accuracy.png"]
    with Image.open(tmp_path / "accuracy.png") as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
