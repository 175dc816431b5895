"""The other weights answer what is expected of them."""

import shutil

import pytest
import torch

from vimserve.loadtests.cluster.turned import turn, turned
from vimserve.model import catalog
from vimserve.model.batch import PackedBatch


def test_each_class_becomes_the_next(tmp_path):
    weights = tmp_path / "demo.safetensors"
    shutil.copy(str(catalog.resolve("demo").source), weights)
    batch = PackedBatch.from_images([torch.rand(3, 64, 96)])

    def scores():
        return [dict(enumerate(catalog.load_classifier("demo", weights)(batch)[0].tolist()))]

    before = scores()
    turn(weights)
    (expected,) = turned(before)
    assert expected != before[0]
    assert scores()[0] == pytest.approx(expected, abs=1e-4)
