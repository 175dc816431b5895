"""ResNets behind the server: files of their own, asked over HTTP, within predicted memory."""

import pytest
import torch

from tests.live_bytes import LiveBytes
from tests.model.families.resnet.small import SMALL, UPERNET, made_weights
from tests.server.live import live
from vimserve.model import catalog
from vimserve.model.architecture import ModelConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.families import build
from vimserve.server.app import create_app
from vimserve.server.config import Config, ServerConfig
from vimserve.server.engine import loading
from vimserve.server.engine.runner import Runner

CONFIGS: dict[str, ModelConfig] = {"classify": SMALL, "segment": UPERNET}


def spec_of(task, folder):
    """A model as a user names it, by a file."""
    file = folder / f"{task}.pth"
    torch.save({"state_dict": made_weights(build(CONFIGS[task])), "meta": {"epoch": 1}}, file)
    return catalog.resolve(f"{task}={file}")


@pytest.fixture(params=CONFIGS)
def measured(request, monkeypatch, tmp_path):
    """A runner, and its memory model from what tensors hold."""
    monkeypatch.setattr(loading, "PeakMeter", LiveBytes)
    runner = Runner(spec_of(request.param, tmp_path), Config())
    runner.module.warm_up()
    return runner, loading.measure(runner)


def test_files_are_served(tmp_path, picture, encode):
    specs = [spec_of(task, tmp_path) for task in CONFIGS]
    data = encode(picture(100, 70))
    with live(create_app(ServerConfig(max_resolution=224), specs)) as client:
        classes = client.post("/v1/classify?model=classify&fit=contain&resolution=96", content=data)
        (result,) = classes.json()["results"]
        assert sorted((result["input"]["height"], result["input"]["width"])) == [64, 96]
        assert sum(found["score"] for found in result["predictions"]) == pytest.approx(1, abs=1e-3)
        mask = client.post("/v1/segment?model=segment", content=data)
        (result,) = mask.json()["results"]
        assert sum(found["pixels"] for found in result["classes"]) == 100 * 70
        models = {one["name"]: one for one in client.get("/v1/models").json()["models"]}
    assert (models["classify"]["family"], models["segment"]["family"]) == (
        "resnet", "resnet-upernet"
    )  # fmt: skip


@pytest.mark.parametrize("sides", [(512,), (224, 224, 224), (64, 512, 96)], ids=str)
def test_batches_stay_within_the_predicted_memory(measured, sides):
    runner, memory = measured
    images = [runner.noise(side) for side in sides]
    predicted = memory.predict([image.tokens for image in images])
    with LiveBytes() as meter:
        runner.run(images)
    assert meter.bytes <= predicted
    if sides == (512,):
        assert meter.bytes > predicted / 1.2


def test_an_image_counts_its_patches(measured):
    runner, _ = measured
    assert runner.tokens(224, 512) == 14 * 32
    assert not runner.recordable
    image = torch.zeros(3, 48, 64, dtype=torch.uint8)
    assert isinstance(runner.pack(image), PackedBatch)
