from dataclasses import replace

import torch

from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig


def test_a_classifier(serve, spec):
    client, app = serve(max_resolution=640)
    (served,) = app.state.engine.models.values()
    assert client.get("/v1/models").json() == {
        "models": [
            {
                "name": "tiny",
                "status": "ready",
                "family": "vim",
                "task": "classify",
                "attention": "none",
                "parameters": 1234,
                "classes": 7,
                "labels": list(spec.labels),
                "identity": served.loaded.runner.identity,
                "transform": {
                    "resolution": 64,
                    "fit": "crop",
                    "crop_ratio": 0.875,
                    "multiple": 16,
                    "range": "dtype",
                    "mean": list(spec.config.pixel_mean),
                    "std": list(spec.config.pixel_std),
                },
                "max_resolution": 640,
                "dtype": "float32",
                "device": "cpu",
            }
        ]
    }


def test_a_segmenter_has_labels_and_a_palette():
    spec = resolve("demo-seg")
    with live(create_app(ServerConfig(max_resolution=320), [spec, resolve("demo")])) as client:
        segmenter, classifier = client.get("/v1/models").json()["models"]
    assert segmenter["task"] == "segment"
    assert segmenter["labels"] == list(spec.labels)
    assert segmenter["palette"] == [list(color) for color in spec.palette or ()]
    assert segmenter["cell"] == 4
    assert "palette" not in classifier
    assert "cell" not in classifier


def test_models_have_the_same_identity_if_they_answer_alike(tiny, spec):
    """Whatever they are called, and however often they are loaded."""

    def identity(**changes):
        with live(create_app(ServerConfig(), [replace(spec, **changes)])) as client:
            return client.get("/v1/models").json()["models"][0]["identity"]

    known = identity()
    assert len(known) == 64
    assert identity() == identity(name="other") == known
    others = [identity(transform=replace(spec.transform, fit="contain")), identity(labels=("a",))]
    with torch.no_grad():
        tiny.head.bias[3] += 1
    others.append(identity())
    assert len({known, *others}) == 4
