"""Files of random weights, as the server reads them."""

import pytest
import torch

from vimserve.loadtests.common.weights import served_as
from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import load, resolve
from vimserve.model.detections import Detections


@pytest.mark.parametrize(
    "name",
    [
        "vim-tiny", "deit-tiny-eager", "deit-tiny-upernet", "vim-tiny-cascade",
        "deit-tiny-cascade-eager", "deit-tiny-cascade-windowed",
    ],
)  # fmt: skip
def test_the_file_of_a_model_is_read_as_that_model(name, tmp_path):
    assert resolve(served_as(name, tmp_path)).config == resolve(name).config


def test_a_detector_with_random_weights_finds_something(tmp_path):
    model = load(resolve(served_as("vim-tiny-cascade", tmp_path)))
    image = torch.randint(256, (3, 64, 64), dtype=torch.uint8)
    answers = model.answer(PackedBatch.from_images([image]), [model.whole((64, 64))])
    found = Detections.unpack(answers.outputs[0][0])
    assert len(found.scores) > 10
    assert set(found.classes.tolist()) == {0}
