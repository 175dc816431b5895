"""``vimserve predict --server``: the whole command, and what a person reads."""

import re
import signal

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from tests.paths import ROOT
from tests.patience import wait_until
from tests.processes import Command
from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.__main__ import main
from vimserve.server.app import create_app
from vimserve.server.commands.predict import scene
from vimserve.server.config import ServerConfig

rasterio = pytest.importorskip("rasterio")
SIZE = (300, 430)
FLAGS = ["--max-resolution", "128", "--threads", "1"]


@pytest.fixture
def tiff(tmp_path):
    path = tmp_path / "scene.tif"
    with Image.open(ROOT / "model/demo/segmentation/samples/scene-1.jpg") as image:
        pixels = np.array(image.convert("RGB").resize(SIZE[::-1]))
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 5_300_000)
    with rasterio.open(
        path, "w", driver="GTiff", height=SIZE[0], width=SIZE[1], count=3, dtype="uint8",
        crs="EPSG:32633", transform=transform, photometric="RGB",
    ) as file:  # fmt: skip
        file.write(pixels.transpose(2, 0, 1))
    return path


@pytest.fixture
def predict(tiff, tmp_path):
    def call(name, *flags):
        command = ["predict", "--task", "segment", str(tiff), "-o", str(tmp_path / name)]
        return main([*command, "--window", "128", *flags])

    return call


def read(path):
    with rasterio.open(path) as file:
        return file.read(1), file.crs, file.transform, file.colormap(1)


def test_a_server_is_killed_in_the_middle(predict, tmp_path, monkeypatch, capsys):
    """The mask is that of this process: no window is lost, doubled or in another place."""
    assert predict("here.tif", "--model", "demo-seg", *FLAGS) == 0
    serve = ["serve", "--port", "0", "--model", "demo-seg", *FLAGS]
    app = create_app(ServerConfig(max_resolution=128), [resolve("demo-seg")])
    with live(app) as client, Command(*serve) as dying:
        for line in dying.log:
            if found := re.search(r"http://[\d.:]+", line):
                url = found[0]
            if "ready" in line:
                break
        read_picture, windows = scene._picture, []

        def picture(view, window):
            windows.append(window)
            if len(windows) == 6:
                dying.send_signal(signal.SIGKILL)
                wait_until(lambda: not dying.running)
            return read_picture(view, window)

        monkeypatch.setattr(scene, "_picture", picture)
        assert predict("there.tif", "--server", url, "--server", str(client.base_url)) == 0
    assert len(windows) == len({*windows}) == 15
    classes, *others = read(tmp_path / "there.tif")
    wanted, *like_these = read(tmp_path / "here.tif")
    assert others == like_these
    # Batches of other windows may round differently.
    assert (classes == wanted).mean() > 0.999
    assert len(np.unique(wanted)) > 1
    assert capsys.readouterr().out == "".join(f"{tmp_path / name}.tif\n" for name in
                                              ("here", "there"))  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--server", "http://127.0.0.1:1"], r"http://127\.0\.0\.1:1: .*"),
        (["--server", "127.0.0.1"], r"--server must be http://HOST:PORT or https://HOST:PORT.*"),
        (["--server", "http://127.0.0.1:1", "--model", "mine=mine.pth"],
         r"with --server, --model is the name of one model .*, not mine=mine\.pth"),
        (["--server", "http://127.0.0.1:1", "--model", "demo", "--model", "demo-seg"],
         r"with --server, --model is the name of one model .*, not demo, demo-seg"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked(predict, tmp_path, capsys, flags, message):
    assert predict("mask.tif", *flags) == 1
    assert re.fullmatch(f"vimserve: {message}\n", capsys.readouterr().err)
    assert not (tmp_path / "mask.tif.partial").exists()


def test_the_key_of_the_variable(predict, monkeypatch, capsys):
    config = ServerConfig(api_key=SecretStr("correct-horse-battery"), max_resolution=128)
    bearer = {"Authorization": "Bearer correct-horse-battery"}
    with live(create_app(config, [resolve("demo-seg")]), headers=bearer) as client:
        for key, message in [
            ("correct-horse-battery", None),
            ("battery-horse-correct", "answers 401 this server does not accept the API key"),
            ("", "answers 401 this server requires an API key"),
            ("too-short", "an API key must have at least 16 characters"),
        ]:
            monkeypatch.setenv("VIMSERVE_API_KEY", key)
            status = predict("mask.tif", "--server", str(client.base_url))
            err = capsys.readouterr().err
            assert status == (0 if message is None else 1)
            assert message is None or message in err
            assert "battery" not in err
            assert "too-short" not in err
