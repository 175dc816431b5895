from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig


def test_a_classifier(serve, spec):
    client, _ = serve(max_resolution=640)
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
    assert "palette" not in classifier
