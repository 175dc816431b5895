"""``vimserve predict`` on scenes: when, with what result, and what a person reads."""

import errno
import os
import signal
import sys
from contextlib import asynccontextmanager

import numpy as np
import pytest
from PIL import Image

from tests.paths import ROOT
from tests.server.scenes.made import described
from vimserve.model.transform import Transform
from vimserve.server.__main__ import main
from vimserve.server.commands.predict import scene
from vimserve.server.commands.predict.answerers import Answerer
from vimserve.server.scenes.open import open_scene

rasterio = pytest.importorskip("rasterio")
SIZE = (300, 430)
OBJECT = np.s_[50:150, 80:210]  # a guitar
UTM = rasterio.crs.CRS.from_epsg(32633)


@pytest.fixture
def pixels(picture):
    return np.asarray(picture(*SIZE))


@pytest.fixture
def tiff(tmp_path, pixels):
    """A scene of four bands of 16 bits, the first of which is blue; it lies in Austria."""
    path = tmp_path / "scene.tif"
    bands = np.stack([*pixels.transpose(2, 0, 1)[::-1], pixels[..., 0]]).astype(np.uint16) * 10
    bands[:, :, :100] = 9999
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 5_300_000)
    with rasterio.open(
        path, "w", driver="GTiff", height=SIZE[0], width=SIZE[1], count=4, dtype="uint16",
        crs=UTM, transform=transform, tiled=True, blockxsize=256, blockysize=256,
    ) as file:  # fmt: skip
        file.write(bands)
    return path


class Bright:
    """Answers with scores by how bright cells are; does as it is told after some windows."""

    def __init__(self):
        self.asked = 0
        self.after = {}
        self.at_once = 1

    async def ask(self, picture):
        self.asked += 1
        if then := self.after.pop(self.asked, None):
            then()
        height, width, _ = picture.shape
        grey = picture.astype(np.float32).mean(axis=2)
        cells = grey.reshape(height // 4, 4, width // 4, 4).mean(axis=(1, 3))
        return -np.abs(cells - np.arange(0, 256, 51, dtype=np.float32)[:, None, None])

    @asynccontextmanager
    async def answering(self, extent):
        yield self.ask, self.at_once


@pytest.fixture
def bright(monkeypatch):
    model = Bright()
    answerer = Answerer(described(6), Transform(), model.answering)
    monkeypatch.setattr(scene, "_answerer", lambda config, request: answerer)
    return model


FLAGS = ["--bands", "3,2,1", "--range", "0,2550", "--nodata", "9999", "--window", "128"]


@pytest.fixture
def run(tiff, tmp_path):
    def call(*flags, output="mask.tif", file=tiff):
        usual = ["--task", "segment", str(file), "-o", str(tmp_path / output)]
        return main(["predict", *usual, *flags])

    return call


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_a_georeferenced_mask(bright, run, tmp_path, pixels, capsys):
    bright.at_once = 4
    assert run(*FLAGS) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'mask.tif'}\n"
    assert err == (
        f"vimserve: {tmp_path / 'scene.tif'} is a scene of 300x430 pixels: 15 windows of 128 "
        "pixels that overlap by 32\n"
    )
    with rasterio.open(tmp_path / "mask.tif") as file:
        assert (file.crs, file.shape, file.nodata) == (UTM, SIZE, 255)
        assert file.transform == rasterio.Affine(10, 0, 500_000, 0, -10, 5_300_000)
        classes = file.read(1)
    assert (classes[:, :100] == 255).all()
    nearest = np.round(pixels.astype(float).mean(axis=2) / 51)
    assert (classes[:, 110:] == nearest[:, 110:]).mean() > 0.9
    assert {file.name for file in tmp_path.iterdir()} == {"scene.tif", "mask.tif"}


def test_all_of_a_window_without_data_is_not_asked_about(bright, run, tiff):
    with rasterio.open(tiff, "r+") as file:
        file.write(np.full((4, 300, 200), 9999, np.uint16), window=((0, 300), (0, 200)))
    assert run(*FLAGS) == 0
    assert bright.asked == 12  # of 15


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_an_interrupted_run_goes_on(bright, run, tmp_path, capsys):
    assert run(*FLAGS, output="whole.tif") == 0
    bright.asked, bright.after = 0, {8: interrupt}
    assert run(*FLAGS) == 130
    assert capsys.readouterr().err.endswith(
        "vimserve: interrupted; the same command goes on from here\n"
    )
    assert not (tmp_path / "mask.tif").exists()
    bright.asked = 0
    assert run(*FLAGS) == 0
    assert f"5 of which are in {tmp_path / 'mask.tif.partial'} already" in capsys.readouterr().err
    assert bright.asked == 10
    np.testing.assert_array_equal(read(tmp_path / "mask.tif"), read(tmp_path / "whole.tif"))


def test_what_is_there_belongs_to_other_settings(bright, run, capsys):
    bright.after = {8: interrupt}
    assert run(*FLAGS) == 130
    assert run(*FLAGS, "--overlap", "16", "--range", "0,2000") == 1
    assert "belongs to other settings (overlap, range); choose another" in capsys.readouterr().err


def test_a_full_disk(bright, run, tmp_path, monkeypatch, capsys):
    written = []
    write = os.pwrite

    def pwrite(file, data, at):
        written.append(at)
        if len(written) == 700:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert run(*FLAGS) == 1
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"vimserve: No space left on device; what was done is in {tmp_path / 'mask.tif.partial'}, "
        "and the same command goes on from there"
    ]
    assert run(*FLAGS) == 0
    assert not (tmp_path / "mask.tif.partial").exists()


def test_a_model_of_this_process(run, tmp_path):
    """A single window has the bytes of the picture as a whole."""
    file = tmp_path / "small.png"
    with Image.open(ROOT / "model" / "demo" / "segmentation" / "samples" / "scene-1.jpg") as sample:
        pixels = np.asarray(sample.resize((312, 312)))[OBJECT]
    Image.fromarray(pixels).save(file)
    assert main(["predict", "--task", "segment", str(file), "-o", str(tmp_path / "a.png")]) == 0
    small = tmp_path / "small.tif"
    with rasterio.open(
        small, "w", driver="GTiff", height=100, width=130, count=3, dtype="uint8", crs=UTM,
        transform=rasterio.Affine(1, 0, 500_000, 0, -1, 0), photometric="rgb",
    ) as written:  # fmt: skip
        written.write(pixels.transpose(2, 0, 1))
    assert run(file=small, output="b.tif") == 0
    with Image.open(tmp_path / "a.png") as whole:
        assert len(whole.getcolors() or []) > 1
        np.testing.assert_array_equal(read(tmp_path / "b.tif"), np.asarray(whole))


def test_a_file_that_is_too_large_for_a_picture(bright, run, tmp_path, capsys):
    assert run(*FLAGS[:4], "--window", "128", "--max-pixels", "100000", output="m.png") == 0
    assert "is a scene of 300x430 pixels" in capsys.readouterr().err
    with Image.open(tmp_path / "m.png") as mask:
        assert mask.size == SIZE[::-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--window", "100"], "--window must be a multiple of 16 from 16 to 1248 pixels, not 100"),
        (["--window", "1264"], "--window must be a multiple of 16 from 16 to 1248 pixels, not 1"),
        (["--window", "x"], "--window must be a whole number of pixels, not 'x'"),
        (["--window", "64", "--overlap", "49"], "--overlap must be from 0 to 48, because windows "),
        (["--overlap", "-1"], "--overlap must be from 0 to 496"),
        (["--nodata", "nan"], "--nodata must be a number"),
        (["--bands", "5"], "bands=5 asks for band 5 of an image that has 4"),
        (["--range", "p2"], "range must be dtype, two numbers"),
        (["--format", "overlay"], "or --format be one of geotiff, geojson, png, not overlay"),
        (["--resolution", "native"], "--resolution is not for --task segment of a scene"),
        (["--mode", "whole"], "--mode whole is not for a scene"),
        ([], "nothing says which are red, green and blue; choose --bands"),
    ],
)
def test_wrong_parameters(bright, run, flags, message, capsys):
    assert run(*flags, "--overlap", "0") == 1 if "--overlap" not in flags else run(*flags) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.tif", "b.tif", "-o", "m.tif"], "a scene is one file on the disk, not a.tif, b.tif"),
        (["-", "-o", "m.tif"], "a scene is one file on the disk, not -"),
        (
            ["a.tif", "--overlap", "8"],
            "a.tif is run as a scene, whose result is a file: give --output",
        ),
        (["a.tif", "--overlap", "8", "-o", "m.jpg"], "--output must end in .tif, .tiff, .geojson,"),
        (["nowhere.tif", "-o", "m.tif"], "No such file or directory"),
    ],
)
def test_wrong_files(arguments, message, capsys):
    assert main(["predict", "--task", "segment", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_an_output_that_would_replace_something_else(bright, run, tiff, tmp_path, capsys):
    (tmp_path / "link.tif").symlink_to(tiff)
    (tmp_path / "folder.tif").mkdir()
    before = tiff.read_bytes()
    for output in ("scene.tif", "link.tif"):
        assert run(*FLAGS, output=output) == 1
        assert "--output is the scene itself" in capsys.readouterr().err
    assert run(*FLAGS, output="folder.tif") == 1
    assert f"--output must be a file, which {tmp_path / 'folder.tif'} is not" in (
        capsys.readouterr().err
    )
    assert tiff.read_bytes() == before
    assert bright.asked == 0


def test_the_smallest_window_has_no_overlap(bright, run, tiff, capsys):
    assert run(*FLAGS[:-1], "16", "--max-resolution", "16") == 0
    assert "windows of 16 pixels that overlap by 0" in capsys.readouterr().err


def test_no_scene_at_all(run, tmp_path, capsys):
    (tmp_path / "text.tif").write_text("some text, not a scene")
    assert run(file=tmp_path / "text.tif") == 1
    assert "text.tif is not a scene" in capsys.readouterr().err


def test_an_extra_that_is_missing_is_said_before_any_window(bright, run, monkeypatch, capsys):
    monkeypatch.setattr(scene, "open_scene", open_without_rasterio(monkeypatch))
    assert run(*FLAGS) == 1
    assert "writing a GeoTIFF needs the extra geo: pip install" in capsys.readouterr().err
    assert bright.asked == 0


def open_without_rasterio(monkeypatch):
    """Opens a scene as if by a reader that needs no rasterio."""

    def call(path):
        opened = open_scene(path)
        monkeypatch.setitem(sys.modules, "rasterio", None)
        return opened

    return call
